"""The viewer without a browser: what its server gives, and the masks that it saves."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage
from typer.testing import CliRunner

from deepcr_zoo import clean_file
from deepcr_zoo.cli import viewing
from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import InvalidFileError, OutputError, UsageError
from deepcr_zoo.exposures.making import ChipWork
from deepcr_zoo.exposures.viewer import seen, server
from deepcr_zoo.exposures.viewer.corrections import Corrections
from deepcr_zoo.exposures.viewer.server import Viewer
from tests.fitsfiles import SHAPE
from tests.registries import SMALL
from tests.viewers import flc, look, own, shown, untouched, viewer

__all__ = ["flc", "viewer"]


def test_pixels_and_scores_are_those_of_the_file_and_the_network(viewer, flc):
    found = json.loads(own(viewer, "exposure.json")[1])
    assert (found["file"], found["model"], found["compared"]) == ("x_flc.fits", "ACS-WFC-F606W-2-4@1.0", "lacosmic")
    assert [(one["label"], one["height"], one["width"]) for one in found["chips"]] == [("SCI,1", *SHAPE), ("SCI,2", *SHAPE)]
    image = np.frombuffer(own(viewer, "chips/0/image")[1], "<f4").reshape(SHAPE)
    np.testing.assert_array_equal(image, fits.getdata(flc, ("SCI", 1)).astype(np.float32))
    done = clean_file(flc, SMALL, "none", prob=True)
    for number in range(2):
        scores = np.frombuffer(own(viewer, f"chips/{number}/scores")[1], "<f4").reshape(SHAPE)
        np.testing.assert_allclose(scores, fits.getdata(done.outputs[0], ("CRPROB", number + 1)), atol=1e-6)
    other = np.frombuffer(own(viewer, "chips/1/other")[1], "<f4")
    assert set(np.unique(other)) == {0, 1}


def test_the_cleaned_chip_is_repainted_for_the_mask_of_the_moment(viewer, flc, tmp_path):
    done = clean_file(flc, SMALL, "medmask", threshold=0.2, output_dir=tmp_path / "out")
    cleaned = np.frombuffer(own(viewer, "chips/0/cleaned", untouched(0.2))[1], "<f4").reshape(SHAPE)
    np.testing.assert_array_equal(cleaned, fits.getdata(done.outputs[1], ("SCI", 1)).astype(np.float32))


def test_detections_are_the_groups_of_the_mask_by_size(viewer):
    seen = viewer.seen.chips[0]
    found = json.loads(own(viewer, "chips/0/detections", untouched(0.3))[1])
    mask = seen.scores > 0.3
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    assert (found["count"], found["pixels"]) == (count, mask.sum())
    sizes = [size for _, _, size in found["places"]]
    assert sizes == sorted(np.bincount(labels[mask])[1:], reverse=True)
    for x, y, size in found["places"]:
        group = labels == labels[y, x]
        assert group.sum() == size
        assert seen.scores[y, x] == seen.scores[group].max()


def test_a_chip_without_cosmic_rays_has_no_detections(viewer):
    found = json.loads(own(viewer, "chips/0/detections", untouched(1.0))[1])
    assert found == {"count": 0, "pixels": 0, "places": []}


def test_a_saved_mask_has_the_corrections_and_clean_takes_it(viewer, flc, tmp_path):
    scores = viewer.seen.chips[0].scores
    (erased, *_), (painted, *_) = (
        np.flatnonzero(scores > 0.4),
        np.flatnonzero((scores < 0.1) & viewer.seen.chips[0].chip.searched),
    )
    wanted = untouched(0.4)
    wanted["chips"] = [{"added": [int(painted)], "removed": [int(erased)]}, {"added": [], "removed": []}]
    saved = json.loads(own(viewer, "save", wanted)[1])
    assert saved["path"] == str(tmp_path / "x_flc_crcorrected.fits")
    expected = scores > 0.4
    expected.flat[painted], expected.flat[erased] = True, False
    with fits.open(saved["path"], checksum=True) as hdus:
        np.testing.assert_array_equal(hdus["CRMASK", 1].data, expected)
        header = hdus[0].header
        assert (header["CRADDED"], header["CRREMOVD"], header["CRTHRESH"]) == (1, 1, 0.4)
        assert header["CRMODEL"] == "ACS-WFC-F606W-2-4@1.0"
        assert header["CRNPIX"] == saved["pixels"]
    done = clean_file(flc, inpaint="medmask", mask=saved["path"], output_dir=tmp_path / "out")
    np.testing.assert_array_equal(fits.getdata(done.outputs[0], ("CRMASK", 1)), expected)
    again = look(flc, model="auto", mask=saved["path"])
    np.testing.assert_array_equal(again.chips[0].scores, expected)


def test_a_mask_of_clean_is_corrected_where_it_stands_and_stays(flc):
    made = Path(clean_file(flc, SMALL, "none").outputs[0])
    before = made.read_bytes()
    with shown(look(flc, model="auto", mask=made)) as server, server.serving():
        saved = json.loads(own(server, "save", untouched())[1])
    assert saved["path"] == str(flc.with_name("x_flc_crcorrected.fits"))
    assert made.read_bytes() == before


def test_a_mask_saved_again_replaces_that_of_this_viewer_and_no_other(viewer, flc, tmp_path):
    first = json.loads(own(viewer, "save", untouched(0.4))[1])
    again = {**untouched(0.6), "saved": first["saved"]}
    assert json.loads(own(viewer, "save", again)[1])["path"] == first["path"]
    assert fits.getheader(first["path"])["CRTHRESH"] == 0.6
    with shown(look(flc)) as other:
        assert other.description()["saved_as"] == "x_flc_2_crcorrected.fits"


def test_a_page_that_knows_no_earlier_save_replaces_none(viewer):
    """As of a second tab."""
    first = json.loads(own(viewer, "save", untouched(0.4))[1])
    second = json.loads(own(viewer, "save", untouched(0.6))[1])
    assert first["path"] != second["path"]
    assert [fits.getheader(one["path"])["CRTHRESH"] for one in (first, second)] == [0.4, 0.6]
    found = json.loads(own(viewer, "exposure.json")[1])
    assert (found["threshold"], found["saved"]) == (0.6, 2)


def test_two_viewers_of_one_file_replace_nothing_of_each_other_or_of_the_user(flc, tmp_path):
    with shown(look(flc)) as one, shown(look(flc)) as other:
        mine = tmp_path / "x_flc_crcorrected.fits"
        mine.write_text("mine, written while both run")
        first = one.save(Corrections(**untouched(0.4)))
        second = other.save(Corrections(**untouched(0.6)))
        assert mine.read_text() == "mine, written while both run"
        assert first.path != second.path
        first.path.write_text("edited by another program")
        third = one.save(Corrections(**untouched(0.3), saved=1))
        assert third.path not in (first.path, second.path, mine)
        assert first.path.read_text() == "edited by another program"


def test_a_folder_with_a_tilde_is_that_of_the_user_and_leftovers_are_swept(flc, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").mkdir()
    path = str(tmp_path / "x" / "x_flc_crcorrected.fits")
    code = f"from deepcr_zoo import files; print(files._partial_path(files.Path({path!r})))"
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    Path(left).write_bytes(b"half")
    with shown(look(flc), Path("~/x")) as viewer:
        saved = viewer.save(Corrections(**untouched()))
    assert saved.path == tmp_path / "x" / "x_flc_crcorrected.fits"
    assert list((tmp_path / "x").iterdir()) == [saved.path]


@pytest.mark.parametrize("harm", ["flip", "shape", "gone", "range"])
def test_stored_scores_that_are_damaged_are_computed_anew(harm, flc):
    done = clean_file(flc, SMALL, "medmask", prob=True)
    expected = [one.scores for one in look(flc, output_dir=flc.parent / "elsewhere").chips]
    if harm == "flip":
        data = bytearray(Path(done.outputs[0]).read_bytes())
        with fits.open(done.outputs[0]) as hdus:
            place = hdus["CRPROB", 2].fileinfo()["datLoc"]
        data[place + 4 * (np.argmax(expected[1]))] ^= 0x40
        Path(done.outputs[0]).write_bytes(data)
    else:
        with fits.open(done.outputs[0], mode="update", checksum=True) as hdus:
            if harm == "gone":
                del hdus["CRPROB", 2]
            else:
                hdus["CRPROB", 2].data = np.zeros((3, 3), "f4") if harm == "shape" else expected[1] + 7
    for found, one in zip(look(flc).chips, expected, strict=True):
        np.testing.assert_allclose(found.scores, one, atol=1e-6)


def test_scores_that_clean_has_written_are_not_computed_again(flc, monkeypatch):
    clean_file(flc, SMALL, "medmask", prob=True)
    expected = [one.scores for one in look(flc, output_dir=flc.parent / "elsewhere").chips]
    monkeypatch.setattr(ChipWork, "prepare", lambda *_: pytest.fail("the network was asked"))
    for found, one in zip(look(flc).chips, expected, strict=True):
        np.testing.assert_allclose(found.scores, one, atol=1e-6)


def test_a_port_that_is_taken_is_one_sentence(viewer, flc):
    with pytest.raises(UsageError, match=f"port {viewer.server_port} of 127.0.0.1 cannot be used: .*leave out --port"):
        Viewer(None, viewer.server_port)


def test_a_mask_that_cannot_be_written_is_one_sentence_on_the_page(flc, viewer):
    viewer.folder = flc / "no folder"
    status, text, _ = own(viewer, "save", untouched())
    assert status == 400
    assert json.loads(text)["error"].startswith(f"{viewer.folder / 'x_flc_crcorrected.fits'}: cannot be written: ")


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_corrected(flc, tmp_path, monkeypatch):
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and Path(path) != tmp_path)
    with shown(look(flc), tmp_path / "masks" / "mine") as server, server.serving():
        assert f"{tmp_path}: cannot be written" in json.loads(own(server, "exposure.json")[1])["remarks"][-1]
        assert not (tmp_path / "masks").exists()
    with shown(look(flc), Path(tempfile.gettempdir())) as server:
        assert not server.cautions


def test_a_folder_that_is_a_file_ends_a_save_in_one_sentence(flc, tmp_path):
    (tmp_path / "file").write_text("mine")
    with shown(look(flc), tmp_path / "file") as viewer, pytest.raises(OutputError, match="cannot be written"):
        viewer.save(Corrections(**untouched()))


def test_a_page_waits_for_its_exposure_and_nothing_else_is_answered_before(flc, monkeypatch):
    monkeypatch.setattr(server, "LONGEST_WAIT_S", 0.1)
    with Viewer(None) as viewer, viewer.serving():
        assert own(viewer, "")[0] == 200
        assert own(viewer, "exposure.json")[0] == 202
        for name, body in (("chips/0/image", None), ("save", untouched())):
            status, text, _ = own(viewer, name, body)
            assert (status, json.loads(text)["error"]) == (400, "the exposure is not read yet")
        monkeypatch.setattr(server, "LONGEST_WAIT_S", 60.0)
        threading.Timer(0.5, lambda: viewer.show(look(flc))).start()
        status, text, _ = own(viewer, "exposure.json")
        assert (status, json.loads(text)["file"]) == (200, "x_flc.fits")


def test_what_is_no_exposure_is_said_before_an_address(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path, reason in (("absent.fits", "cannot be read"), ("notes.txt", "is a text"), ("", "is a folder")):
        done = CliRunner().invoke(app, ["view", str(tmp_path / path), "--no-browser"])
        assert isinstance(done.exception, InvalidFileError)
        assert reason in str(done.exception)
        assert done.stdout == ""


def test_an_interrupt_that_a_library_swallows_ends_the_viewer_all_the_same(flc, monkeypatch):
    def swallowing(*arguments):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except BaseException:
            return look_at(*arguments)

    look_at = seen.look_at
    monkeypatch.setattr(seen, "look_at", swallowing)
    second = threading.Timer(60, os.kill, [os.getpid(), signal.SIGINT])
    second.start()
    done = CliRunner().invoke(app, ["view", str(flc), "--no-browser"])
    assert second.is_alive(), "it waited for another one"
    second.cancel()
    assert (done.exit_code, done.exception) == (0, None)
    assert done.stdout.startswith("http://127.0.0.1:")


def test_where_no_temporary_file_can_be_written_the_viewer_opens_no_browser_and_goes_on(monkeypatch, capsys):
    def refused(**_):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(viewing, "TemporaryDirectory", refused)
    with viewing._opened("http://127.0.0.1:1/"):
        said = capsys.readouterr().err
    assert "no browser is opened, which needs a temporary file: No usable temporary directory found" in " ".join(
        said.split()
    )
