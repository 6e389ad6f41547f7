// Draws chips with WebGL 2: textures of float32 in tiles, stretch and threshold in the shader.
const TILE = 2048; // pixels; every graphics card takes textures of this side
const SMALLER = 4; // factor of the reduced textures, for chips that are seen from afar

const VERTEX = `#version 300 es
in vec2 corner;
void main() { gl_Position = vec4(corner, 0.0, 1.0); }`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D pixels, scores;
uniform vec2 pane, centre, origin, size;   // lower left corner of the pane; chip pixel at its centre; tile
uniform vec2 middle;                        // half of the pane's sides
uniform float zoom, reduced, low, high, threshold;
uniform bool isAsinh, hasMask;
out vec4 colour;
void main() {
  vec2 place = (centre + (gl_FragCoord.xy - pane - middle) / zoom - origin) / reduced;
  if (any(lessThan(place, vec2(0.0))) || any(greaterThanEqual(place, size))) discard;
  float side = clamp(ceil(1.0 / (zoom * reduced)), 1.0, 4.0);
  ivec2 first = ivec2(place - 0.5 * (side - 1.0));
  float sum = 0.0, count = 0.0, best = -1.0;
  for (int r = 0; r < int(side); r++) for (int c = 0; c < int(side); c++) {
    ivec2 at = clamp(first + ivec2(c, r), ivec2(0), ivec2(size) - 1);
    float value = texelFetch(pixels, at, 0).r;
    if (!isnan(value) && !isinf(value)) { sum += value; count += 1.0; }
    best = max(best, texelFetch(scores, at, 0).r);
  }
  if (count == 0.0) { colour = vec4(0.05, 0.08, 0.2, 1.0); return; }
  float share = (sum / count - low) / max(high - low, 1e-20);
  float grey = clamp(isAsinh ? asinh(10.0 * share) / asinh(10.0) : share, 0.0, 1.0);
  vec3 shown = vec3(grey);
  if (hasMask && best > threshold) shown = mix(shown, best > 1.5 ? vec3(0.2, 0.9, 0.3) : vec3(1.0, 0.25, 0.2), 0.6);
  colour = vec4(shown, 1.0);
}`;

export class Painter {
  #gl; #program; #places; #layers = new Map();

  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error("this browser has no WebGL 2, by which images are drawn: use a current Firefox, Chromium or Safari");
    this.#gl = gl;
    this.#program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(this.#program, shader);
    }
    gl.linkProgram(this.#program);
    gl.useProgram(this.#program);
    const names = ["pixels", "scores", "pane", "centre", "origin", "size", "middle", "zoom", "reduced", "low", "high",
      "threshold", "isAsinh", "hasMask"]; // looked up once: a browser may wait for the graphics card
    this.#places = Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(this.#program, name)]));
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(gl.getAttribLocation(this.#program, "corner"), 2, gl.FLOAT, false, 0, 0);
    gl.uniform1i(this.#places.pixels, 0);
    gl.uniform1i(this.#places.scores, 1);
    gl.enable(gl.SCISSOR_TEST);
  }

  // Take a layer of a chip; the graphics card gets it at the size in which it is drawn first.
  give(chip, name, values, width, height) {
    for (const one of [...this.#layers.get(`${chip} ${name}`)?.tiles.values() ?? []].flat()) this.#gl.deleteTexture(one.texture);
    const combine = name === "image" || name === "cleaned" ? mean : highest;
    this.#layers.set(`${chip} ${name}`, { values, width, height, combine, tiles: new Map() });
  }

  // Return the tiles of a layer at a reduced size, or 1: full size.
  #tilesOf({ values, width, height, combine, tiles }, reduced) {
    if (!tiles.has(reduced)) {
      const sized = reduced === 1 ? { values, width, height } : reduce(values, width, height, combine);
      tiles.set(reduced, [...this.#tiles(sized.values, sized.width, sized.height, reduced)]);
    }
    return tiles.get(reduced);
  }

  *#tiles(values, width, height, reduced) {
    const gl = this.#gl;
    for (let y = 0; y < height; y += TILE) for (let x = 0; x < width; x += TILE) {
      const across = Math.min(TILE, width - x), up = Math.min(TILE, height - y), texture = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texStorage2D(gl.TEXTURE_2D, 1, gl.R32F, across, up);
      for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
      gl.pixelStorei(gl.UNPACK_ROW_LENGTH, width);
      gl.pixelStorei(gl.UNPACK_SKIP_ROWS, y);
      gl.pixelStorei(gl.UNPACK_SKIP_PIXELS, x);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, across, up, gl.RED, gl.FLOAT, values);
      yield { texture, x, y, width: across, height: up, reduced };
    }
    for (const name of [gl.UNPACK_ROW_LENGTH, gl.UNPACK_SKIP_ROWS, gl.UNPACK_SKIP_PIXELS]) gl.pixelStorei(name, 0);
  }

  // Give one changed pixel to the graphics card.
  update(chip, name, values, place) {
    const { tiles, width, height, combine } = this.#layers.get(`${chip} ${name}`);
    const x = place % width, y = Math.floor(place / width), gl = this.#gl;
    for (const tile of [...tiles.values()].flat()) {
      const column = Math.floor(x / tile.reduced) - tile.x, row = Math.floor(y / tile.reduced) - tile.y;
      if (column < 0 || row < 0 || column >= tile.width || row >= tile.height) continue;
      const value = tile.reduced === 1 ? values[place]
        : combine(values, width, height, (tile.x + column) * SMALLER, (tile.y + row) * SMALLER);
      gl.bindTexture(gl.TEXTURE_2D, tile.texture);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, column, row, 1, 1, gl.RED, gl.FLOAT, new Float32Array([value]));
    }
  }

  // Draw a chip into panes of the canvas, each with a layer of scores.
  draw(panes, { chip, shown, centre, zoom, stretch, threshold, mask }) {
    const gl = this.#gl, at = this.#places;
    gl.viewport(0, 0, gl.canvas.width, gl.canvas.height);
    gl.scissor(0, 0, gl.canvas.width, gl.canvas.height);
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform1f(at.zoom, zoom);
    gl.uniform1f(at.low, stretch.low);
    gl.uniform1f(at.high, stretch.high);
    gl.uniform1f(at.threshold, threshold);
    gl.uniform1i(at.isAsinh, stretch.kind === "asinh");
    gl.uniform2f(at.centre, ...centre);
    const reduced = zoom < 1 / SMALLER ? SMALLER : 1;
    for (const pane of panes) {
      gl.uniform2f(at.pane, pane.x, pane.y);
      gl.uniform2f(at.middle, pane.width / 2, pane.height / 2);
      const layer = this.#layers.get(`${chip} ${pane.scores}`); // none yet, as long as the network runs
      const scores = this.#tilesOf(layer ?? this.#layers.get(`${chip} ${shown}`), reduced);
      gl.uniform1i(at.hasMask, mask && layer !== undefined);
      this.#tilesOf(this.#layers.get(`${chip} ${shown}`), reduced).forEach((tile, index) => {
        if (!this.#scissor(pane, tile, centre, zoom)) return;
        gl.activeTexture(gl.TEXTURE0);
        gl.bindTexture(gl.TEXTURE_2D, tile.texture);
        gl.activeTexture(gl.TEXTURE1);
        gl.bindTexture(gl.TEXTURE_2D, scores[index].texture);
        gl.activeTexture(gl.TEXTURE0);
        gl.uniform1f(at.reduced, reduced);
        gl.uniform2f(at.origin, tile.x * reduced, tile.y * reduced);
        gl.uniform2f(at.size, tile.width, tile.height);
        gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
      });
    }
  }

  // Limit drawing to where a tile is seen in a pane; false if it is not.
  #scissor(pane, tile, centre, zoom) {
    const edge = (value, axis) => (value * tile.reduced - centre[axis]) * zoom;
    const left = Math.max(pane.x, Math.floor(pane.x + pane.width / 2 + edge(tile.x, 0)));
    const right = Math.min(pane.x + pane.width, Math.ceil(pane.x + pane.width / 2 + edge(tile.x + tile.width, 0)));
    const low = Math.max(pane.y, Math.floor(pane.y + pane.height / 2 + edge(tile.y, 1)));
    const high = Math.min(pane.y + pane.height, Math.ceil(pane.y + pane.height / 2 + edge(tile.y + tile.height, 1)));
    if (right <= left || high <= low) return false;
    this.#gl.scissor(left, low, right - left, high - low);
    return true;
  }
}

function mean(values, width, height, x, y) {
  let sum = 0, count = 0;
  for (let r = y; r < Math.min(y + SMALLER, height); r++) for (let c = x; c < Math.min(x + SMALLER, width); c++) {
    const value = values[r * width + c];
    if (Number.isFinite(value)) { sum += value; count++; }
  }
  return count ? sum / count : NaN;
}

function highest(values, width, height, x, y) {
  let best = -1;
  for (let r = y; r < Math.min(y + SMALLER, height); r++) for (let c = x; c < Math.min(x + SMALLER, width); c++) {
    best = Math.max(best, values[r * width + c]);
  }
  return best;
}

function reduce(values, width, height, combine) {
  const small = { width: Math.ceil(width / SMALLER), height: Math.ceil(height / SMALLER) };
  small.values = new Float32Array(small.width * small.height);
  for (let y = 0; y < small.height; y++) for (let x = 0; x < small.width; x++) {
    small.values[y * small.width + x] = combine(values, width, height, x * SMALLER, y * SMALLER);
  }
  return small;
}
