"""The zoo as a site: a page for each version, whole, without code of others, readable on a small screen."""

import io
import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import OutputError
from deepcr_zoo.progress import NullReporter
from deepcr_zoo.publishing.site import write_site
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import read_registry
from tests.registries import SMALL, copy_registry, edit_card

SHOWN = ("mask/CCD-ANY-3-16", SMALL, "inpaint/ACS-WFC-F606W-2-32")


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    write_site(default_registry(), folder, NullReporter())
    return folder


@pytest.mark.slow
def test_every_version_has_a_page_that_is_linked_and_all_links_lead_to_files(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 1 + len(default_registry().references())
    linked = set()
    for page in pages:
        for target in re.findall(r'(?:href|src)="(?!https?:)([^"#]+)"', page.read_text()):
            assert (page.parent / unquote(target)).is_file(), f"{page}: {target}"
            linked.add((page.parent / unquote(target)).resolve())
    assert {page.resolve() for page in pages} <= linked


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_a_page_says_how_good_a_model_is_and_how_to_load_it_and_shows_an_example(site, name):
    model = default_registry().resolve(name)
    folder = site / model.reference.replace("@", "/")
    text = (folder / "index.html").read_text()
    for part in (
        f"deepcr_zoo.load(&quot;{model.reference}&quot;)",
        "<h2>Gates</h2>",
        "<h2>Limits</h2>",
        model.locked.weights.sha256,
    ):
        assert part in text
    assert "---\nlicense" not in text
    assert imread(io.BytesIO((folder / "example.png").read_bytes())).std() > 0.05
    assert ("Curves of its benchmark" in text) == (name == "mask/CCD-ANY-3-16")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_no_page_is_wider_than_the_screen(site, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    for path in (site / "index.html", site / "mask" / "CCD-ANY-3-16" / "2.0" / "index.html"):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.close()


@pytest.fixture
def small(tmp_path):
    copy_registry(tmp_path / "root")
    return tmp_path / "root"


def test_the_same_registry_gives_the_same_bytes(small, tmp_path):
    for name in ("one", "two"):
        write_site(read_registry(small), tmp_path / name, NullReporter())
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_card_with_tags_and_code_is_shown_as_text(small, tmp_path):
    def edit(card):
        card["limits"].append("<script>alert(1)</script> [here](javascript:alert(1)) ![x](https://elsewhere.example/x.png)")

    edit_card(small, edit)
    write_site(read_registry(small), tmp_path / "site", NullReporter())
    page = next((tmp_path / "site" / "mask").rglob("index.html")).read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert 'href="javascript' not in page
    assert "default-src 'none'; img-src 'self'" in page  # what a card links to is not loaded


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: path.symlink_to(path.parent / "empty")])
def test_a_file_or_a_link_in_the_place_of_the_site_is_refused_before_the_work_and_stays(make, small, tmp_path):
    (tmp_path / "empty").mkdir()
    make(tmp_path / "site")
    with pytest.raises(OutputError, match="is no empty folder"):
        write_site(read_registry(small), tmp_path / "site", Untracked())
    assert os.path.lexists(tmp_path / "site")


class Untracked(NullReporter):
    """Work that must not begin."""

    def track(self, *_):
        raise AssertionError("the work has begun")


def test_the_present_folder_is_not_replaced_by_the_site(small, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(OutputError, match="here: is the present folder"):
        write_site(read_registry(small), Path(), NullReporter())
    assert here.samefile(Path())


def test_a_folder_with_files_is_left_alone(small, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is no empty folder"):
        write_site(read_registry(small), tmp_path / "site", NullReporter())
    assert list(content(tmp_path / "site").values()) == [b"mine"]
    failed = CliRunner().invoke(app, ["site", "--output-dir", str(tmp_path / "site")])
    assert isinstance(failed.exception, OutputError)
