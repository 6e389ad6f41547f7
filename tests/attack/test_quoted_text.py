"""No error repeats the words of a file: in a folder of others, it may be a link to a file of the user with a secret."""

import json
import zipfile

import pytest
from astropy.io import fits
from typer.testing import CliRunner

from deepcr_zoo.cli.main import app
from tests.fitsfiles import acs_flc
from tests.registries import SMALL

SECRET = "hf_SeCrEtSeCrEtSeCrEtSeCrEtSeCrEt12"  # made up
TEXTS = {"a token": SECRET, "a netrc": f"machine hub.example login me password {SECRET}\n"}


@pytest.fixture(params=TEXTS)
def linked(request, tmp_path):
    """A folder of exposures, one of which is a link to a text of the user."""
    (tmp_path / "own.txt").write_text(TEXTS[request.param])
    night = tmp_path / "night"
    night.mkdir()
    (night / "a_flc.fits").symlink_to(tmp_path / "own.txt")
    acs_flc(night / "b_flc.fits")
    return night


def words_of(done, folder):
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return done.output + str(done.exception) + written.decode("latin-1")


@pytest.mark.parametrize("how", [(), ("--json",)])
def test_cleaning_a_folder_names_the_file_and_not_its_words(linked, how, tmp_path):
    done = CliRunner().invoke(app, ["clean", str(linked), "--model", SMALL, "--inpaint", "none", *how])
    assert "a_flc.fits" in done.output
    assert "is a text, not a FITS file" in done.output
    assert SECRET[:12] not in words_of(done, linked)
    if how:
        assert len([json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]) >= 1


def test_a_mask_that_is_a_text_is_not_repeated(linked):
    command = ["clean", str(linked / "b_flc.fits"), "--inpaint", "none", "--mask", str(linked / "a_flc.fits")]
    assert SECRET[:12] not in words_of(CliRunner().invoke(app, command), linked)


def test_weights_are_imported_without_the_first_bytes_of_a_text(linked):
    (linked / "x.safetensors").symlink_to(linked.parent / "own.txt")
    done = CliRunner().invoke(app, ["import", str(linked / "x.safetensors"), "--name", "A-2-4"])
    length = int.from_bytes((linked.parent / "own.txt").read_bytes()[:8], "little")
    said = words_of(done, linked)
    assert "announces a header larger" in said
    assert f"{length:,}" not in said


def test_an_instrument_is_described_without_the_words_of_a_text(linked, tmp_path):
    fits.PrimaryHDU().writeto(linked / "c.fits")
    command = ["instrument", "new", str(linked / "a_flc.fits"), "--name", "X", "--to", str(tmp_path / "x.yaml")]
    assert SECRET[:12] not in words_of(CliRunner().invoke(app, command), linked)


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"password: {SECRET}\n",
        f"- {SECRET}\n",
        f"a: {{password: {SECRET}}}\n",
        f"name: [{SECRET}]\nrecognise: {SECRET}\n",
    ],
)
@pytest.mark.parametrize("command", [["instrument", "check"], ["recipe", "check"]])
def test_a_description_that_is_a_text_or_other_settings_is_not_repeated(command, text, tmp_path):
    (tmp_path / "own.txt").write_text(text)
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "camera.yaml").symlink_to(tmp_path / "own.txt")
    exposure = [str(acs_flc(tmp_path / "b_flc.fits"))] if "instrument" in command else []
    done = CliRunner().invoke(app, [*command, str(tmp_path / "night" / "camera.yaml"), *exposure])
    assert done.exit_code
    assert "camera.yaml" in str(done.exception)
    assert SECRET[:12] not in words_of(done, tmp_path / "none")


def test_a_description_beside_a_recipe_to_which_a_link_leads_is_not_repeated(tmp_path):
    (tmp_path / "own.txt").write_text(f"recognise: {SECRET}\n")
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "camera.yaml").symlink_to(tmp_path / "own.txt")
    command = ["recipe", "new", "Mine-2-4", "--instrument", "Mine", "--filter", "R", "--output", str(recipes / "mine.yaml")]
    done = CliRunner().invoke(app, command)
    assert "its content is not shown" in str(done.exception)
    assert SECRET[:12] not in words_of(done, recipes)


def test_names_in_an_archive_to_which_a_link_leads_are_not_repeated(tmp_path):
    with zipfile.ZipFile(tmp_path / "vault.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{SECRET} {number}.txt", "private")
    flc = acs_flc(tmp_path / "b_flc.fits")
    (tmp_path / "mask.npz").symlink_to(tmp_path / "vault.zip")
    done = CliRunner().invoke(app, ["clean", str(flc), "--mask", str(tmp_path / "mask.npz")])
    assert "it holds 3 arrays: expected one alone" in words_of(done, tmp_path / "none")
    assert SECRET[:12] not in words_of(done, tmp_path / "none")


@pytest.mark.parametrize("command", [["clean"], ["clean", "--json"], ["instrument", "new"]])
def test_a_list_to_which_a_link_leads_is_not_repeated(command, tmp_path):
    (tmp_path / "own.txt").write_text(f"{SECRET}\n")
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "list.txt").symlink_to(tmp_path / "own.txt")
    done = CliRunner().invoke(app, [*command, f"@{tmp_path / 'night' / 'list.txt'}"])
    assert "is a link that leads out of its folder: give the list" in str(done.exception)
    assert SECRET[:12] not in words_of(done, tmp_path / "night")
