from dataclasses import replace

import pytest
import yaml
from astropy.io import fits

from deepcr_zoo.errors import InvalidDocumentError, NoModelError, UnknownModelError, UsageError
from deepcr_zoo.exposures import CleanOptions
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.selection import select
from deepcr_zoo.models.images import read_image
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import read_registry
from tests.fitsfiles import ACS, DECAM, STIS, WFC3, WFPC2, scene, science, write
from tests.registries import SMALL, copy_registry
from tests.scenes import star_field

ELECTRONS, _ = scene()


def exposure_of(keywords, tmp_path, unit="ELECTRONS"):
    return read_exposure(write(tmp_path / "x.fits", science(ELECTRONS, unit), **{"BLEVCORR": "COMPLETE", **keywords}))


def exposure_of_image(image, tmp_path, unit):
    return read_exposure(write(tmp_path / "x.fits", science(image.astype("float32"), unit), **ACS))


FOR_ANY = "inpaint/CCD-ANY-3-16@1.0"


def selection_at(level, tmp_path, **options):
    """The selection for an ACS exposure whose sky has this level, e-."""
    path = write(tmp_path / "x.fits", science((ELECTRONS - 50 + level).astype("float32")), **ACS)
    return select(read_exposure(path), default_registry(), CleanOptions(**options))


def chosen(keywords, tmp_path, **options):
    checked = CleanOptions(**options)
    checked.check()
    return select(exposure_of(keywords, tmp_path), default_registry(), checked)


# Models


@pytest.mark.parametrize(
    ("keywords", "mask", "inpaint"),
    [
        (ACS, "mask/ACS-WFC-2-32@1.0", "inpaint/ACS-WFC-F606W-2-32@1.0"),
        ({**ACS, "FILTER2": "F814W"}, "mask/ACS-WFC-2-32@1.0", "inpaint/ACS-WFC-F606W-2-32@1.0"),
        ({**ACS, "FILTER2": "F475W"}, "mask/ACS-WFC-2-32@1.0", "inpaint/ACS-WFC-F606W-2-32@1.0"),
        (WFC3, "mask/WFC3-UVIS-2-32@1.0", FOR_ANY),
        ({**DECAM, "ARAWGAIN": 4.0}, "mask/DECam-2-32@1.0", FOR_ANY),
    ],
)
def test_auto_takes_the_first_choice_of_the_registry_and_says_why(keywords, mask, inpaint, tmp_path):
    selection = chosen(keywords, tmp_path)
    assert (selection.mask.reference, selection.inpaint_reference) == (mask, inpaint)
    assert selection.reasons[0].startswith(f"{mask}: first choice for ")
    assert selection.threshold == read_card(selection.mask).output.threshold
    assert selection.reasons[2] == f"threshold {selection.threshold:g}: the card's"


@pytest.mark.parametrize("keywords", [STIS, WFPC2, {}, {**ACS, "DETECTOR": "HRC"}])
def test_a_camera_without_a_network_of_its_own_gets_that_for_any_ccd(keywords, tmp_path):
    selection = chosen(keywords, tmp_path)
    assert selection.mask.entry.name == default_registry().foreign[0].model.removeprefix("mask/")
    assert read_card(selection.mask).instrument.telescope == "any"
    assert selection.inpaint_reference == FOR_ANY
    assert f"first choice for {exposure_of(keywords, tmp_path).description}" in selection.reasons[0]
    assert not any("has not been measured" in caution for caution in selection.cautions)


def test_a_registry_without_a_network_for_any_ccd_asks_for_one(tmp_path):
    registry = replace(default_registry(), foreign=())
    with pytest.raises(NoModelError, match=r"ranks no mask model for .*: give --model NAME"):
        select(exposure_of(STIS, tmp_path), registry, CleanOptions())


def test_a_network_for_any_ccd_is_chosen_by_its_rate_on_simulated_cameras(tmp_path):
    """There are no real data of the one camera that could have been meant."""
    selection = chosen(STIS, tmp_path, fpr=0.0005)
    assert "FPR 0.0005 on synthetic data" in selection.reasons[2]
    with pytest.raises(NoModelError, match="--allow-synthetic accepts those"):
        chosen(ACS, tmp_path, model="ACS-WFC-F606W-2-32", fpr=0.005)


@pytest.mark.parametrize(
    ("level", "inpaint", "reason"),
    [
        (40, "inpaint/ACS-WFC-F606W-2-32@1.0", "first choice for HST ACS/WFC"),
        (8, "inpaint/ACS-WFC-F606W-3-32@1.0", "next choice for HST ACS/WFC"),
        (0, FOR_ANY, "next choice for HST ACS/WFC"),
        (-20, FOR_ANY, "this image has -"),
        (-100, FOR_ANY, "inpaint/ACS-WFC-F606W-2-32@1.0 does well at sky levels of"),
        (10_000, FOR_ANY, "this image has 10,000 e-"),
    ],
)
def test_auto_repaints_with_what_does_well_at_the_sky_level_and_says_why(level, inpaint, reason, tmp_path):
    selection = selection_at(level, tmp_path)
    assert selection.inpaint_reference == inpaint
    assert reason in selection.reasons[1]


def test_a_registry_without_an_inpainter_for_any_camera_repaints_by_the_median(tmp_path):
    registry = replace(default_registry(), foreign=default_registry().for_any_camera("mask"))
    for keywords, level, reason in ((ACS, 0, "which no sky level biases; inpaint/ACS"), (STIS, 40, "which needs no unit")):
        path = write(tmp_path / f"{level}.fits", science((ELECTRONS - 50 + level).astype("float32")), **keywords)
        selection = select(read_exposure(path), registry, CleanOptions())
        assert selection.inpaint_reference == "medmask"
        assert reason in selection.reasons[1]


def test_the_sky_level_comes_from_a_sample_of_the_chip(tmp_path):
    image = star_field((600, 500), seed=2)[0]
    (chip,) = exposure_of_image(image / 2, tmp_path, "COUNTS").chips
    wanted = list(read_image(chip.in_unit("electron"), None).sky_levels())
    fresh = exposure_of_image(image / 2 + 1000, tmp_path, "COUNTS")
    reason = select(fresh, default_registry(), CleanOptions(SMALL)).reasons[1]
    assert f"this image has {wanted[0] + 2000:,.0f} e-" in reason
    assert "bad" not in vars(fresh.chips[0])  # no work on the whole chip


def test_a_named_model_is_taken_as_asked(tmp_path):
    selection = chosen(ACS, tmp_path, model="ACS-WFC-F606W-2-32@2", inpaint="ACS-WFC-F606W-3-32")
    assert selection.mask.reference == "mask/ACS-WFC-F606W-2-32@2.0"
    assert selection.inpaint_reference == "inpaint/ACS-WFC-F606W-3-32@1.0"


@pytest.mark.parametrize("inpaint", ["none", "medmask", "biharmonic"])
def test_inpainting_can_be_classical_or_left_out(inpaint, tmp_path):
    assert chosen(ACS, tmp_path, inpaint=inpaint).inpaint_reference == inpaint


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "inpaint/ACS-WFC-F606W-2-32"}, UsageError, "expected a model for the task mask, this one is for inpaint"),
        ({"inpaint": "mask/ACS-WFC-2-32"}, UsageError, "expected a model for the task inpaint, this one is for mask"),
        ({"model": "ACS-WFC-F606W"[:-1]}, UnknownModelError, "did you mean .*; also expected here: auto"),
        ({"inpaint": "medmsk"}, UnknownModelError, "also expected here: auto, none, medmask, biharmonic"),
        ({"threshold": 0.5, "fpr": 0.1}, UsageError, "expected one of the two"),
        ({"threshold": 2.0}, UsageError, "expected a probability between 0 and 1"),
    ],
)
def test_a_wrong_request_is_an_error(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        chosen(ACS, tmp_path, **options)


# Cautions


def test_a_model_made_for_another_instrument_is_a_caution(tmp_path):
    cautions = chosen(STIS, tmp_path, model="ACS-WFC-2-32").cautions
    assert cautions[0].startswith("mask/ACS-WFC-2-32@1.0 was made for HST ACS/WFC, this is HST STIS/CCD G430M")


def test_a_filter_that_the_model_was_not_trained_on_is_a_caution(tmp_path):
    selection = chosen({**ACS, "FILTER2": "F475W"}, tmp_path, inpaint="none")
    assert selection.cautions == ("mask/ACS-WFC-2-32@1.0 was trained on F435W, F606W, F814W, this is F475W",)


def test_within_its_domain_a_model_needs_no_caution(tmp_path):
    assert chosen(ACS, tmp_path).cautions == ()


def test_a_part_of_a_chip_is_a_caution_for_a_network_that_standardises_over_the_frame(tmp_path):
    of_the_registry, caution = chosen(WFC3, tmp_path).cautions
    assert "no rates at a fixed FPR are published" in of_the_registry
    assert caution == (
        "mask/WFC3-UVIS-2-32@1.0 was made for whole chips, because it standardises over the frame: this is a part of one"
    )


def test_a_gain_that_was_taken_by_convention_is_a_caution(tmp_path):
    path = write(tmp_path / "x.fits", science(ELECTRONS / 4, "adu"), GAIN=4.0)
    cautions = select(read_exposure(path), default_registry(), CleanOptions(SMALL)).cautions
    assert "GAIN = 4 was taken for the gain in e- per count" in cautions


def test_the_registrys_own_caution_is_passed_on(tmp_path):
    assert any("preliminary" in caution for caution in chosen({**DECAM, "ARAWGAIN": 4.0}, tmp_path).cautions)


# Operating points


def measurement(kind, date, *points):
    return {
        "date": date,
        "software": "deepcr-zoo 0.1.0",
        "command": "deepcr-zoo bench",
        "data": {"kind": kind, "description": f"{kind} test visits"},
        "operating_points": [
            {"field_type": field, "fpr": fpr, "tpr": 0.9, "threshold": threshold} for field, fpr, threshold in points
        ],
    }


def registry_with(tmp_path, *measurements):
    root = copy_registry(tmp_path / "registry", SMALL)
    content = yaml.safe_dump({"measurements": list(measurements)})
    (root / "cards" / SMALL / "1.0.results.yaml").write_text(content)
    return read_registry(root)


def at(fpr, registry, tmp_path, **options):
    return select(exposure_of(ACS, tmp_path), registry, CleanOptions(SMALL, "none", fpr=fpr, **options))


DAY, LATER = (yaml.safe_load(day) for day in ("2026-11-01", "2026-11-20"))


def test_fpr_takes_the_newest_threshold_measured_on_real_data(tmp_path):
    registry = registry_with(
        tmp_path,
        measurement("real", DAY, ("all", 0.005, 0.2), ("extragalactic", 0.001, 0.9)),
        measurement("real", LATER, ("all", 0.005, 0.3)),
        measurement("synthetic", LATER, ("all", 0.005, 0.4)),
    )
    for allow in (False, True):
        selection = at(0.005, registry, tmp_path, allow_synthetic=allow)
        assert selection.threshold == 0.3
        assert selection.reasons[2] == "threshold 0.3: FPR 0.005 on real data, 2026-11-20: real test visits"


def test_synthetic_operating_points_must_be_allowed(tmp_path):
    registry = registry_with(tmp_path, measurement("synthetic", DAY, ("all", 0.005, 0.4)))
    with pytest.raises(NoModelError, match=r"it has 0.005 \(synthetic data\); --allow-synthetic accepts"):
        at(0.005, registry, tmp_path)
    assert at(0.005, registry, tmp_path, allow_synthetic=True).threshold == 0.4


def test_an_unmeasured_rate_is_an_error_that_names_the_points_there_are(tmp_path):
    registry = registry_with(tmp_path, measurement("real", DAY, ("all", 0.005, 0.2), ("all", 0.001, 0.6)))
    with pytest.raises(NoModelError, match=r"measured at FPR 0.01; it has 0.005 .*, 0.001 \(real data\)$"):
        at(0.01, registry, tmp_path)


def test_without_results_fpr_points_to_the_threshold(tmp_path):
    with pytest.raises(NoModelError, match="it has none yet: give --threshold instead"):
        chosen(ACS, tmp_path, model="WFC3-UVIS-2-32", fpr=0.005)


def test_a_results_file_that_breaks_its_schema_is_named(tmp_path):
    registry = registry_with(tmp_path, measurement("guessed", DAY, ("all", 0.005, 0.2)))
    with pytest.raises(InvalidDocumentError, match=r"1\.0\.results\.yaml: measurements\.0\.data\.kind: expected 'real' or"):
        at(0.005, registry, tmp_path)


def test_an_exposure_of_an_unknown_instrument_is_described_by_its_header(tmp_path):
    path = write(tmp_path / "y.fits", science(ELECTRONS), INSTRUME="ALFOSC")
    assert read_exposure(path).description == "ALFOSC"
    bare = fits.PrimaryHDU(ELECTRONS, fits.Header({"BUNIT": "ELECTRONS"}))
    bare.writeto(tmp_path / "z.fits")
    assert read_exposure(tmp_path / "z.fits").description == "an instrument that its header does not name"


@pytest.mark.parametrize(
    ("keywords", "meaning"),
    [
        ({"IMAGETYP": "BIAS"}, "IMAGETYP is BIAS: this is a bias frame"),
        ({"IMAGETYP": "zero"}, "a bias frame"),
        ({"OBSTYPE": "SKYFLAT"}, "OBSTYPE is SKYFLAT: this is a flat field"),
        ({"HIERARCH ESO DPR TYPE": "FLAT,SKY"}, "a flat field"),
        ({"OBSTYPE": "ARC"}, "an exposure of a lamp"),
        ({"HIERARCH ESO DPR TYPE": "DARK"}, "a dark exposure"),
        ({"INSTRUME": "NIRSPEC"}, "an infrared array"),
        ({"TELESCOP": "HST", "INSTRUME": "ACS", "DETECTOR": "SBC"}, "no CCD"),
    ],
)
def test_a_frame_that_is_no_ccd_exposure_of_the_sky_is_a_caution(keywords, meaning, tmp_path):
    found = select(exposure_of(keywords, tmp_path), default_registry(), CleanOptions(SMALL)).cautions
    assert any(meaning in caution for caution in found)


@pytest.mark.parametrize("keywords", [ACS, STIS, {"IMAGETYP": "object"}, {"OBSTYPE": "STANDARD"}, {"IMAGETYP": "Light"}])
def test_an_exposure_of_the_sky_has_no_such_caution(keywords, tmp_path):
    found = select(exposure_of(keywords, tmp_path), default_registry(), CleanOptions(SMALL)).cautions
    assert not any("this is a" in caution and "networks were trained" in caution for caution in found)


def test_a_network_for_whole_frames_says_so_on_another_camera(tmp_path):
    cautions = select(exposure_of({}, tmp_path), default_registry(), CleanOptions("WFC3-UVIS-2-32")).cautions
    assert any("standardises over the frame, so give whole frames" in caution for caution in cautions)


def test_a_camera_without_a_network_needs_no_gain(tmp_path):
    assert select(exposure_of({}, tmp_path, "adu"), default_registry(), CleanOptions()).unit is None
