"""The report page in a headless browser (Debian's Chromium), narrow and wide."""

import dataclasses

import pytest

from deepcr_zoo.bench.report.htmlpage import write_report
from deepcr_zoo.bench.report.worst import worst_stamps
from tests.bench.reports import card_of, fill_results, mask_results

pytestmark = pytest.mark.slow
WIDE, NARROW = 1280, 400

IMAGES = "[...document.images].map(one => [one.complete, one.naturalWidth, one.getBoundingClientRect().width, one.alt])"
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('body *')]
    .filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
    .map(one => parseFloat(getComputedStyle(one).fontSize)))"""
HIDDEN_BY_THE_EDGE = """[...document.querySelectorAll('p, li, h1, h2, h3, dd, dt, figcaption')]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.textContent)"""


@dataclasses.dataclass(frozen=True)
class Shown:
    """A page in the browser, with its console messages and requests."""

    page: object
    complaints: list
    requests: list


@pytest.fixture(scope="module")
def reports(tmp_path_factory, dataset, finder, painter):
    """A page of each kind, with pictures of stamps."""
    folder = tmp_path_factory.mktemp("reports")
    written = {}
    for name, results, model in (("masks", mask_results(fails=True), finder), ("filled", fill_results(), painter)):
        cards = {one.name: card_of(one.name) for one in results.methods if one.method.kind == "model"}
        written[name] = write_report(results, cards, folder / name, worst_stamps(model, dataset, results))
    return written


@pytest.fixture(params=[(name, width) for name in ("masks", "filled") for width in (WIDE, NARROW)], ids=str)
def shown(request, reports, browser):
    name, width = request.param
    page = browser.new_page(viewport={"width": width, "height": 800})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda one: complaints.append(one.url[:100]))
    page.on("request", lambda one: requests.append(one.url))
    page.goto(reports[name].as_uri())
    yield Shown(page, complaints, [url for url in requests if url != reports[name].as_uri()])
    page.close()


def test_the_page_is_complete_and_readable_at_any_width_without_errors_or_requests(shown):
    page, width = shown.page, shown.page.viewport_size["width"]
    assert shown.complaints == []
    assert [url[:60] for url in shown.requests if not url.startswith("data:")] == []
    images = page.evaluate(IMAGES)
    assert len(images) >= 5
    for complete, natural, drawn, alt in images:
        assert complete
        assert natural > 0
        assert 300 <= drawn <= width, alt
        assert alt
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(HIDDEN_BY_THE_EDGE) == []
    assert page.evaluate(SMALLEST_TEXT) >= 12


def test_verdict_and_threshold_need_no_scrolling_on_a_wide_screen(shown):
    if shown.page.viewport_size["width"] == WIDE:
        assert shown.page.locator(".verdict").first.bounding_box()["y"] < 400
        assert shown.page.get_by_text("threshold", exact=True).first.bounding_box()["y"] < 700
        assert shown.page.get_by_text("Synthetic data.").bounding_box()["y"] < 200


def test_these_checks_detect_a_broken_page(browser, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<p style='width:2000px;font-size:5px'>x</p><img src='nothing.png'><script>undefined.x</script>")
    page = browser.new_page(viewport={"width": NARROW, "height": 800})
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(broken.as_uri())
    assert complaints
    assert page.evaluate("document.documentElement.scrollWidth") > NARROW
    assert page.evaluate(SMALLEST_TEXT) < 12
    assert page.evaluate(IMAGES)[0][1] == 0
    page.close()
