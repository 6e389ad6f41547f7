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


def test_a_mask_with_a_name_of_any_letters_has_a_preview(flc, found, tmp_path):
    mask = shutil.copy(found, tmp_path / "маска.fits")
    first, again = (
        clean_file(flc, inpaint="medmask", mask=mask, output_dir=tmp_path / "out", preview=True) for _ in range(2)
    )
    assert (first.status, again.status) == ("cleaned", "finished")
    assert (tmp_path / "out" / "x_flc_crpreview.png").is_file()


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
        assert done.inpaint == "inpaint/CCD-ANY-3-16@1.0"  # without gain, in the file's own unit
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
    with pytest.raises(InvalidFileError, match=r"seven\.fits.* such as 7: compare it with a threshold first"):
        clean_file(write(tmp_path / "y.fits", science(scene()[0])), mask=tmp_path / "seven.fits")
    with pytest.raises(InvalidFileError, match=r"no\.fits"):
        clean_file(flc, mask=tmp_path / "no.fits")
    assert [path.name for path in tmp_path.iterdir() if "_cr" in path.name] == []


def test_a_cleaned_exposure_is_no_mask(flc, found):
    with pytest.raises(InvalidFileError, match=r"x_flc_crclean\.fits.*is a cleaned exposure: give the mask beside it"):
        clean_file(flc, mask=found.replace("crmask", "crclean"), overwrite=True)


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


def mask_of(path, *versions, name="CRMASK"):
    """A mask file with another mask for each EXTVER; None for an extension without one."""
    hdus = [fits.ImageHDU(np.zeros(SHAPE, np.uint8), name=name) for _ in versions]
    for number, (hdu, version) in enumerate(zip(hdus, versions, strict=True)):
        hdu.data[10, 20 + number] = 1
        if version is not None:
            hdu.ver = version
        elif "EXTVER" in hdu.header:
            del hdu.header["EXTVER"]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


@pytest.mark.parametrize("versions", [(1,), (1, 1), (1, 3), (2, 2)])
def test_masks_that_are_not_one_for_each_chip_are_refused(versions, flc, tmp_path):
    with pytest.raises(InvalidFileError, match="holds masks"):
        clean_file(flc, inpaint="none", mask=mask_of(tmp_path / "m.fits", *versions))
    assert not (tmp_path / "x_flc_crmask.fits").exists()


@pytest.mark.parametrize("name", ["CRMASK", "MINE"])
@pytest.mark.parametrize("versions", [(2, 1), (2, None), (None, None)])
def test_masks_belong_to_the_chips_of_their_extver_whatever_their_name(name, versions, flc, tmp_path):
    done = clean_file(flc, inpaint="none", mask=mask_of(tmp_path / "m.fits", *versions, name=name))
    with fits.open(done.outputs[0]) as hdus:
        for number, version in enumerate((1, 2) if versions == (None, None) else (2, 1)):
            assert np.argwhere(hdus["CRMASK", version].data).tolist() == [[10, 20 + number]]


def test_a_mask_of_one_chip_serves_that_chip_alone(flc, tmp_path):
    given = mask_of(tmp_path / "m.fits", 1)
    assert clean_file(flc, inpaint="none", mask=given, extension="SCI,1", output_dir=tmp_path / "one").pixels == 1
    with pytest.raises(InvalidFileError, match="EXTVER 1: expected one for each chip, 2"):
        clean_file(flc, inpaint="none", mask=given, extension="SCI,2", output_dir=tmp_path / "two")


def test_a_mask_of_another_exposure_and_a_damaged_one_are_cautions(found, flc, tmp_path):
    other = acs_flc(tmp_path / "other_flc.fits", seed=2)
    done = clean_file(other, inpaint="none", mask=found, output_dir=tmp_path / "other")
    assert any("x_flc_crmask.fits was made for x_flc.fits, with other bytes" in one for one in done.cautions)
    assert not any("made for" in one for one in clean_file(flc, inpaint="none", mask=found).cautions)
    plain = mask_of(tmp_path / "plain.fits", 1, 2)
    with fits.open(plain, mode="update", checksum=True) as hdus:
        place = hdus[1].fileinfo()["datLoc"]
    data = bytearray(plain.read_bytes())
    data[place + 5] = 1
    plain.write_bytes(data)
    done = clean_file(flc, inpaint="none", mask=plain, output_dir=tmp_path / "damaged")
    assert any(one.startswith("plain.fits: Checksum") or one.startswith("plain.fits: Datasum") for one in done.cautions)


def test_the_mask_that_is_given_is_not_replaced_by_the_product(found, flc):
    before = Path(found).read_bytes()
    with pytest.raises(UsageError, match="would be replaced: give another output_dir"):
        clean_file(flc, inpaint="none", mask=found, output_dir=Path(found).parent, overwrite=True)
    assert Path(found).read_bytes() == before


def test_products_do_not_say_in_which_folder_an_exposure_lay(flc, tmp_path):
    folder = tmp_path / "of-a-secret-project"
    folder.mkdir()
    shutil.copy(flc, folder)
    everything = mask_of(folder / "m.fits", 1, 2)
    with fits.open(everything, mode="update") as hdus:
        for hdu in hdus[1:]:
            hdu.data[:] = 1
    done = clean_file(folder / flc.name, inpaint="medmask", mask=everything, output_dir=tmp_path / "out", preview=True)
    assert any("pixels of the mask are not usable" in caution for caution in done.cautions)
    for path in done.outputs:
        assert b"secret-project" not in Path(path).read_bytes()
