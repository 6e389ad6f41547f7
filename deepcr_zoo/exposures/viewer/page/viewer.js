// The page of the viewer: pixels come as float32, drawing and the threshold are the graphics card's work.
import { Painter } from "./painter.js";

const PAINTED = 2; // score of a pixel that was masked by hand, above every threshold
const ERASED = -1; // of one that was taken out
const BLINK_MS = 700;
const AROUND = 3; // pixels on each side of the pointer in the table

const KEYS = {
  "i": "show the input", "c": "show the cleaned image, repainted for the present mask", "m": "mask on or off",
  "b": "blink input, mask and cleaned image", "x": "the other method beside", "n p": "next, previous cosmic ray by size",
  "[ ]": "lower, raise the threshold", "1 2": "zscale, asinh", "+ - 0 f": "zoom in, out, one screen pixel each, fit", "arrows": "move",
  "d e": "paint, erase; Escape ends it", "z": "undo", "s": "save the mask", "t": "next chip",
};

const $ = (id) => document.getElementById(id);
const view = { chip: 0, shown: "image", mask: true, beside: false, tool: null, centre: [0, 0], zoom: 1, stretch: null };
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const logit = (p) => Math.log(p / (1 - p));
let facts, painter, chips, threshold, blinking = null, painting = null, listed = 0, asked = 0, masks = 0;
let strokes = 0, savedStrokes = 0, saved = 0; // changes by hand, those that were saved, number of the save they go on from
const undone = []; // strokes: [chip, [place, score before], ...]

async function get(path, corrections) {
  const question = corrections && { method: "POST", body: JSON.stringify(corrections) };
  const answer = await fetch(path, question).catch(() => { throw new Error("the viewer has ended: its terminal says why"); });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.status === 202 ? get(path, corrections) : answer; // not there yet
}

const pixelsOf = async (path, corrections) => new Float32Array(await (await get(path, corrections)).arrayBuffer());

function say(text) { $("status").textContent = text; }

// Read a chip, once; its image is shown as soon as it is there, the mask when it is found.
function load(number) {
  const chip = chips[number];
  chip.loading ??= read(number).catch((error) => { chip.loading = null; throw error; });
  return chip.loading;
}

async function read(number) {
  const chip = chips[number];
  say(`reading ${chip.label}…`);
  const found = Promise.all([
    pixelsOf(`chips/${number}/scores`),
    facts.compared ? pixelsOf(`chips/${number}/other`) : null,
  ]);
  found.catch(() => {}); // awaited below
  chip.image = await pixelsOf(`chips/${number}/image`);
  painter.give(number, "image", chip.image, chip.width, chip.height);
  if (number === view.chip) showWhole();
  say(`finding cosmic rays of ${chip.label}…`);
  const [scores, other] = await found;
  Object.assign(chip, { scores, other, edits: new Map() }); // edits: score of each changed place before the first change
  const kept = facts.corrections?.[number] ?? { added: [], removed: [] }; // saved before the page was opened
  for (const [places, score] of [[kept.added, PAINTED], [kept.removed, ERASED]]) {
    for (const place of places) { chip.edits.set(place, chip.scores[place]); chip.scores[place] = score; }
  }
  painter.give(number, "scores", chip.scores, chip.width, chip.height);
  if (chip.other) painter.give(number, "other", chip.other, chip.width, chip.height);
  say("");
}

function showWhole() {
  setStretch("zscale");
  showState(); // gives the canvas its size
  fit();
  draw();
}

function corrections() {
  return {
    threshold, saved,
    chips: chips.map(({ edits, scores }, number) => {
      if (!edits) return facts.corrections?.[number] ?? { added: [], removed: [] }; // not looked at yet
      const found = { added: [], removed: [] };
      for (const place of edits.keys()) {
        if (scores[place] === PAINTED) found.added.push(place);
        else if (scores[place] === ERASED) found.removed.push(place);
      }
      return found;
    }),
  };
}

// ---- drawing

function panes() {
  const { width, height } = $("sky");
  if (!view.beside) return [{ x: 0, y: 0, width, height, scores: "scores" }];
  const half = Math.floor(width / 2);
  return [
    { x: 0, y: 0, width: half - 1, height, scores: "scores" },
    { x: half + 1, y: 0, width: width - half - 1, height, scores: "other" },
  ];
}

function draw() {
  if (!chips?.[view.chip].image) return;
  const canvas = $("sky"), ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  paintSoon();
  $("zoom").textContent = view.zoom >= 1 ? `${view.zoom.toFixed(1)}x` : `1/${(1 / view.zoom).toFixed(1)}`;
  $("left").textContent = view.beside ? facts.model : { image: "input", cleaned: "cleaned" }[view.shown];
  $("right").textContent = view.beside ? facts.compared : "";
}

// At most once a frame: of a key that is held down, a slow graphics card draws what it can.
function paintSoon() {
  painting ??= requestAnimationFrame(() => {
    painting = null;
    if (chips[view.chip].image) painter.draw(panes(), { ...view, threshold });
  });
}

function fit() {
  const chip = chips[view.chip], pane = panes()[0];
  view.centre = [chip.width / 2, chip.height / 2];
  view.zoom = Math.min(pane.width / chip.width, pane.height / chip.height);
}

function zoomBy(factor, at = view.centre) {
  const before = view.zoom;
  view.zoom = Math.min(64, Math.max(1 / 64, view.zoom * factor));
  const moved = 1 - before / view.zoom; // what is under the pointer stays there
  view.centre = view.centre.map((value, axis) => value + (at[axis] - value) * moved);
}

function pixelAt(event) {
  const canvas = $("sky"), box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
  const across = (event.clientX - box.left) * ratio, up = canvas.height - (event.clientY - box.top) * ratio;
  const pane = panes().findLast((one) => across >= one.x) ?? panes()[0];
  return [
    view.centre[0] + (across - pane.x - pane.width / 2) / view.zoom,
    view.centre[1] + (up - pane.y - pane.height / 2) / view.zoom,
  ];
}

// ---- what is beside the picture

function press(key, on) {
  document.querySelector(`button[data-key="${key}"]`).setAttribute("aria-pressed", String(on));
}

function showState() {
  press("i", view.shown === "image");
  press("c", view.shown === "cleaned");
  press("m", view.mask);
  press("b", blinking !== null);
  press("x", view.beside);
  press("d", view.tool === "paint");
  press("e", view.tool === "erase");
  for (const button of $("chips").children) button.setAttribute("aria-pressed", String(+button.dataset.chip === view.chip));
  $("threshold-value").textContent = threshold.toPrecision(3);
  draw();
}

function showPixels(x, y) {
  const chip = chips[view.chip];
  if (!chip.scores) return; // they are on the way
  const column = Math.floor(x), row = Math.floor(y);
  if (column < 0 || row < 0 || column >= chip.width || row >= chip.height) return;
  const place = row * chip.width + column, score = chip.scores[place];
  const state = score === PAINTED ? "painted" : score === ERASED ? "erased" : `probability ${score.toPrecision(3)}`;
  $("pixels").caption.textContent = `x ${column + 1}, y ${row + 1} (from 1): ${chip.image[place].toPrecision(6)} ${chip.unit}, ${state}`;
  const rows = [];
  for (let up = AROUND; up >= -AROUND; up--) {
    const line = document.createElement("tr");
    for (let across = -AROUND; across <= AROUND; across++) {
      const cell = line.insertCell(), c = column + across, r = row + up;
      if (c < 0 || r < 0 || c >= chip.width || r >= chip.height) continue;
      const there = r * chip.width + c, layer = view.shown === "cleaned" && chip.cleaned ? chip.cleaned : chip.image;
      cell.textContent = layer[there].toPrecision(4).replace(/\.?0+$|\.?0*(?=e)/, "");
      cell.className = (chip.scores[there] > threshold ? "masked " : "") + (up || across ? "" : "centre");
    }
    rows.push(line);
  }
  $("pixels").tBodies[0].replaceChildren(...rows);
}

async function list() {
  const number = view.chip, question = ++asked, chip = chips[number];
  const found = await (await get(`chips/${number}/detections`, corrections())).json();
  if (question !== asked) return; // another question has followed
  chip.places = found.places;
  const share = (100 * found.pixels) / (chip.width * chip.height);
  $("count").textContent = `${found.count.toLocaleString("en")} cosmic rays, ${found.pixels.toLocaleString("en")} pixels, ${share.toFixed(2)} %`;
  chip.step = Math.min(chip.step ?? -1, chip.places.length - 1);
  showStep();
}

function listSoon() {
  clearTimeout(listed);
  listed = setTimeout(() => list().catch((error) => say(error.message)), 150);
}

function showStep() {
  const chip = chips[view.chip], total = chip.places?.length ?? 0, at = chip.step ?? -1;
  $("which").textContent = total && at >= 0 ? `${at + 1} of ${total}: ${chip.places[at][2]} pixels` : `- of ${total}`;
}

function step(by) {
  const chip = chips[view.chip], total = chip.places?.length ?? 0;
  if (!total) return;
  const from = chip.step >= 0 ? chip.step : by > 0 ? -1 : 0; // at first the largest, or the smallest
  chip.step = (from + by + total) % total;
  const [x, y] = chip.places[chip.step];
  view.centre = [x + 0.5, y + 0.5];
  view.zoom = Math.max(view.zoom, 8);
  showStep();
  showPixels(x, y);
  draw();
}

// ---- what changes the mask

function setThreshold(value) {
  threshold = Math.min(Math.max(value, 1e-4), 1 - 1e-4);
  $("threshold").value = logit(threshold);
  forgetCleaned();
  showState();
  listSoon();
}

function forgetCleaned() {
  masks++;
  for (const chip of chips) chip.cleaned = null;
  if (view.shown === "cleaned") view.shown = "image";
}

function strokeTo(stroke, x, y) {
  const chip = chips[stroke.chip];
  const reach = Math.max(1, Math.min(99, +$("brush").value || 1)), from = -Math.floor((reach - 1) / 2);
  const score = stroke.tool === "paint" ? PAINTED : ERASED;
  const column = Math.floor(x), row = Math.floor(y);
  for (let r = row + from; r < row + from + reach; r++) {
    for (let c = column + from; c < column + from + reach; c++) {
      if (c < 0 || r < 0 || c >= chip.width || r >= chip.height) continue;
      const place = r * chip.width + c;
      if (chip.scores[place] === score) continue;
      if (score === ERASED && !(chip.scores[place] > threshold)) continue;
      if (score === PAINTED && chip.scores[place] > threshold) continue;
      stroke.pixels.push([place, chip.scores[place]]);
      setScore(stroke.chip, place, score);
    }
  }
}

function setScore(number, place, score) {
  const chip = chips[number];
  if (!chip.edits.has(place)) chip.edits.set(place, chip.scores[place]);
  chip.scores[place] = score;
  if (chip.edits.get(place) === score) chip.edits.delete(place);
  painter.update(number, "scores", chip.scores, place);
}

function undo() {
  const [number, stroke] = undone.pop() ?? [];
  if (!stroke) return say("nothing to undo");
  for (const [place, before] of stroke.reverse()) setScore(number, place, before);
  changed(`undone: ${stroke.length} pixels`);
}

function changed(text) {
  strokes++;
  forgetCleaned();
  say(text);
  showState();
  listSoon();
}

// ---- commands, by key and by button

async function showCleaned() {
  const number = view.chip, chip = chips[number];
  if (!chip.cleaned) {
    say(`repainting with ${facts.inpaint}…`);
    const before = masks, cleaned = await pixelsOf(`chips/${number}/cleaned`, corrections());
    if (before !== masks) return showCleaned(); // the mask has changed meanwhile
    chip.cleaned = cleaned;
    painter.give(number, "cleaned", chip.cleaned, chip.width, chip.height);
    say("");
  }
  view.shown = "cleaned";
}

async function blink() {
  if (blinking !== null) { clearInterval(blinking); blinking = null; return; }
  await showCleaned();
  const steps = [["image", false], ["image", true], ["cleaned", false]];
  let at = 0;
  blinking = setInterval(() => { [view.shown, view.mask] = steps[at++ % 3]; showState(); }, BLINK_MS);
}

async function save() {
  say("saving…");
  const sent = strokes, found = await (await get("save", corrections())).json();
  [savedStrokes, saved] = [sent, found.saved];
  say(`saved ${found.pixels.toLocaleString("en")} masked pixels: ${found.path}`);
}

async function chooseChip(number) {
  view.chip = (number + chips.length) % chips.length;
  if (view.shown === "cleaned") view.shown = "image";
  if (chips[view.chip].image) showWhole();
  await Promise.all([load(view.chip), list()]);
}

function setStretch(kind) {
  const [low, high] = chips[view.chip][kind === "zscale" ? "zscale" : "wide"];
  view.stretch = { kind, low, high };
  $("low").value = low.toPrecision(5);
  $("high").value = high.toPrecision(5);
}

const pan = (x, y) => () => { view.centre = [view.centre[0] + (x * 60) / view.zoom, view.centre[1] + (y * 60) / view.zoom]; };
const tool = (name) => () => { view.tool = view.tool === name ? null : name; };
const COMMANDS = {
  "i": () => { view.shown = "image"; },
  "c": showCleaned,
  "m": () => { view.mask = !view.mask; },
  "b": blink,
  "x": () => { if (facts.compared) view.beside = !view.beside; else say("give --compare to see another method beside"); },
  "n": () => step(1), "p": () => step(-1),
  "[": () => setThreshold(sigmoid(logit(threshold) - 0.25)), "]": () => setThreshold(sigmoid(logit(threshold) + 0.25)),
  "1": () => setStretch("zscale"), "2": () => setStretch("asinh"),
  "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), "0": () => { view.zoom = 1; }, "f": fit,
  "ArrowLeft": pan(-1, 0), "ArrowRight": pan(1, 0), "ArrowUp": pan(0, 1), "ArrowDown": pan(0, -1),
  "d": tool("paint"), "e": tool("erase"), "Escape": () => { view.tool = null; },
  "z": undo, "s": save, "t": () => chooseChip(view.chip + 1),
};

async function run(key) {
  try {
    await COMMANDS[key]();
  } catch (error) {
    say(error.message);
  }
  showState();
}

function listen() {
  const canvas = $("sky");
  let dragged = null, stroke = null;
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey || !(event.key in COMMANDS)) return;
    if (event.key.startsWith("Arrow") && event.target !== canvas && event.target !== document.body) return;
    event.preventDefault();
    run(event.key);
  });
  for (const button of document.querySelectorAll("button[data-key]")) {
    button.addEventListener("click", () => run(button.dataset.key));
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 300), pixelAt(event));
    draw();
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    const at = pixelAt(event);
    if (view.tool && chips[view.chip].scores) {
      stroke = { chip: view.chip, tool: view.tool, pixels: [] }; // which keys do not change meanwhile
      strokeTo(stroke, ...at);
      draw();
    } else dragged = at;
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = pixelAt(event);
    if (stroke) strokeTo(stroke, ...at);
    else if (dragged) view.centre = view.centre.map((value, axis) => value + dragged[axis] - at[axis]);
    showPixels(...at);
    if (stroke || dragged) draw();
  });
  const end = () => {
    if (stroke?.pixels.length) {
      undone.push([stroke.chip, stroke.pixels]);
      changed(`${stroke.tool === "paint" ? "painted" : "erased"} ${stroke.pixels.length} pixels`);
    }
    stroke = dragged = null;
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  $("threshold").addEventListener("input", (event) => setThreshold(sigmoid(+event.target.value)));
  for (const id of ["low", "high"]) {
    $(id).addEventListener("input", () => {
      const value = +$(id).value;
      if (Number.isFinite(value)) { view.stretch[id] = value; draw(); }
    });
  }
  new ResizeObserver(draw).observe(canvas);
  window.addEventListener("beforeunload", (event) => { if (strokes !== savedStrokes) event.preventDefault(); });
}

async function begin() {
  painter = new Painter($("sky")); // while the exposure is read
  facts = await (await get("exposure.json")).json();
  chips = facts.chips;
  threshold = facts.threshold;
  saved = facts.saved;
  document.title = `${facts.file} - deepcr-zoo view`;
  $("file").textContent = facts.file;
  $("facts").textContent = `${facts.camera}; ${facts.model}; repainted by ${facts.inpaint}; saved as ${facts.saved_as}`;
  $("beside").hidden = !facts.compared;
  $("remarks").replaceChildren(...facts.remarks.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  $("keys").replaceChildren(...Object.entries(KEYS).flatMap(([key, meaning]) => [
    Object.assign(document.createElement("dt"), { textContent: key }),
    Object.assign(document.createElement("dd"), { textContent: meaning }),
  ]));
  if (chips.length > 1) {
    $("chips").replaceChildren(...chips.map((chip, number) => {
      const button = Object.assign(document.createElement("button"), { textContent: chip.label });
      button.dataset.chip = number;
      button.addEventListener("click", () => chooseChip(number).then(showState));
      return button;
    }));
  }
  $("threshold").value = logit(threshold);
  const listing = list(); // while the pixels come
  await load(0);
  listen();
  showState();
  await listing;
  document.body.dataset.ready = "true";
}

begin().catch((error) => say(error.message));
