import numpy as np
import pytest
from astroscrappy import detect_cosmics

from deepcr_zoo.bench.measures.lacosmic import Sweep
from deepcr_zoo.bench.measures.roc import RocPoint
from deepcr_zoo.bench.measures.tally import Tally
from deepcr_zoo.errors import MissingExtraError
from deepcr_zoo.models.baselines import Lacosmic
from tests.scenes import star_field

PAPER = Lacosmic(objlim=2.0, readnoise=4.1)


def a_sweep(true, false, sigclips=(4.0, 6.0, 8.0), cosmic_rays=100, clean=10_000):
    return Sweep(Tally(np.array(sigclips), np.array([false, true]), np.array([clean, cosmic_rays])))


def test_the_mask_is_that_of_a_direct_call_of_astroscrappy():
    image, _ = star_field((120, 150), seed=1)
    other = Lacosmic(objlim=3.5, readnoise=9.0, gain=2.0, sigfrac=0.5, niter=2, sepmed=True, satlevel=900.0)
    for method, satlevel in ((PAPER, np.inf), (other, 900.0)):
        direct, _ = detect_cosmics(
            image.astype(np.float32),
            sigclip=4.5,
            sigfrac=method.sigfrac,
            objlim=method.objlim,
            gain=method.gain,
            readnoise=method.readnoise,
            niter=method.niter,
            sepmed=method.sepmed,
            satlevel=satlevel,
            cleantype="medmask",
        )
        np.testing.assert_array_equal(method.mask(image, 4.5), direct)
        assert direct.any()


def test_the_settings_are_those_of_the_paper_unless_told_otherwise():
    assert (PAPER.sigfrac, PAPER.niter, PAPER.sepmed, PAPER.gain) == (0.3, 4, False, 1.0)


def test_the_fpr_of_a_tpr_is_interpolated_and_never_extrapolated():
    swept = a_sweep(true=[90, 80, 60], false=[1000, 100, 10])
    assert swept.at_tpr(0.8) == RocPoint(6.0, pytest.approx(0.01), 0.8)
    assert swept.at_tpr(0.7) == RocPoint(pytest.approx(7.0), pytest.approx(10**-2.5), 0.7)
    assert swept.at_tpr(0.91) is swept.at_tpr(0.59) is a_sweep([9], [0], (4.0,)).at_tpr(0.09) is None


def test_tpr_at_a_fixed_fpr_is_interpolated_in_log_fpr_between_points_of_the_sweep():
    swept = a_sweep(true=[90, 80, 60], false=[1000, 100, 10])
    assert swept.points() == [RocPoint(8.0, 0.001, 0.6), RocPoint(6.0, 0.01, 0.8), RocPoint(4.0, 0.1, 0.9)]
    assert swept.at_fpr(0.01) == RocPoint(6.0, 0.01, 0.8)
    halfway = swept.at_fpr(10**-2.5)
    assert (halfway.tpr, halfway.threshold) == (pytest.approx(0.7), pytest.approx(7.0))


def test_a_point_that_nobody_would_choose_does_not_lower_the_curve():
    assert a_sweep(true=[70, 80, 60], false=[1000, 100, 10]).at_fpr(0.05).tpr == 0.8


@pytest.mark.parametrize("fpr", [0.0009, 0.11])
def test_nothing_is_extrapolated_beyond_the_sweep(fpr):
    assert a_sweep(true=[90, 80, 60], false=[1000, 100, 10]).at_fpr(fpr) is None


def test_a_sweep_without_false_positives_or_without_a_class_has_no_tpr_at_an_fpr():
    assert a_sweep(true=[90, 80, 60], false=[0, 0, 0]).at_fpr(0.01) is None
    for missing in ({"cosmic_rays": 0}, {"clean": 0}):
        swept = a_sweep(true=[0, 0, 0], false=[0, 0, 0], **missing)
        assert swept.at_fpr(0.01) is None
        assert swept.points() == []


def test_pixels_without_a_value_are_not_masked_and_do_not_spread():
    image, _ = star_field((60, 60), seed=4)
    broken = image.astype(np.float32)
    broken[30, 30] = np.nan
    mask = PAPER.mask(broken, 4.0)
    assert not mask[30, 30]
    far = np.ones_like(mask)
    far[20:41, 20:41] = False
    np.testing.assert_array_equal(mask[far], PAPER.mask(image, 4.0)[far])


def test_without_astroscrappy_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"deepcr-zoo\[baselines\]"):
        PAPER.mask(np.zeros((4, 4)), 4.0)
