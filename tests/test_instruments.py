import pytest
from astropy.io import fits

from deepcr_zoo.instruments import InstrumentTable, default_instruments
from deepcr_zoo.registry import default_registry
from tests.exposures import ACS, DECAM, STIS, WFC3, WFPC2

TABLE = default_instruments()


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
    instrument = TABLE.recognise(fits.Header(keywords))
    assert instrument is not None
    assert (instrument.name, instrument.filter_name(keywords)) == (name, filter_name)


@pytest.mark.parametrize(
    "changes", [{"DETECTOR": "HRC"}, {"INSTRUME": "WFC3", "DETECTOR": "IR"}, {"TELESCOP": "JWST"}, {"INSTRUME": ""}]
)
def test_other_detectors_are_not_taken_for_known_ones(changes):
    assert TABLE.recognise(fits.Header({**ACS, **changes})) is None


def test_a_gain_of_zero_counts_as_absent_and_settings_become_gains():
    instruments = {instrument.name: instrument for instrument in TABLE.instruments}
    assert instruments["HST STIS/CCD"].gain({"ATODGAIN": 0.0, "CCDGAIN": 1}) == 1
    assert instruments["HST STIS/CCD"].gain({"ATODGAIN": 1.01, "CCDGAIN": 1}) == 1.01
    assert instruments["HST STIS/CCD"].gain({}) is None
    assert instruments["HST WFPC2"].gain({"ATODGAIN": 7.0, "DETECTOR": 3}) == 6.90
    assert instruments["HST WFPC2"].gain({"ATODGAIN": 8.0, "DETECTOR": 3}) is None


def test_cosmic_ray_bits_are_those_of_the_detectors():
    bits = {instrument.name: instrument.cosmic_ray_bit for instrument in TABLE.instruments}
    assert bits["HST ACS/WFC"] == bits["HST WFC3/UVIS"] == 4096
    assert bits["HST STIS/CCD"] == 8192
    assert bits["DECam"] is None


def test_units_are_known_in_any_case_and_spacing():
    assert TABLE.unit("electrons / s") == TABLE.unit("ELECTRONS/S")
    assert TABLE.unit("ELECTRONS/S").per_second
    assert TABLE.unit("counts").quantity == "adu"
    assert TABLE.unit("Jy") is None


def test_the_instruments_of_the_registry_are_all_in_the_table():
    known = {(instrument.telescope, instrument.instrument) for instrument in TABLE.instruments}
    assert {(block.telescope, block.instrument) for block in default_registry().preferences} <= known


def test_a_fact_without_a_source_is_refused():
    content = TABLE.model_dump(mode="json", exclude_unset=True)
    del content["instruments"][0]["sources"]["pixel_size_um"]
    with pytest.raises(ValueError, match="a source for each fact, none stands for pixel_size_um"):
        InstrumentTable.model_validate(content)
