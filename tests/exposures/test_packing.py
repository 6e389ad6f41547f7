"""Files packed as a whole are read like plain ones, and bounded while they are unpacked."""

import bz2
import gzip
import lzma
import sys

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo import clean_file
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures import packing
from deepcr_zoo.exposures.packing import unpacked
from deepcr_zoo.exposures.reading import read_exposure
from tests.fitsfiles import ACS, acs_flc, scene, science, write
from tests.registries import SMALL

PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
# not by suffix: the names do not fit
NAMES = {"gzip": "y_flc.FITS.GZ", "bzip2": "y_flc.fits.bz2", "xz": "y_flc.fts"}


@pytest.mark.parametrize("name", PACK)
def test_a_packed_exposure_is_cleaned_like_the_plain_one(name, tmp_path):
    plain = write(tmp_path / "x_flc.fits", science(scene()[0]), **ACS)
    path = tmp_path / NAMES[name]
    path.write_bytes(PACK[name](plain.read_bytes()))
    of_plain, of_packed = (clean_file(one, SMALL, "medmask").outputs for one in (plain, path))
    assert of_packed == [str(tmp_path / "y_flc_crmask.fits"), str(tmp_path / "y_flc_crclean.fits")]
    for one, other in zip(of_plain, of_packed, strict=True):
        np.testing.assert_array_equal(fits.getdata(one, 1), fits.getdata(other, 1))


@pytest.mark.parametrize("name", PACK)
def test_a_name_without_any_suffix_is_read_by_content(name, tmp_path):
    plain = acs_flc(tmp_path / "x_flc.fits")
    (tmp_path / "y").write_bytes(PACK[name](plain.read_bytes()))
    assert read_exposure(tmp_path / "y").data == plain.read_bytes()


@pytest.mark.parametrize("name", PACK)
def test_a_packed_file_that_is_cut_off_or_damaged_is_one_sentence(name, tmp_path):
    packed = PACK[name](acs_flc(tmp_path / "x.fits").read_bytes())
    half = len(packed) // 2
    for damaged in (packed[:20], packed[:half], packed[:-3], packed[:half] + b"\0" * 50 + packed[half + 50 :]):
        with pytest.raises(InvalidFileError, match=rf"y.fits: is truncated or damaged \({name}\): get it again"):
            unpacked(damaged, tmp_path / "y.fits")


def test_damage_that_unpacks_to_more_than_a_piece_is_no_other_kind_of_file(tmp_path):
    packed = bytearray(bz2.compress(bytes(40_000_000)))
    packed[10] ^= 1  # the sum of the first block, which holds all of it
    with pytest.raises(InvalidFileError, match=r"y.fits: is truncated or damaged \(bzip2\): get it again"):
        unpacked(bytes(packed), tmp_path / "y.fits")


@pytest.mark.parametrize("name", PACK)
def test_what_would_not_fit_into_memory_is_refused_before_it_is_unpacked(name, tmp_path, monkeypatch):
    content = acs_flc(tmp_path / "x.fits").read_bytes()
    monkeypatch.setattr(packing, "PIECE_BYTES", 1000)
    with pytest.raises(InvalidFileError, match=r"y.fits: unpacks to more than 8e-05 GB, half of the free memory"):
        unpacked(PACK[name](content), tmp_path / "y.fits", most_bytes=80_000)
    assert unpacked(PACK[name](content), tmp_path / "y.fits", most_bytes=len(content)) == content


def test_a_bomb_is_refused_by_its_ratio(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "ALWAYS_ALLOWED_BYTES", 4_000_000)
    header = fits.PrimaryHDU(np.zeros((1, 1), np.float32)).header.tostring().encode()
    bomb = bz2.compress(header + bytes(8_000_000))
    with pytest.raises(InvalidFileError, match=r"y.fits: unpacks to more than 200 times its size, as no exposure does"):
        unpacked(bomb, tmp_path / "y.fits")


def test_a_python_without_xz_names_the_command_that_unpacks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(InvalidFileError, match="which this Python was built without: unpack it with xz -d"):
        unpacked(b"\xfd7zXZ\0" + bytes(20), tmp_path / "y.fits.xz")
