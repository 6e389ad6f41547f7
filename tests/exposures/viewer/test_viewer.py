"""The viewer without a browser: what its server gives, and the masks that it saves."""

import json

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from deepcr_zoo import clean_file
from deepcr_zoo.errors import UsageError
from deepcr_zoo.exposures.making import ChipWork
from deepcr_zoo.exposures.viewer.server import Viewer
from tests.fitsfiles import SHAPE
from tests.registries import SMALL
from tests.viewers import flc, look, own, untouched, viewer

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


def test_a_mask_saved_again_replaces_that_of_this_viewer_and_no_other(viewer, flc, tmp_path):
    first = json.loads(own(viewer, "save", untouched(0.4))[1])
    assert json.loads(own(viewer, "save", untouched(0.6))[1])["path"] == first["path"]
    assert fits.getheader(first["path"])["CRTHRESH"] == 0.6
    with Viewer(look(flc), None) as other:
        assert other.file == tmp_path / "x_flc_2_crcorrected.fits"


def test_scores_that_clean_has_written_are_not_computed_again(flc, monkeypatch):
    clean_file(flc, SMALL, "medmask", prob=True)
    expected = [one.scores for one in look(flc, output_dir=flc.parent / "elsewhere").chips]
    monkeypatch.setattr(ChipWork, "prepare", lambda *_: pytest.fail("the network was asked"))
    for found, one in zip(look(flc).chips, expected, strict=True):
        np.testing.assert_allclose(found.scores, one, atol=1e-6)


def test_a_port_that_is_taken_is_one_sentence(viewer, flc):
    with pytest.raises(UsageError, match=f"port {viewer.server_port} of 127.0.0.1 cannot be used: .*leave out --port"):
        Viewer(look(flc), None, viewer.server_port)


def test_a_mask_that_cannot_be_written_is_one_sentence_on_the_page(flc, viewer):
    viewer.file = flc / "no folder" / "x_crcorrected.fits"
    status, text, _ = own(viewer, "save", untouched())
    assert status == 400
    assert json.loads(text)["error"].startswith(f"{viewer.file}: cannot be written: ")
