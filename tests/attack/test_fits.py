"""FITS files that announce more than memory holds, that are no files, or whose headers no camera writes."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import socket
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import deepcr_zoo
from deepcr_zoo import batch, machine
from deepcr_zoo.dataset.drizzle import drizzle_visit
from deepcr_zoo.dataset.exposures import read_facts
from deepcr_zoo.dataset.nights import with_visits
from deepcr_zoo.dataset.starmatching import Frame, align
from deepcr_zoo.errors import DrizzleError, InvalidFileError, InvalidImageError, MachineWarning, OutputError
from deepcr_zoo.exposures import cleaning, fitsfiles
from deepcr_zoo.exposures.cleaning import clean_file
from deepcr_zoo.exposures.maskfiles import MaskFile, read_masks
from deepcr_zoo.exposures.packing import unpacked
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.zoo.recipe import DrizzleBlock
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.described import describe, settings_of, write_recipe
from tests.fitsfiles import ACS, acs_flc, scene, science, write
from tests.groundframes import write_frame
from tests.registries import SMALL


def attempt(work, path):
    (outcome,) = batch.run(work, [str(path)], 1)
    return outcome


def patched(path: Path, keyword: str, value: str, place: int = -1) -> Path:
    """The file with the value of a card replaced as bytes, which astropy would refuse to write."""
    data = bytearray(path.read_bytes())
    cards = [at for at in range(0, len(data), 80) if data[at : at + 10] == f"{keyword:8}= ".encode()]
    data[cards[place] : cards[place] + 80] = f"{keyword:8}= {value:>20}".ljust(80).encode("latin-1")
    path.write_bytes(data)
    return path


def compressed(path: Path, name: str = "SCI") -> Path:
    image, _ = scene(1)
    hdu = fits.CompImageHDU(image.astype(np.int16), fits.Header({"BUNIT": "ELECTRONS"}), name=name)
    more = [] if name == "SCI" else [science(image)]
    return write(path, *more, hdu, **ACS)


@pytest.mark.parametrize("name", ["SCI", "DQ"])
def test_a_compressed_image_that_announces_ten_thousand_gigabytes_is_refused_before_it_is_unpacked(name, tmp_path):
    path = compressed(tmp_path / "x.fits", name)
    for keyword in ("ZNAXIS1", "ZNAXIS2"):
        patched(path, keyword, "1000000")
    tracemalloc.start()
    with pytest.raises(
        InvalidFileError, match=r"announces 1000000 x 1000000 pixels, .* GB of memory are free: clean it where"
    ):
        read_exposure(path)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


def test_an_image_is_refused_by_its_announced_size_against_the_free_memory(tmp_path, monkeypatch):
    path = compressed(tmp_path / "x.fits")
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: path.stat().st_size + 20_000)
    with pytest.raises(InvalidFileError, match=r"its header announces 64 x 96 pixels, .* are free"):
        read_exposure(path)


def test_a_file_larger_than_the_free_memory_is_not_read(tmp_path):
    with open(tmp_path / "x.fits", "wb") as file:
        file.write(b"SIMPLE  =                    T")
        file.truncate(10**13)
    with pytest.raises(InvalidFileError, match=r"x\.fits: has 10,000,000,000,000 bytes, .* GB of memory are free"):
        read_exposure(tmp_path / "x.fits")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_a_packed_file_is_refused_when_it_exceeds_half_of_the_free_memory(pack):
    packed = pack(b"SIMPLE  =                    T".ljust(2880) + bytes(30 << 20))
    with pytest.raises(InvalidFileError, match="half of the free memory"):
        unpacked(packed, Path("x.fits.gz"), most_bytes=10**7)


def test_a_packed_file_of_zeros_is_refused_when_it_exceeds_the_ratio():
    packed = gzip.compress(b"SIMPLE  =                    T".ljust(2880) + bytes(140 << 20), compresslevel=1)
    with pytest.raises(InvalidFileError, match="unpacks to more than 200 times its size"):
        unpacked(packed, Path("x.fits.gz"))


def test_cleaning_states_what_it_needs_where_that_is_more_than_half_of_what_is_free(tmp_path, monkeypatch):
    path = acs_flc(tmp_path / "x_flc.fits")
    size = 21 * 2 * 64 * 96 + 3 * path.stat().st_size
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: int(1.5 * size))
    with pytest.warns(MachineWarning, match=r"x_flc\.fits: cleaning needs about .* GB, .* GB of memory are free"):
        clean_file(path, SMALL, "medmask")


def test_a_batch_loses_only_the_file_for_which_memory_is_not_enough(tmp_path, monkeypatch):
    small, large = acs_flc(tmp_path / "a_flc.fits"), acs_flc(tmp_path / "b_flc.fits", shape=(256, 256))
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 3_000_000)
    work = cleaning.CleanOptions(model=SMALL, inpaint="none", output_dir=tmp_path / "out")
    outcomes = list(batch.run(lambda path: cleaning.check_and_clean(path, work), [str(large), str(small)], 1))
    assert [outcome.error is None for outcome in outcomes] == [False, True]
    assert str(large) in outcomes[0].error
    assert "memory" in outcomes[0].error


class OutOfMemoryError(RuntimeError):
    """As torch raises on a GPU."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail] can't allocate memory"),
        OutOfMemoryError(),
    ],
    ids=["numpy", "system", "torch", "cuda"],
)
def test_every_way_to_run_out_of_memory_is_told_as_such(error):
    def work(path):
        raise error

    outcome = attempt(work, "x.fits")
    assert outcome.error.startswith("x.fits: does not fit into memory")
    assert outcome.again


def test_an_endless_recursion_fails_one_file():
    def work(path):
        return work(path)

    assert attempt(work, "x.fits").error.startswith("x.fits: failed unexpectedly")


# what is no file


def listen(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(str(path))


@pytest.mark.parametrize(
    ("make", "what"),
    [(os.mkfifo, "pipe"), (lambda path: path.symlink_to("/dev/zero"), "device"), (listen, "socket")],
    ids=["pipe", "zero", "socket"],
)
def test_only_files_are_read(make, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("x.fits"))
    with pytest.raises(InvalidFileError, match=f"x.fits: is a {what}, not a file"):
        read_exposure(Path("x.fits"))


@pytest.mark.parametrize("ending", ["_crmask.fits", "_crclean.fits", "_crpreview.png"])
def test_a_pipe_at_the_place_of_a_product_is_refused_at_once(ending, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    os.mkfifo(tmp_path / f"x_flc{ending}")
    with pytest.raises(OutputError, match="is no product of deepcr-zoo"):
        clean_file(path, SMALL, "medmask", preview=True)


@pytest.mark.parametrize(("keyword", "value"), [("CRNPIX", "abc"), ("CRNPIX", None), ("CRFRAC", "1/3"), ("CRRATE", "many")])
def test_a_product_whose_counts_are_none_is_made_again(keyword, value, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    made = clean_file(path, SMALL, "none")
    with fits.open(tmp_path / "x_flc_crmask.fits", mode="update") as hdus:
        if value is None:
            del hdus[0].header[keyword]
        else:
            hdus[0].header[keyword] = value
    again = clean_file(path, SMALL, "none")
    assert (again.status, again.pixels) == ("cleaned", made.pixels)


# headers


PRODUCTS = {
    "axes without end": fits.Card("NAXIS", 999_999_999).image.encode(),
    "blank texts": b"CONTINUE  ''".ljust(80) * 10_000,
    "long text": b"CONTINUE  'aaaaaaaaaa&'".ljust(80) * 100_000,
}


@pytest.mark.parametrize("card", PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_hostile_file_at_the_place_of_a_product_is_refused_at_once(card, packed, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    first = b"SIMPLE  =                    T".ljust(80)
    content = (first + card + b"END".ljust(80)).ljust(2880 * 400)
    back = fits.Card("NAXIS1", -5760).image.encode()
    content += (b"XTENSION= 'IMAGE   '".ljust(80) + back + b"END".ljust(80)).ljust(2880)
    (tmp_path / "x_flc_crmask.fits").write_bytes(gzip.compress(content) if packed else content)
    begun = time.process_time()
    with pytest.raises(OutputError, match="is no product of deepcr-zoo"):
        clean_file(path, SMALL, "none")
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(("keyword", "value"), [("NAXIS", "99999999999"), ("NAXIS", "-3"), ("NAXIS", "1000")])
def test_a_header_that_announces_more_axes_than_fits_has_is_refused_at_once(keyword, value, tmp_path):
    path = patched(acs_flc(tmp_path / "x_flc.fits"), keyword, value, place=1)
    with pytest.raises(InvalidFileError, match=r"x_flc\.fits: is damaged: its header has NAXIS = "):
        read_exposure(path)


NEGATIVE = [("PCOUNT", "-18544"), ("GCOUNT", "-1"), ("NAXIS1", "-2160"), ("NAXIS2", "-96")]


@pytest.mark.parametrize(("keyword", "value"), NEGATIVE)
def test_a_negative_size_that_leads_back_in_the_file_is_refused_at_once(keyword, value, tmp_path):
    path = patched(acs_flc(tmp_path / "x_flc.fits"), keyword, value)
    with pytest.raises(InvalidFileError, match=rf"its header has {keyword} .*{value}.*: expected 0 or more"):
        read_exposure(path)


@pytest.mark.parametrize("value", ["1E400", "-1E400", "NaN", "'x'", "9" * 60, "(1,2)"])
@pytest.mark.parametrize("keyword", ["EXTVER", "BSCALE", "PIXVALUE", "NEXTEND", "EXPTIME"])
def test_a_value_that_is_no_usable_number_ends_in_a_result_or_an_error(keyword, value, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits", PIXVALUE=1)
    with fits.open(path, mode="update") as hdus:
        hdus["SCI", 1].header["BSCALE"] = 1.0
    patched(path, keyword, value)
    outcome = attempt(lambda one: clean_file(one, SMALL, "medmask"), path)
    assert outcome.error is None or "failed unexpectedly" not in outcome.error


@pytest.mark.parametrize("keyword", ["EXTNAME", "TARGNAME", "FILTER2"])
def test_control_characters_in_a_header_end_in_a_result_or_an_error(keyword, tmp_path):
    path = patched(acs_flc(tmp_path / "x_flc.fits", TARGNAME="x"), keyword, "'S\x1b[31m\n'", place=0)
    outcome = attempt(lambda one: clean_file(one, SMALL, "medmask"), path)
    assert outcome.error is None or "failed unexpectedly" not in outcome.error


@pytest.mark.parametrize(("keyword", "value"), [("EXPTIME", "1E300"), ("CCDGAIN", "1E300")])
def test_implausible_numbers_of_a_header_are_refused(keyword, value, tmp_path):
    image, _ = scene(1)
    path = write(tmp_path / "x_flc.fits", science(image, "COUNTS/S"), **ACS)
    patched(path, keyword, value)
    with pytest.raises(InvalidFileError, match=rf"{keyword} is 1[eE]\+?300"):
        clean_file(path, SMALL, "none")


def many_extensions(path: Path, number: int) -> Path:
    image = scene(1, (32, 32))[0]
    hdus = [science(image, version=version) for version in range(1, number + 1)]
    return write(path, *hdus, checksum=False, **{**ACS, "INSTRUME": "X"})


@pytest.mark.slow
def test_the_time_for_many_extensions_grows_with_their_number(tmp_path):
    seconds = []
    for number in (20, 80):
        path = many_extensions(tmp_path / f"{number}.fits", number)
        started = time.process_time()
        read_exposure(path)
        clean_file(path, SMALL, "medmask")
        seconds.append(time.process_time() - started)
    assert seconds[1] < 7 * seconds[0]  # 4 times as many


def _npz(header: str, data: bytes = b"") -> bytes:
    text = header.ljust(118 - 1) + "\n"
    return _npz_of(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data)


def _npz_of(member: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mask.npy", member)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        _npz("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"cos\nsystem\n"),
        _npz("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 10000000), }"),
        _npz("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }", bytes(10**6)),
        _npz("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, 2), }", bytes(10**7)),
        _npz("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 0, 0), }"),
        _npz_of(b"\x93NUMPY\x02\x00" + (3_900_000_000).to_bytes(4, "little") + b" " * 10**7),
    ],
    ids=["no archive", "objects", "too large", "longer than announced", "negative", "many without pixels", "header"],
)
def test_npz_files_of_masks_that_are_hostile_are_refused(content, tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(
        InvalidFileError, match=r"m\.npz\[mask\]: (cannot be read as an npz file|announces 1000000 x|holds 1000000 masks)"
    ):
        read_masks(MaskFile(path, "mask", hashlib.sha256(content).hexdigest()), [1])
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


LONG = 40_000  # characters of a value that goes on over CONTINUE cards


@pytest.mark.parametrize(
    ("keyword", "value"), [("BUNIT", "a" + " " * LONG + "x"), ("BUNIT", "." * LONG), ("GAIN", "1" * LONG + "x")]
)
def test_a_long_text_in_a_header_costs_neither_time_nor_lines(keyword, value, tmp_path):
    pieces = [value[start : start + 60] for start in range(0, len(value), 60)]  # by hand: astropy takes as long to write it
    texts = [
        f"{keyword:8}= '{pieces[0]}&'",
        *(f"CONTINUE  '{piece}&'" for piece in pieces[1:-1]),
        f"CONTINUE  '{pieces[-1]}'",
    ]
    fixed = ("SIMPLE  =                    T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 36", "NAXIS2  = 40")
    header = "".join(f"{card:80}" for card in (*fixed, *texts, "END"))
    path = tmp_path / "frame.fits"
    path.write_bytes(header.encode() + b" " * (-len(header) % 2880) + bytes(2880))
    start = time.process_time()
    with pytest.raises(InvalidFileError) as raised:
        read_exposure(path)
    assert time.process_time() - start < 5
    assert len(str(raised.value)) < 3000


@pytest.mark.parametrize("name", ["A_ORDER", "B_ORDER", "AP_ORDER"])
def test_a_distortion_of_absurd_order_is_refused_at_once(name, tmp_path):
    path = acs_flc(tmp_path / "jtest01q_flc.fits")
    with fits.open(path, mode="update") as hdus:
        for hdu in hdus:
            if hdu.header.get("EXTNAME") == "SCI":
                hdu.header.update(
                    {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, name: 20_000}
                )
    start = time.process_time()
    with pytest.raises(InvalidFileError, match=rf"its header has {name} *= 20000, as no calibrated exposure has it"):
        read_facts(path, read_recipe(find_recipe("acs-wfc")).instrument)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("labels", ["astrodrizzle", "dithers"])
@pytest.mark.parametrize(
    "cards",
    [
        [("A_1_1", "NTERMS: 3")],
        [("DQ2", "NAXES: 2000000000"), ("DQ2", "NAXES: 2")],
        [("DP2", "NAXES: 2"), ("DP2", "NAXES: 2")],
        [("DP1", "NAXES: 2000000000")],
        [("WCSAXES", 10_000)],
        [("WCSAXES", -1)],
        [("CRVAL1", 1e300)],
        [("CD1_1", 0.0), ("CD1_2", 0.0)],
        [("CTYPE1", 5)],
        [("CRPIX1", "x")],
    ],
)
def test_odd_cards_of_coordinates_are_refused_or_not_read(cards, labels, tmp_path):
    """In the C library below astropy some are a segmentation fault."""
    path = acs_flc(tmp_path / "x_flc.fits")
    begun = time.process_time()
    with fits.open(path, mode="update") as hdus:
        for hdu in (hdus[1], hdus[4]):
            hdu.header.remove("A_ORDER", ignore_missing=True)
            for name, value in cards:
                hdu.header.remove(name, ignore_missing=True)
                hdu.header.append((name, value))
    try:
        read_facts(path, read_recipe(find_recipe("acs-wfc")).instrument, labels)
    except InvalidFileError as error:  # some are not read, and do no harm
        assert re.search(r"place on the sky \(WCS\) cannot be read|its header has", str(error))  # noqa: PT017
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("mjd", [1e300, -1e9, 1e12])
def test_a_time_that_is_none_leaves_exposures_to_be_grouped(mjd, tmp_path, monkeypatch):
    folder = settings_of(tmp_path / "settings", monkeypatch)
    describe(folder / "my.yaml", time_keywords=None)
    write_frame(tmp_path / "frame.fits", EXPSTART=mjd, PROPOSID="1e300")
    (facts,) = with_visits(
        read_facts(tmp_path / "frame.fits", read_recipe(write_recipe(tmp_path / "r.yaml")).instrument, "cr_split")
    )
    assert (facts.start_mjd, facts.proposal, facts.visit) == (0, 0, "FIELD_1")


@pytest.mark.parametrize(("place", "scale"), [(15.0, 1e-4), (190.0, 1e-4), (10.0, 1.0), (10.0, 1e-12)])
def test_frames_that_no_grid_can_hold_are_not_aligned(place, scale):
    def frame(seed, ra, cd):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [ra, 10.0], [48, 48]
        wcs.wcs.cd = np.diag([-cd, cd])
        return Frame(np.random.default_rng(seed).normal(100, 5, (96, 96)).astype(np.float32), np.ones((96, 96), bool), wcs)

    _, alignments = align([frame(1, 10.0, 1e-4), frame(2, place, scale)], 100.0, 4)
    if scale > 1e-6:
        assert alignments.count(None) == 1


# tiles of compressed images

HCOMPRESS = b"\xdd\x99" + struct.pack(">2i", 64, 96)


def tiled(path: Path, kind: str, tile: tuple[int, int] = (64, 96), name: str = "SCI", **options: float) -> Path:
    image, _ = scene(1)
    stored = image if options else image.clip(0).astype(np.int32)
    hdu = fits.CompImageHDU(stored, fits.Header({"BUNIT": "ELECTRONS"}), name, kind, tile, **options)
    return write(path, *([] if name == "SCI" else [science(image)]), hdu, checksum=False, **ACS)


def with_stream(path: Path, stream: bytes) -> Path:
    """The file with another stream of its only tile."""
    other = path.with_name("other.fits")
    with fits.open(path, disable_image_compression=True) as hdus:
        form = hdus[1].columns["COMPRESSED_DATA"].format.partition("(")[0] + "()"
        streams = np.empty(1, object)
        streams[0] = np.frombuffer(stream, ">i2" if "I" in form else "u1")
        table = fits.BinTableHDU.from_columns([fits.Column("COMPRESSED_DATA", form, array=streams)])
        cards = [card for card in hdus[1].header.cards if card.keyword.startswith(("Z", "EXTNAME", "BUNIT"))]
        table.header.update({card.keyword: card.value for card in cards})
        fits.HDUList([hdus[0], table]).writeto(other)
    return other


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS"])
@pytest.mark.parametrize("tile", [(64, 96), (20, 36)])
def test_sound_tiles_are_read_as_before_also_smaller_ones_at_the_edges(kind, tile, tmp_path):
    path = tiled(tmp_path / "x.fits", kind, tile)
    with fits.open(path) as hdus:
        assert np.array_equal(fitsfiles.image_values(hdus[1], "x"), scene(1)[0].clip(0).astype(np.int32))


@pytest.mark.parametrize("sides", [(96, 64), (65, 96), (128, 128), (-64, 96), (2**31 - 1, 2)])
@pytest.mark.parametrize("name", ["SCI", "DQ"])
def test_a_stream_that_announces_other_sides_than_its_tile_is_refused(sides, name, tmp_path):
    path = tiled(tmp_path / "x.fits", "HCOMPRESS_1", name=name)
    data = path.read_bytes()
    path.write_bytes(data.replace(HCOMPRESS, b"\xdd\x99" + struct.pack(">2i", *sides)))
    with pytest.raises(InvalidFileError, match=rf"its tile 1 announces {sides[0]} x {sides[1]} pixels: expected 64 x 96"):
        read_exposure(path)


def test_an_extension_that_is_not_read_but_changed_is_checked_too(tmp_path):
    path = tiled(tmp_path / "x.fits", "HCOMPRESS_1", name="DQ")
    data = path.read_bytes()
    path.write_bytes(data.replace(HCOMPRESS, b"\xdd\x99" + struct.pack(">2i", 128, 128)))
    with pytest.raises(InvalidFileError, match="its DQ extension: is damaged: its tile 1 announces 128 x 128 pixels"):
        clean_file(path, SMALL, "medmask", ignore_dq="all")


@pytest.mark.parametrize("name", ["WCSDVARR", "D2IMARR"])
def test_an_image_of_a_distortion_is_checked_before_the_build_reads_it(name, tmp_path):
    path = tiled(tmp_path / "x.fits", "HCOMPRESS_1", name=name)
    data = path.read_bytes()
    path.write_bytes(data.replace(HCOMPRESS, b"\xdd\x99" + struct.pack(">2i", 128, 128)))
    with pytest.raises(InvalidFileError, match=f"its extension {name}: is damaged: its tile 1 announces 128 x 128"):
        read_facts(path, read_recipe(find_recipe("acs-wfc")).instrument)


@pytest.mark.parametrize("name", ["ERR", "SAMP", "TIME"])
def test_a_compressed_extension_is_checked_before_drizzlepac_gets_its_pixels(name, tmp_path):
    path = tiled(tmp_path / "x.fits", "HCOMPRESS_1", name=name)
    data = path.read_bytes()
    path.write_bytes(data.replace(HCOMPRESS, b"\xdd\x99" + struct.pack(">2i", 128, 128)))
    files = [(path, hashlib.sha256(path.read_bytes()).hexdigest())]
    with pytest.raises(DrizzleError, match=rf"x\.fits: {name}: is damaged: its tile 1 announces 128 x 128"):
        drizzle_visit(files, tmp_path, DrizzleBlock(), 0, None, tmp_path / "logs" / "log")


@pytest.mark.parametrize("kind", ["GZIP_1", "GZIP_2"])
def test_a_tile_that_unpacks_to_more_than_its_pixels_is_refused_within_bounds(kind, tmp_path):
    path = with_stream(tiled(tmp_path / "x.fits", kind), gzip.compress(bytes(200 << 20), 1))
    tracemalloc.start()
    with pytest.raises(InvalidFileError, match="its tile 1 unpacks to more than its 6,144 pixels"):
        read_exposure(path)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("kind", "stream", "problem"),
    [
        ("PLIO_1", struct.pack(">8h", 0, 7, -100, 0, 2000, 0, 0, 16384), "announces 65,536,000 words and has 8"),
        ("PLIO_1", struct.pack(">8h", 0, -30000, -100, 8, 0, 0, 0, 16384), "announces 8 words and has 8"),
        ("PLIO_1", struct.pack(">4h", 0, 0, 30000, 0), "announces 30,000 words and has 4"),
        ("PLIO_1", struct.pack(">8h", 0, 7, -100, 8, 0, 0, 0, 4097), "announces 8 words and has 8"),
        ("PLIO_1", struct.pack(">2h", 0, 0), "is no PLIO_1 list"),
        ("RICE_1", b"\x12" + bytes(100_000), "is no RICE_1 stream of its 6,144 pixels"),
        (
            "HCOMPRESS_1",
            HCOMPRESS + bytes(12) + b"\xff" * 40,
            "announces coefficients of more than 64 bits",
        ),
        ("HCOMPRESS_1", HCOMPRESS + bytes(12) + b"\x10" * 3, "ends too early"),
        ("HCOMPRESS_1", b"\xdd\x99", "is no HCOMPRESS_1 stream"),
    ],
)
def test_a_stream_that_leads_beyond_its_end_is_refused(kind, stream, problem, tmp_path):
    with pytest.raises(InvalidFileError, match=f"its tile 1 {problem}"):
        read_exposure(with_stream(tiled(tmp_path / "x.fits", kind), stream))


@pytest.mark.parametrize(
    ("kind", "keyword", "value", "problem"),
    [
        ("RICE_1", "ZVAL2", "-1", "BYTEPIX = -1: expected one of 1, 2, 4"),
        ("RICE_1", "ZVAL2", "8", "BYTEPIX = 8: expected one of 1, 2, 4"),
        ("RICE_1", "ZVAL1", "100000", "BLOCKSIZE = 100000: expected one of 16, 32"),
        ("RICE_1", "ZTILE1", "-8", "announces tiles of 64 x -8 pixels"),
        ("HCOMPRESS_1", "ZTILE1", "8", "it has 1 tiles: expected 12"),
        ("HCOMPRESS_1", "ZNAXIS2", "32", "announces 64 x 96 pixels: expected 32 x 96"),
    ],
)
def test_a_header_with_which_the_decoder_would_leave_its_memory_is_refused(kind, keyword, value, problem, tmp_path):
    with pytest.raises(InvalidFileError, match=problem):
        read_exposure(patched(tiled(tmp_path / "x.fits", kind), keyword, value))


@pytest.mark.parametrize("seed", ["-9999", "0", "10001", "9223372036854775807", "1.5"])
def test_a_seed_of_the_dither_that_the_standard_does_not_have_is_refused(seed, tmp_path):
    path = tiled(tmp_path / "x.fits", "RICE_1", (1, 96), quantize_method=1, dither_seed=5)
    with pytest.raises(InvalidFileError, match=r"its header has ZDITHER0 = .*: expected 1 to 10000"):
        read_exposure(patched(path, "ZDITHER0", seed))


def test_streams_that_share_bytes_a_thousand_times_are_refused(tmp_path):
    path = tiled(tmp_path / "x.fits", "RICE_1", (1, 1))
    with fits.open(path, disable_image_compression=True) as hdus:
        place, rows, heap = hdus[1].fileinfo()["datLoc"], hdus[1].header["NAXIS2"], hdus[1].header["PCOUNT"]
    data = bytearray(path.read_bytes())
    data[place : place + 8 * rows] = struct.pack(">2i", heap, 0) * rows
    path.write_bytes(data)
    with pytest.raises(InvalidFileError, match="the streams of its column COMPRESSED_DATA share bytes"):
        read_exposure(path)
    data[place : place + 8] = struct.pack(">2i", heap, 8)
    path.write_bytes(data)
    with pytest.raises(InvalidFileError, match="a stream of its column COMPRESSED_DATA lies outside of its data"):
        read_exposure(path)


@pytest.mark.parametrize("items", [2**62, -(2**62), 2**61, 2**63 - 1])
@pytest.mark.parametrize("place", [0, 2**62, 2**63 - 1])
def test_sizes_of_streams_that_overflow_are_refused(items, place, tmp_path):
    path = tiled(tmp_path / "x.fits", "PLIO_1")
    with fits.open(path, disable_image_compression=True) as hdus:
        header = hdus[1].header.copy()
        rows, heap = (
            header["NAXIS2"],
            hdus[1]._get_raw_data(header["PCOUNT"], np.uint8, hdus[1]._data_offset + hdus[1]._theap),
        )
        primary = hdus[0].header.tostring().encode()
    header.update(TFORM1="1QJ(100)", NAXIS1=16, THEAP=16 * rows)  # four bytes an item
    data = struct.pack(">2q", items, place) * rows + heap.tobytes()
    path.write_bytes(primary + header.tostring().encode() + data + bytes(-len(data) % 2880))
    with pytest.raises(InvalidFileError, match="a stream of its column COMPRESSED_DATA lies outside of its data"):
        read_exposure(path)


# products that are not as they were written


@pytest.mark.parametrize("ending", ["_crclean.fits", "_crmask.fits", "_crpreview.png"])
def test_a_product_that_was_cut_off_is_made_again_with_a_word(ending, tmp_path, recwarn):
    path = acs_flc(tmp_path / "x_flc.fits")
    clean_file(path, SMALL, "medmask", preview=True)
    product = tmp_path / f"x_flc{ending}"
    size = product.stat().st_size
    os.truncate(product, size - 2880)
    again = clean_file(path, SMALL, "medmask", preview=True)
    assert (again.status, product.stat().st_size) == ("cleaned", size)
    assert any(f"x_flc{ending} is made again: it is damaged (" in caution for caution in again.cautions)
    assert not [one for one in recwarn if "truncated" in str(one.message)]
    assert clean_file(path, SMALL, "medmask", preview=True).status == "finished"


@pytest.mark.parametrize("ending", ["_crclean.fits", "_crmask.fits"])
def test_a_product_that_was_changed_by_hand_stays_and_is_replaced_only_if_asked(ending, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    clean_file(path, SMALL, "medmask")
    product = tmp_path / f"x_flc{ending}"
    whole = product.read_bytes()
    with fits.open(product, disable_image_compression=True) as hdus:
        place = hdus[1].fileinfo()["datLoc"]
    changed = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    product.write_bytes(changed)
    with pytest.raises(OutputError, match=f"x_flc{ending}: was changed by hand, or damaged"):
        clean_file(path, SMALL, "medmask")
    assert product.read_bytes() == changed
    assert clean_file(path, SMALL, "medmask", overwrite=True).status == "cleaned"
    assert clean_file(path, SMALL, "medmask").status == "finished"


@pytest.mark.parametrize(("ending", "name"), [("_crmask.fits", "CRPROB"), ("_crclean.fits", "DQ")])
def test_a_product_without_an_extension_that_it_had_stays(ending, name, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    clean_file(path, SMALL, "medmask", prob=True)
    product = tmp_path / f"x_flc{ending}"
    with fits.open(product, mode="update", checksum=True) as hdus:
        del hdus[name, 1]
    edited = product.read_bytes()
    with pytest.raises(OutputError, match=r"was changed by hand, or damaged \(it has"):
        clean_file(path, SMALL, "medmask", prob=True)
    assert product.read_bytes() == edited


@pytest.mark.parametrize("keeps_sums", [True, False])
@pytest.mark.parametrize("more", [{"preview": True}, {"inpaint": "medmask"}])
def test_a_mask_that_was_changed_by_hand_stays_if_further_products_are_asked_for(more, keeps_sums, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    clean_file(path, SMALL, "none")
    product = tmp_path / "x_flc_crmask.fits"
    with fits.open(product) as hdus:
        hdus["CRMASK", 1].data[5, 5:9] = 1
        hdus.writeto(tmp_path / "edited.fits", checksum=not keeps_sums)
    shutil.move(tmp_path / "edited.fits", product)
    edited = product.read_bytes()
    with pytest.raises(OutputError, match="was changed by hand, or damaged"):
        clean_file(path, **{"model": SMALL, "inpaint": "none", **more})
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x_flc.fits", "x_flc_crmask.fits"]
    assert product.read_bytes() == edited


def test_a_further_product_leaves_those_that_are_finished(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    done = clean_file(path, SMALL, "medmask")
    before = {one: (os.stat(one).st_mtime_ns, os.stat(one).st_ino) for one in done.outputs}
    assert clean_file(path, SMALL, "medmask", preview=True).status == "cleaned"
    assert {one: (os.stat(one).st_mtime_ns, os.stat(one).st_ino) for one in before} == before
    assert (tmp_path / "x_flc_crpreview.png").exists()


@pytest.mark.parametrize("value", [1.5, "abc", True, 10**12, "x" * 60])
def test_a_card_of_a_product_with_any_value_is_told(value, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    clean_file(path, SMALL, "medmask")
    for keyword in ("CRFORMAT", "CRSHA256", "CRTHRESH", "CRGROW", "CRINPUT"):
        with fits.open(tmp_path / "x_flc_crmask.fits") as hdus:
            hdus[0].header[keyword] = value
            hdus.writeto(tmp_path / "edited.fits", overwrite=True)
        before = (tmp_path / "x_flc_crmask.fits").read_bytes()
        shutil.move(tmp_path / "edited.fits", tmp_path / "x_flc_crmask.fits")
        with pytest.raises(OutputError, match=f"was made otherwise .{keyword} is "):
            clean_file(path, SMALL, "medmask")
        (tmp_path / "x_flc_crmask.fits").write_bytes(before)


def test_a_card_of_a_product_that_cannot_be_read_is_told(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    clean_file(path, SMALL, "medmask")
    product = tmp_path / "x_flc_crmask.fits"
    for card in (b"CRTHRESH= 1.0.0.0 xx", b"CRFORMAT= \x80\xff", b"CRGROW  = (1,2,3"):
        data = bytearray(product.read_bytes())
        place = data.find(card[:8])
        data[place : place + 80] = card.ljust(80)
        product.write_bytes(data)
        with pytest.raises(OutputError, match="was made otherwise"):
            clean_file(path, SMALL, "medmask")
        clean_file(path, SMALL, "medmask", overwrite=True)


def test_a_copy_of_an_exposure_with_a_wrong_checksum_is_finished(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    data = path.read_bytes()
    with fits.open(path) as hdus:
        place = hdus["ERR", 1].fileinfo()["datLoc"]
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert [clean_file(path, SMALL, "medmask").status for _ in range(2)] == ["cleaned", "finished"]


@pytest.mark.slow
def test_a_primary_header_of_more_than_a_million_bytes_is_cleaned_and_finished(tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.extend([("HISTORY", f"step {number}") for number in range(13_000)])
    assert [clean_file(path, SMALL, "medmask").status for _ in range(2)] == ["cleaned", "finished"]


def test_an_array_that_takes_no_memory_before_it_is_computed_is_refused():
    model = deepcr_zoo.load(SMALL, "cpu")
    for huge in (np.broadcast_to(np.float32(5), (10**6, 10**6)), np.broadcast_to(np.float32(5), (10**3, 10**5, 10**5))):
        with pytest.raises(InvalidImageError, match=r"image of 1,000.* pixels takes .* GB of memory are free"):
            model.mask(huge)
