"""The page of the viewer in a headless browser, narrow and wide: what is drawn, stepped through, corrected and saved."""

import base64
import io
import re
import threading

import matplotlib.image
import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.exposures.options import CleanOptions
from deepcr_zoo.exposures.viewer import corrections
from deepcr_zoo.exposures.viewer.seen import LACOSMIC, Seen, look_at
from deepcr_zoo.exposures.viewer.server import Viewer
from deepcr_zoo.progress import NullReporter
from tests.fitsfiles import acs_flc
from tests.registries import SMALL
from tests.viewers import shown

pytestmark = pytest.mark.slow
WIDE, NARROW = 1280, 400


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    path = acs_flc(tmp_path_factory.mktemp("seen") / "x_flc.fits")
    seen = look_at(path, CleanOptions(model=SMALL, inpaint="medmask"), LACOSMIC)
    seen.find(NullReporter())
    with shown(seen) as server, server.serving():
        yield server


@pytest.fixture(params=[WIDE, NARROW])
def page(request, viewer, browser):
    viewer.saves, viewer.last = 0, None
    shown = browser.new_page(viewport={"width": request.param, "height": 800})
    complaints = []
    shown.on("console", lambda message: complaints.append(message.text))
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on(
        "request", lambda one: complaints.append(one.url) if not one.url.startswith((viewer.address, "data:")) else None
    )
    shown.set_default_timeout(10_000)
    shown.goto(viewer.address)
    shown.wait_for_selector("body[data-ready=true]")
    yield shown
    assert [one for one in complaints if "GPU stall" not in one] == []
    shown.close()


def drawn(page):
    """What the canvas shows after its next frame, RGB, the first row at the bottom."""
    png = page.evaluate(
        "() => new Promise((done) => requestAnimationFrame("
        "() => done(document.getElementById('sky').toDataURL().split(',')[1])))"
    )
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(png)))[::-1, :, :3]


def is_red(picture):
    return (picture[..., 0] > picture[..., 1] + 0.3) & (picture[..., 0] > picture[..., 2] + 0.3)


def count_of(page):
    return [int(number.replace(",", "")) for number in re.findall(r"([0-9,]+) (?:cosmic|pixels)", page.inner_text("#count"))]


def wait_for_count(page, before):
    page.wait_for_function("before => document.getElementById('count').textContent !== before", arg=before)


def test_a_key_that_is_held_down_draws_once_a_frame(page):
    counted = page.evaluate("""async () => {
        const gl = document.getElementById('sky').getContext('webgl2'), draw = gl.clear.bind(gl);
        const pressed = {key: 'n', bubbles: true};
        let drawn = 0;
        gl.clear = (bits) => { drawn++; draw(bits); };
        for (let at = 0; at < 200; at++) document.body.dispatchEvent(new KeyboardEvent('keydown', pressed));
        const atOnce = drawn;
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        return [atOnce, drawn];
    }""")
    assert counted[0] == 0
    assert 1 <= counted[1] <= 2


def test_the_page_fits_the_window_and_says_what_it_shows(page, viewer):
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.inner_text("h1") == "x_flc.fits"
    assert "ACS-WFC-F606W-2-4@1.0" in page.inner_text("#facts")
    mask = viewer.seen.chips[0].scores > 0.5
    assert count_of(page)[1] == mask.sum()
    assert page.inner_text("#status") == ""


def test_the_picture_shows_the_pixels_and_the_mask_where_they_are(page, viewer):
    """About the largest cosmic ray, at 1.5^5 screen pixels each."""
    page.keyboard.press("n")
    for key in "0+++++":
        page.keyboard.press(key)
    with_mask = is_red(drawn(page))
    page.keyboard.press("m")
    assert with_mask.any()
    assert not is_red(drawn(page)).any()
    seen = viewer.seen.chips[0]
    caption = page.inner_text("caption")
    x, y = (int(one) - 1 for one in re.match(r"x (\d+), y (\d+)", caption).groups())
    assert float(caption.split()[6]) == pytest.approx(seen.chip.pixels[y, x], rel=1e-5)
    for row, column in np.ndindex(seen.scores.shape):
        up, across = (
            int(side / 2 + away * 1.5**5) for side, away in zip(with_mask.shape, (row - y, column - x), strict=True)
        )
        if 0 <= up < with_mask.shape[0] and 0 <= across < with_mask.shape[1]:
            assert with_mask[up, across] == (seen.scores[row, column] > 0.5), (row, column)


def test_the_threshold_changes_the_mask_at_once(page, viewer):
    for key, threshold in (("[", 0.438), ("[", 0.378), ("]", 0.438)):
        page.keyboard.press(key)
        assert float(page.inner_text("#threshold-value")) == pytest.approx(threshold, abs=0.001)
        page.wait_for_timeout(500)  # until the slider rests
        value = page.evaluate("1 / (1 + Math.exp(-document.getElementById('threshold').value))")
        assert count_of(page)[1] == pytest.approx((viewer.seen.chips[0].scores > value).sum(), abs=2)


def test_cosmic_rays_are_stepped_through_by_size(page):
    page.keyboard.press("n")
    first = page.inner_text("#which")
    page.keyboard.press("n")
    second = page.inner_text("#which")
    assert first.startswith("1 of ")
    assert second.startswith("2 of ")
    sizes = [int(re.search(r": (\d+) pixels", one)[1]) for one in (first, second)]
    assert sizes == sorted(sizes, reverse=True)
    assert page.locator("td.centre.masked").count() == 1
    page.keyboard.press("p")
    assert page.inner_text("#which") == first


def test_input_mask_and_cleaned_image_blink(page):
    page.keyboard.press("b")
    page.wait_for_selector("button[data-key=c][aria-pressed=true]")
    page.wait_for_selector("button[data-key=i][aria-pressed=true]")
    page.keyboard.press("b")
    assert page.get_attribute("button[data-key=b]", "aria-pressed") == "false"


def test_another_method_stands_beside(page):
    page.keyboard.press("x")
    picture = drawn(page)
    assert page.inner_text("#right") == "lacosmic"
    left, right = np.array_split(is_red(picture), 2, axis=1)
    assert left.any()
    assert right.any()
    assert not np.array_equal(left[:, : right.shape[1]], right)


def test_a_mask_is_corrected_undone_and_saved(page, viewer):
    chip = viewer.seen.chips[0]
    page.keyboard.press("n")
    whole = page.inner_text("#count")
    page.keyboard.press("e")
    page.locator("#sky").click()
    wait_for_count(page, whole)
    assert "erased 1 pixels" in page.inner_text("#status")
    erased = page.inner_text("#count")
    page.keyboard.press("z")
    wait_for_count(page, erased)
    assert page.inner_text("#count") == whole
    page.keyboard.press("d")
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    page.locator("#sky").click()
    wait_for_count(page, whole)
    page.keyboard.press("s")
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('saved')")
    with fits.open(viewer.last[1].path) as hdus:
        assert (hdus[0].header["CRADDED"], hdus[0].header["CRREMOVD"]) == (0, 1)
        assert hdus["CRMASK", 1].data.sum() == (chip.scores > 0.5).sum() - 1


def test_the_other_chip_and_the_stretches_are_chosen(page, viewer):
    page.keyboard.press("t")
    page.wait_for_selector("#chips button:nth-child(2)[aria-pressed=true]")
    zscale = drawn(page)
    low = float(page.input_value("#low"))
    page.keyboard.press("2")
    assert float(page.input_value("#high")) > float(page.input_value("#low")) == low
    assert not np.array_equal(zscale, drawn(page))
    page.fill("#high", str(low + 1))
    assert (drawn(page) > 0.99).mean() > 0.2


def paint(page, brush, across=0):
    page.fill("#brush", str(brush))
    page.evaluate("document.activeElement.blur()")
    if page.get_attribute('button[data-key="d"]', "aria-pressed") != "true":
        page.click('button[data-key="d"]')
    box = page.locator("#sky").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + across, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()


def save(page):
    page.click('button[data-key="s"]')
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('saved')")


def is_guarded(page):
    """True if the browser asks before it leaves the page."""
    return page.evaluate("!window.dispatchEvent(new Event('beforeunload', {cancelable: true}))")


def added(viewer):
    return fits.getheader(viewer.last[1].path)["CRADDED"]


def test_a_page_that_is_opened_again_goes_on_from_what_was_saved(page, viewer):
    paint(page, 12)
    save(page)
    first, file = added(viewer), viewer.last[1].path
    assert first > 100
    page.reload()
    page.wait_for_selector("body[data-ready=true]")
    paint(page, 1, across=int(0.15 * page.viewport_size["width"]))
    save(page)
    assert added(viewer) == first + 1
    assert (viewer.saves, viewer.last[1].path) == (2, file)


def test_strokes_while_a_save_runs_are_unsaved(page, viewer, monkeypatch):
    write = corrections.save

    painted = threading.Event()

    def slow(*given):
        assert painted.wait(60)
        return write(*given)

    monkeypatch.setattr(corrections, "save", slow)
    paint(page, 5)
    assert is_guarded(page)
    page.click('button[data-key="s"]')
    paint(page, 5, across=80)
    painted.set()
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('saved')")
    assert is_guarded(page)
    save(page)
    assert not is_guarded(page)
    assert added(viewer) > 25


def test_a_cleaned_image_of_an_earlier_mask_is_not_shown(page, viewer, monkeypatch):
    repaint, masks, painted = Seen.repainted, [], threading.Event()

    def slow(seen, chip, mask):
        masks.append(int(mask.sum()))
        assert painted.wait(60)
        return repaint(seen, chip, mask)

    monkeypatch.setattr(Seen, "repainted", slow)
    page.click('button[data-key="c"]')
    while not masks:
        page.wait_for_timeout(50)
    paint(page, 20)
    painted.set()
    page.wait_for_selector('button[data-key="c"][aria-pressed=true]')
    assert len(masks) == 2
    assert masks[1] > masks[0]


def test_a_page_that_is_opened_early_shows_the_exposure_when_it_is_read_or_says_that_the_viewer_has_ended(viewer, browser):
    with Viewer(None) as early, early.serving():
        page = browser.new_page()
        page.goto(early.address)
        assert page.inner_text("#status") == "reading…"
        early.show(viewer.seen)
        page.wait_for_selector("body[data-ready=true]")
        page.close()
    with Viewer(None) as failed, failed.serving():
        page = browser.new_page()
        page.goto(failed.address)
        page.wait_for_function("() => document.getElementById('status').textContent === 'reading…'")
        page.route("**/exposure.json", lambda route: route.abort())
        page.reload()
        page.wait_for_function("() => document.getElementById('status').textContent.includes('the viewer has ended')")
        page.close()


def test_the_image_is_shown_while_its_cosmic_rays_are_found(viewer, browser):
    seen = look_at(viewer.seen.exposure.path, CleanOptions(model=SMALL, inpaint="medmask"), None)
    with shown(seen) as early, early.serving():
        page = browser.new_page()
        page.goto(early.address)
        page.wait_for_function("() => document.getElementById('status').textContent.startsWith('finding cosmic rays')")
        assert not is_red(drawn(page)).any()
        assert drawn(page).std() > 0.05
        seen.find(NullReporter())
        page.wait_for_selector("body[data-ready=true]")
        assert is_red(drawn(page)).any()
        page.close()


@pytest.mark.parametrize("key", ["Escape", "e", "t"])
def test_a_key_while_one_paints_changes_neither_tool_nor_chip_of_the_stroke(key, page, viewer):
    paint(page, 12)
    save(page)
    before = added(viewer)
    page.fill("#brush", "12")
    page.evaluate("document.activeElement.blur()")
    box = page.locator("#sky").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.3 * box["width"], middle)
    page.mouse.down()
    page.keyboard.press(key)
    page.mouse.move(box["x"] + 0.4 * box["width"], middle, steps=5)
    page.mouse.up()
    assert page.inner_text("#status").startswith("painted")
    page.keyboard.press("z")
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('undone')")
    save(page)
    assert added(viewer) == before
