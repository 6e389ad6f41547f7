"""`clean --mask`: the cosmic rays of a mask that is given, instead of a network's."""

import bz2
import gzip
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from deepcr_zoo import clean_file
from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import InvalidFileError, OutputError, UsageError
from tests.fitsfiles import SHAPE, acs_flc, scene, science, write
from tests.registries import SMALL


@pytest.fixture
def flc(tmp_path):
    return acs_flc(tmp_path / "x_flc.fits")


@pytest.fixture
def found(flc, tmp_path):
    """The mask file of a network."""
    return clean_file(flc, SMALL, "medmask", output_dir=tmp_path / "found").outputs[0]


def masks(path):
    with fits.open(path) as hdus:
        return [hdu.data.astype(bool) for hdu in hdus if hdu.name == "CRMASK"]


def edited(path, change):
    """A copy of a mask file whose first chip is changed."""
    with fits.open(path) as hdus:
        pixels = hdus["CRMASK", 1].data.copy()
        change(pixels)
        hdus["CRMASK", 1].data = pixels
        hdus.writeto(path.replace("crmask", "corrected"))
    return path.replace("crmask", "corrected")


def test_the_mask_of_a_network_given_back_gives_the_same_copy(flc, found, tmp_path):
    done = clean_file(flc, inpaint="medmask", mask=found, output_dir=tmp_path / "again")
    assert done.model == "mask/x_flc_crmask.fits"
    for one, other in zip(masks(done.outputs[0]), masks(found), strict=True):
        np.testing.assert_array_equal(one, other)
    with fits.open(done.outputs[1]) as again, fits.open(found.replace("crmask", "crclean")) as before:
        assert [hdu.name for hdu in again] == [hdu.name for hdu in before]
        for name in (("SCI", 1), ("SCI", 2), ("DQ", 1)):
            np.testing.assert_array_equal(again[name].data, before[name].data)
        assert again[0].header["CRMODEL"] == "x_flc_crmask.fits"
        assert again[0].header["CRNPIX"] == before[0].header["CRNPIX"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_mask_is_as_good_as_a_plain_one(pack, flc, found, tmp_path):
    packed = tmp_path / "mask.fits.packed"
    packed.write_bytes(pack(Path(found).read_bytes()))
    done = clean_file(flc, inpaint="none", mask=packed, output_dir=tmp_path / "again")
    for one, other in zip(masks(done.outputs[0]), masks(found), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_corrected_mask_decides_which_pixels_change(flc, found, tmp_path):
    row, column = np.argwhere(masks(found)[0])[0]
    elsewhere = next((int(y), int(x)) for y, x in np.argwhere(~masks(found)[0]) if y > row + 5)

    def change(pixels):
        pixels[row, column] = 0
        pixels[elsewhere] = 1

    done = clean_file(flc, inpaint="medmask", mask=edited(found, change), output_dir=tmp_path / "again")
    with fits.open(done.outputs[1]) as after, fits.open(flc) as before:
        changed = after["SCI", 1].data != before["SCI", 1].data
        assert not changed[row, column]
        assert after["SCI", 1].data[row, column] == before["SCI", 1].data[row, column]
        assert masks(done.outputs[0])[0][elsewhere]
        assert not (changed & ~masks(done.outputs[0])[0]).any()


def test_a_second_run_is_finished_and_another_mask_is_another_result(flc, found, tmp_path):
    options = {"inpaint": "medmask", "output_dir": tmp_path / "again"}
    assert clean_file(flc, mask=found, **options).status == "cleaned"
    assert clean_file(flc, mask=found, **options).status == "finished"
    other = edited(found, lambda pixels: pixels.fill(0))
    shutil.move(other, found)
    with pytest.raises(OutputError, match="CRSHA256 is"):
        clean_file(flc, mask=found, **options)


def test_an_image_or_an_array_of_another_program_is_a_mask(tmp_path):
    image, hits = scene()
    path = write(tmp_path / "x.fits", science(image, None), EXPTIME=100.0)
    fits.PrimaryHDU((hits > 0).astype(np.int16)).writeto(tmp_path / "mine.fits")
    np.savez(tmp_path / "mine.npz", mask=hits > 0)
    copies = []
    for name in ("mine.fits", "mine.npz"):
        done = clean_file(path, mask=tmp_path / name, output_dir=tmp_path / name.replace(".", "-"))
        assert done.pixels == (hits > 0).sum()
        assert done.inpaint == "medmask"  # without gain, in the file's own unit
        copies.append(fits.getdata(done.outputs[1], 1))
    np.testing.assert_array_equal(*copies)
    np.testing.assert_array_equal(copies[0] != image.astype(np.float32), (hits > 0) & (copies[0] != image))


def test_pixels_without_a_value_are_not_repainted_and_counted_in_a_caution(flc, found, tmp_path):
    with fits.open(flc, mode="update") as hdus:
        hdus["DQ", 1].data[40, 50] = 4
    mask = edited(found, lambda pixels: pixels.__setitem__((40, 50), 1))
    done = clean_file(flc, inpaint="medmask", mask=mask, output_dir=tmp_path / "again")
    assert any("1 pixels of the mask are not usable or near saturation" in one for one in done.cautions)
    with fits.open(done.outputs[1]) as after, fits.open(flc) as before:
        assert after["SCI", 1].data[40, 50] == before["SCI", 1].data[40, 50]


def test_a_mask_of_another_shape_or_number_is_refused(flc, tmp_path):
    fits.PrimaryHDU(np.zeros((5, 6), np.uint8)).writeto(tmp_path / "one.fits")
    with pytest.raises(InvalidFileError, match=r"one\.fits: holds 1 masks of two axes: expected 2, one for each chip"):
        clean_file(flc, mask=tmp_path / "one.fits")
    np.savez(tmp_path / "two.npz", np.zeros((2, 5, 6), bool))
    with pytest.raises(InvalidFileError, match=rf"has the shape \(5, 6\): expected \({SHAPE[0]}, {SHAPE[1]}\), that of"):
        clean_file(flc, mask=tmp_path / "two.npz")
    fits.PrimaryHDU(np.full(SHAPE, 7, np.uint8)).writeto(tmp_path / "seven.fits")
    with pytest.raises(InvalidFileError, match=r"seven\.fits"):
        clean_file(write(tmp_path / "y.fits", science(scene()[0])), mask=tmp_path / "seven.fits")
    with pytest.raises(InvalidFileError, match=r"no\.fits"):
        clean_file(flc, mask=tmp_path / "no.fits")
    assert [path.name for path in tmp_path.iterdir() if "_cr" in path.name] == []


@pytest.mark.parametrize("other", [{"model": SMALL}, {"threshold": 0.3}, {"fpr": 0.01}, {"prob": True}])
def test_a_mask_and_what_belongs_to_a_network_exclude_each_other(flc, other):
    with pytest.raises(UsageError, match=f"mask=m.fits and {next(iter(other))} are given: expected one of the two"):
        clean_file(flc, mask="m.fits", **other)


def test_the_command_takes_the_mask_of_one_file(flc, found, tmp_path):
    again = str(tmp_path / "again")
    done = CliRunner().invoke(app, ["clean", str(flc), "--mask", found, "--output-dir", again])
    assert done.exit_code == 0, done.output
    acs_flc(tmp_path / "y_flc.fits", seed=2)
    two = CliRunner().invoke(app, ["clean", str(flc), str(tmp_path / "y_flc.fits"), "--mask", found])
    assert isinstance(two.exception, UsageError)
    assert "expected one FILE, got 2" in str(two.exception)
