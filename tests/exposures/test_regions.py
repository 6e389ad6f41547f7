"""Region files are read by astropy's regions package, and each box holds one cosmic ray."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from regions import Regions
from scipy import ndimage
from typer.testing import CliRunner

import deepcr_zoo
from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import InvalidFileError, OutputError
from deepcr_zoo.exposures import regions
from deepcr_zoo.exposures.regions import write_regions
from tests.fitsfiles import acs_flc
from tests.registries import SMALL


@pytest.fixture(scope="module")
def mask_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    deepcr_zoo.clean_file(acs_flc(folder / "a_flc.fits"), SMALL, "none")
    return folder / "a_flc_crmask.fits"


def test_every_cosmic_ray_lies_in_the_middle_of_its_box_and_no_box_is_larger_than_needed(mask_file, tmp_path):
    written = write_regions(mask_file, tmp_path).paths
    assert [path.name for path in written] == ["a_flc_crmask_1.reg", "a_flc_crmask_2.reg"]
    for path, version in zip(written, (1, 2), strict=True):
        mask = fits.getdata(mask_file, ("CRMASK", version)) > 0
        boxes = Regions.read(path, format="ds9")
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        assert count
        assert len(boxes) == count
        for box, (rows, columns) in zip(boxes, ndimage.find_objects(labels), strict=True):
            inside = box.bounding_box  # of the pixels that its area touches
            assert (inside.iymin, inside.iymax) == (rows.start - 1, rows.stop + 1)
            assert (inside.ixmin, inside.ixmax) == (columns.start - 1, columns.stop + 1)


def test_a_region_file_is_not_replaced_unasked_and_other_files_have_no_mask(mask_file, tmp_path):
    first = write_regions(mask_file, tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        write_regions(mask_file, tmp_path)
    assert write_regions(mask_file, tmp_path, overwrite=True) == first
    with pytest.raises(InvalidFileError, match="no CRMASK"):
        write_regions(mask_file.with_name("a_flc.fits"), tmp_path)


def test_regions_of_a_file_with_a_name_of_any_letters_can_be_written_again(mask_file, tmp_path):
    named = Path(shutil.copy(mask_file, tmp_path / "кадр_crmask.fits"))
    first = write_regions(named, tmp_path / "out")
    assert write_regions(named, tmp_path / "out", overwrite=True) == first


def test_the_command_prints_what_it_wrote(mask_file, tmp_path):
    done = CliRunner().invoke(app, ["regions", str(mask_file), "--output-dir", str(tmp_path / "new")])
    assert done.exit_code == 0, done.exception
    assert done.stdout.split() == [str(tmp_path / "new" / f"a_flc_crmask_{version}.reg") for version in (1, 2)]


def test_two_files_of_one_name_and_a_folder_that_is_a_file_are_refused(mask_file, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / mask_file.name
    other.write_bytes(mask_file.read_bytes())
    command = ["regions", str(mask_file), str(other), "--overwrite", "--output-dir", str(tmp_path / "out")]
    assert "same name" in str(CliRunner().invoke(app, command).exception)
    with pytest.raises(OutputError, match="cannot be written"):
        write_regions(mask_file, other)


def changed(mask_file, folder, change):
    path = shutil.copy(mask_file, folder / "changed_crmask.fits")
    with fits.open(path, mode="update", memmap=False) as hdus:
        change(hdus)
    return Path(path)


def twice(hdus):
    hdus["CRMASK", 2].ver = 1


def cube(hdus):
    hdus["CRMASK", 2].data = np.zeros((2, 8, 8), np.uint8)


def other_values(hdus):
    hdus["CRMASK", 1].data[0, 0] = 2


def no_numbers(hdus):
    hdus["CRMASK", 1].data = np.full((8, 8), np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(twice, "stands there twice"), (cube, "two axes"), (other_values, "than 0 and 1"), (no_numbers, "than 0 and 1")],
)
def test_a_file_whose_masks_are_unclear_is_refused(change, reason, mask_file, tmp_path):
    with pytest.raises(InvalidFileError, match=reason):
        write_regions(changed(mask_file, tmp_path, change), tmp_path)
    assert not list(tmp_path.glob("*.reg"))


def test_a_mask_of_more_cosmic_rays_than_there_can_be_is_refused(mask_file, tmp_path, monkeypatch):
    monkeypatch.setattr(regions, "MOST_REGIONS", 0)
    with pytest.raises(InvalidFileError, match="expected at most 0"):
        write_regions(mask_file, tmp_path)


def test_damage_of_a_mask_file_is_a_caution(mask_file, tmp_path):
    path = tmp_path / "b_crmask.fits"
    path.write_bytes(mask_file.read_bytes().replace(b"extension of the exposure", b"extension of the Exposure", 1))
    (caution,) = write_regions(path).cautions
    assert "b_crmask.fits" in caution
    done = CliRunner().invoke(app, ["regions", str(path), "--overwrite"])
    assert done.exit_code == 0
    assert "hecksum" in done.stderr


def test_a_region_file_of_the_user_or_of_another_mask_file_is_never_replaced(mask_file, tmp_path):
    first, _ = write_regions(mask_file, tmp_path).paths
    packed = tmp_path / "packed" / f"{mask_file.name}.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(mask_file.read_bytes()))
    before = first.read_bytes()
    with pytest.raises(OutputError, match=r"is no region file of a_flc_crmask\.fits\.gz"):
        write_regions(packed, tmp_path, overwrite=True)
    assert first.read_bytes() == before
    first.write_text("# Region file format: DS9 version 4.1\nimage\ncircle(1,2,3)\n")
    with pytest.raises(OutputError, match="is no region file of"):
        write_regions(mask_file, tmp_path, overwrite=True)
    assert "circle" in first.read_text()
