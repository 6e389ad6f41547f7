import contextlib

import numpy as np
import pytest
from astropy import units
from astropy.io import fits

from deepcr_zoo.zoo.instrumentfiles import default_instruments
from deepcr_zoo.zoo.instruments import Gain, InstrumentTable, number, shipped_table, text
from deepcr_zoo.zoo.registries import default_registry
from tests.fitsfiles import ACS, DECAM, STIS, WFC3, WFPC2

TABLE = shipped_table()
KNOWN = default_instruments()


@pytest.mark.parametrize(
    ("keywords", "name", "filter_name"),
    [
        (ACS, "HST ACS/WFC", "F606W"),
        ({**ACS, "FILTER1": "F435W", "FILTER2": "CLEAR2L"}, "HST ACS/WFC", "F435W"),
        ({**ACS, "FILTER1": "F606W", "FILTER2": "POL0V"}, "HST ACS/WFC", "F606W+POL0V"),
        (WFC3, "HST WFC3/UVIS", "F606W"),
        (WFPC2, "HST WFPC2", "F606W"),
        (STIS, "HST STIS/CCD", "G430M"),
        ({**STIS, "OPT_ELEM": "MIRVIS", "FILTER": "F28X50LP"}, "HST STIS/CCD", "F28X50LP+MIRVIS"),
        (DECAM, "DECam", "g"),
    ],
)
def test_an_instrument_is_recognised_by_its_header(keywords, name, filter_name):
    instrument = KNOWN.recognise(fits.Header(keywords))
    assert instrument is not None
    assert (instrument.name, instrument.filter_name(keywords)) == (name, filter_name)


@pytest.mark.parametrize(
    "changes", [{"DETECTOR": "HRC"}, {"INSTRUME": "WFC3", "DETECTOR": "IR"}, {"TELESCOP": "JWST"}, {"INSTRUME": ""}]
)
def test_other_detectors_are_not_taken_for_known_ones(changes):
    assert KNOWN.recognise(fits.Header({**ACS, **changes})) is None


def test_a_gain_of_zero_counts_as_absent_and_settings_become_gains():
    instruments = {instrument.name: instrument for instrument in TABLE.instruments}
    stis, wfpc2 = instruments["HST STIS/CCD"], instruments["HST WFPC2"]
    assert stis.gain({"ATODGAIN": 0.0, "CCDGAIN": 1}) == Gain(1, "CCDGAIN")
    assert stis.gain({"ATODGAIN": 1.01, "CCDGAIN": 1}) == Gain(1.01, "ATODGAIN")
    assert stis.gain({"ATODGAIN": "1.01"}) == Gain(1.01, "ATODGAIN")
    assert stis.gain({"ATODGAIN": "none", "CCDGAIN": True}) is None
    assert stis.gain({"CCDGAIN": np.float32(2)}) == Gain(2, "CCDGAIN")
    assert wfpc2.gain({"ATODGAIN": 7.0, "DETECTOR": 3}) == Gain(6.90, "ATODGAIN")
    assert wfpc2.gain({"ATODGAIN": 8.0, "DETECTOR": 3}) is None
    assert wfpc2.gain({"ATODGAIN": 7.0}) is None


def test_a_value_that_is_absent_undefined_or_unreadable_is_no_text():
    header = fits.Header.fromstring(f"{'BUNIT   =':80}{'FILTER1 = CLEAR1L':80}{'GAIN    =  2.0':80}")
    assert [text(header, name) for name in ("BUNIT", "FILTER1", "NOTHING", "GAIN")] == ["", "", "", "2.0"]
    assert KNOWN.recognise(header) is None


def test_cosmic_ray_bits_are_those_of_the_detectors():
    bits = {instrument.name: instrument.cosmic_ray_bit for instrument in TABLE.instruments}
    assert bits["HST ACS/WFC"] == bits["HST WFC3/UVIS"] == 4096
    assert bits["HST STIS/CCD"] == 8192
    assert bits["DECam"] is None


@pytest.mark.parametrize("unit", [units.electron, units.adu, units.count, units.DN], ids=str)
def test_units_are_known_as_astropy_writes_them(unit):
    quantity = "electron" if unit == units.electron else "adu"
    for per_second, found in ((False, unit), (True, unit / units.s)):
        for spelling in spellings(found):
            known = TABLE.unit(spelling)
            assert (known.quantity, known.per_second) == (quantity, per_second), spelling


def spellings(unit):
    """How astropy writes a unit in each of the styles that can."""
    for style in ("generic", "fits", "vounit", "ogip", "cds", "console"):
        with contextlib.suppress(ValueError):
            yield unit.to_string(style)


@pytest.mark.parametrize(
    ("spelling", "quantity", "per_second"),
    [
        ("electrons / s", "electron", True),
        ("electron.s-1", "electron", True),
        ("electron s**-1", "electron", True),
        ("e-/s", "electron", True),
        ("ELECTRONS/SEC", "electron", True),
        ("counts", "adu", False),
        (" DN ", "adu", False),
        ("counts / pixel", "adu", False),
        ("DN/s/pixel", "adu", True),
        ("DN/pixel/s", "adu", True),
        ("electrons/pixel", "electron", False),
        ("electron pix-1", "electron", False),
        ("ADUs", "adu", False),
        ("data number", "adu", False),
        ("electron s-1 pixel-1", "electron", True),
    ],
)
def test_units_are_known_in_any_case_and_spelling(spelling, quantity, per_second):
    assert (TABLE.unit(spelling).quantity, TABLE.unit(spelling).per_second) == (quantity, per_second)


NO_COUNTS = ["Jy", "mJy/beam", "Jy/pixel", "nanomaggy", "mag", "pixel", "electron/pixel2", "ELECTRONS/HOUR", "S-1"]


@pytest.mark.parametrize("spelling", [*NO_COUNTS, "counts s", ""])
def test_other_units_are_not(spelling):
    assert TABLE.unit(spelling) is None


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("4.0D2", 400),
        (" 12 ", 12),
        (3, 3),
        ("low", None),
        ("", None),
        (True, None),
        ("inf", None),
        ("nan", None),
        ("T", None),
    ],
)
def test_a_number_is_read_however_it_is_stored(stored, expected):
    assert number({"KEY": stored}, "KEY") == expected


def test_the_instruments_of_the_registry_are_all_in_the_table():
    known = {(instrument.telescope, instrument.instrument) for instrument in TABLE.instruments}
    assert {(block.telescope, block.instrument) for block in default_registry().preferences} <= known


def test_a_fact_without_a_source_is_refused():
    content = TABLE.model_dump(mode="json", exclude_unset=True)
    del content["instruments"][0]["sources"]["pixel_size_um"]
    with pytest.raises(ValueError, match="a source for each fact, none stands for pixel_size_um"):
        InstrumentTable.model_validate(content)
