"""Inpainting networks that say how uncertain their values are."""

from contextlib import suppress

import numpy as np
import pytest
import safetensors.torch
import torch
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty

import deepcr_zoo
from deepcr_zoo.bench.report.tables import headline
from deepcr_zoo.bench.report.wording import percent
from deepcr_zoo.bench.results import read_results
from deepcr_zoo.errors import ImageWarning, InvalidDocumentError, InvalidWeightsError, MissingExtraError
from deepcr_zoo.models import testvectors, verification
from deepcr_zoo.models.architectures import LOG_SPREAD
from deepcr_zoo.models.model import WHOLE_FRAME, load_files
from deepcr_zoo.models.networkinput import NoiseScaling
from deepcr_zoo.training.objectives import Examples, summed_loss
from deepcr_zoo.zoo.records import POOLED
from deepcr_zoo.zoo.registry import TEST_VECTOR_FILE, WEIGHTS_FILE
from tests.fitsfiles import acs_flc
from tests.noisenetworks import share_within
from tests.scenes import star_field
from tests.training.stamps import recipe_of, write_dataset

BY_NOISE = ("train.input.unit=any", "train.input.scale=1", "train.input.normalization=noise")
FINDER = "ACS-WFC-F606W-2-4"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncertain")
    recipe = recipe_of("inpaint", *BY_NOISE, "train.architecture.outputs=2", "benchmark.inpainting_stamps=5")
    dataset = write_dataset(folder / "home", test=6, recipe=recipe)
    return deepcr_zoo.train(recipe, dataset=dataset, runs=folder / "runs", prove=False, device="cpu")


@pytest.fixture(scope="module")
def painter(run):
    return run.model("cpu", "torch")


@pytest.fixture(scope="module")
def field():
    return star_field((200, 300), 3, 80.0)


def test_the_card_says_so_and_the_test_vector_is_reproduced(run, painter):
    assert run.card().output.uncertainty
    assert "Gaussian negative log-likelihood" in run.card().training.method
    vector = testvectors.read((run.folder / TEST_VECTOR_FILE).read_bytes(), "x")
    assert verification.compare(painter, vector).verdict == "reproduces"


def test_the_benchmark_says_how_often_the_truth_is_within_it(run):
    results = read_results(run.folder / "results.json")
    (method,) = (one for one in results.methods if one.method.kind == "model")
    errors = method.fields[POOLED].inpainting
    assert 0 < errors.within_1_sigma <= errors.within_2_sigma <= 1
    table = headline(results)
    place = list(table.columns).index("within 2 sigma")
    assert percent(errors.within_2_sigma) in {row[place].text for block in table.blocks for row in block.rows}


def test_it_holds_what_a_standard_deviation_holds_of_the_validation_pixels(run):
    weights = safetensors.torch.load_file(run.folder / WEIGHTS_FILE)
    assert share_within(weights, run.recipe, run.dataset()) == pytest.approx(0.6827, abs=0.01)


def test_masked_pixels_have_an_uncertainty_and_no_others(painter, field):
    image, struck = field
    values, uncertainty = painter.repaint(image, struck)
    np.testing.assert_array_equal(values, painter.fill(image, struck))
    assert (uncertainty[struck] > 0).all()
    assert np.isnan(uncertainty[~struck]).all()


def test_it_is_in_the_unit_of_the_image(painter, field):
    image, struck = field
    _, expected = painter.repaint(image, struck)
    _, found = painter.repaint(image * 4 + 1000, struck)
    np.testing.assert_allclose(found[struck], 4 * expected[struck], rtol=1e-3)


def test_tiles_and_engines_agree(run, painter, field):
    image, struck = field
    whole = painter.repaint(image, struck, tile=WHOLE_FRAME)
    others = [painter.repaint(image, struck, tile=64)]
    with suppress(MissingExtraError):
        others.append(run.model("cpu", "openvino").repaint(image, struck))
    for found in others:
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_allclose(one[struck], other[struck], rtol=1e-3)


def test_median_and_deviation_are_those_of_many_draws():
    random, shape = np.random.default_rng(1), (1, 1)
    scaling = NoiseScaling(np.full(shape, 100, np.float32), np.full(shape, 7, np.float32))
    for value, logarithm in ((0.0, -1.0), (3.0, -0.5), (-1.0, 0.0), (6.0, -2.0)):
        drawn = 100 + 7 * np.sinh(value + np.exp(logarithm) * random.standard_normal(2_000_000))
        one = slice(None)
        values = np.full(shape, value)
        assert scaling.undo(values, one, one)[0, 0] == pytest.approx(np.median(drawn), abs=4 * drawn.std() / 1400)
        assert scaling.deviation(values, np.full(shape, logarithm), one, one)[0, 0] == pytest.approx(drawn.std(), rel=0.03)


def test_no_output_of_a_network_makes_them_infinite():
    scaling, one = NoiseScaling(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)), slice(None)
    assert np.isfinite(scaling.deviation(np.array([[0.0, 12.0]]), np.array([[1e9, -1e9]]), one, one)).all()


def test_the_loss_is_the_negative_log_likelihood_of_a_gaussian():
    generator = torch.Generator().manual_seed(1)
    output, target = torch.randn((2, 2, 4, 4), generator=generator), torch.randn((2, 1, 4, 4), generator=generator)
    counted = torch.rand((2, 1, 4, 4), generator=generator) < 0.5
    spread = output[:, 1:].clamp(*LOG_SPREAD).exp()
    expected = -torch.distributions.Normal(output[:, :1], spread).log_prob(target)[counted] - 0.5 * np.log(2 * np.pi)
    found = summed_loss("inpaint", output, Examples(target, target, counted))
    torch.testing.assert_close(found, expected.sum())


def test_a_card_that_says_otherwise_than_its_network_is_refused(run):
    data = (run.folder / WEIGHTS_FILE).read_bytes()
    card = run.card()
    silent = card.model_copy(update={"output": card.output.model_copy(update={"uncertainty": False})})
    with pytest.raises(InvalidWeightsError, match="uncertainty: expected true with 2 outputs, got false"):
        load_files(data, silent, run.recipe.train.architecture, "x", "cpu")


@pytest.mark.parametrize(
    ("task", "settings"), [("mask", BY_NOISE), ("inpaint", ())], ids=["a mask network", "without the normalisation noise"]
)
def test_two_outputs_are_for_inpainting_by_noise_alone(task, settings):
    with pytest.raises(InvalidDocumentError, match="outputs"):
        recipe_of(task, *settings, "train.architecture.outputs=2")


@pytest.mark.parametrize(("kind", "power"), [(StdDevUncertainty, 1), (VarianceUncertainty, 2), (InverseVariance, -2)])
def test_the_uncertainty_of_a_ccddata_is_renewed_where_it_is_repainted(kind, power, painter, field):
    image, _ = field
    given = CCDData(image, unit=u.electron, uncertainty=kind(np.full(image.shape, 9.0)))
    done = deepcr_zoo.clean(given, FINDER, painter)
    _, expected = painter.repaint(image, done.mask)
    np.testing.assert_allclose(done.uncertainty.array[done.mask], expected[done.mask].astype(float) ** power, rtol=1e-4)
    assert (done.uncertainty.array[~done.mask] == 9).all()
    assert (given.uncertainty.array == 9).all()


def test_other_uncertainties_stay(painter, field):
    image, _ = field
    unknown = CCDData(image, unit=u.electron, uncertainty=UnknownUncertainty(np.full(image.shape, 9.0)))
    assert (deepcr_zoo.clean(unknown, FINDER, painter).uncertainty.array == 9).all()
    assert deepcr_zoo.clean(CCDData(image, unit=u.electron), FINDER, painter).uncertainty is None
    exact = CCDData(image, unit=u.electron, uncertainty=StdDevUncertainty(np.full(image.shape, 9.0)))
    assert (deepcr_zoo.clean(exact, FINDER, "medmask").uncertainty.array == 9).all()


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_it_is_put_into_the_unit_of_the_uncertainty(kind, painter, field):
    image, _ = field
    plain = CCDData(image, unit=u.electron, uncertainty=StdDevUncertainty(np.full(image.shape, 9.0)))
    own = plain.uncertainty.represent_as(kind)
    power = {StdDevUncertainty: 1, VarianceUncertainty: 2, InverseVariance: -2}[kind]
    thousands = kind(own.array * 1e-3**power, unit=(1000 * u.electron) ** power)
    expected = deepcr_zoo.clean(plain, FINDER, painter).uncertainty.array
    found = deepcr_zoo.clean(CCDData(image, unit=u.electron, uncertainty=thousands), FINDER, painter).uncertainty
    np.testing.assert_allclose(found.array, (expected * 1e-3) ** power, rtol=1e-4)


def test_one_uncertainty_for_all_pixels_becomes_one_for_each(painter, field):
    image, _ = field
    given = CCDData(image, unit=u.electron, uncertainty=StdDevUncertainty(np.array(9.0)))
    whole = CCDData(image, unit=u.electron, uncertainty=StdDevUncertainty(np.full(image.shape, 9.0)))
    found, expected = (deepcr_zoo.clean(one, FINDER, painter).uncertainty.array for one in (given, whole))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def errors_in(hdus, unit="ELECTRONS", turned=False):
    """Give the first ERR extension a unit, or another shape of as many pixels."""
    hdus["ERR", 1].header["BUNIT"] = unit
    if turned:
        hdus["ERR", 1].data = np.ascontiguousarray(hdus["ERR", 1].data.T)


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"unit": "ELECTRONS/S"}, "is in ELECTRONS/S, its chip in ELECTRONS"), ({"turned": True}, "has the shape")],
)
def test_err_in_another_unit_or_shape_stays_with_a_caution(change, problem, run, tmp_path):
    path = acs_flc(tmp_path / "j1_flc.fits", 1)
    with fits.open(path, mode="update") as hdus:
        errors_in(hdus, **change)
    with pytest.warns(ImageWarning, match=f"its ERR extension {problem}"):
        deepcr_zoo.clean_file(path, FINDER, inpaint=str(run.folder))
    with fits.open(path) as before, fits.open(tmp_path / "j1_flc_crclean.fits") as after:
        np.testing.assert_array_equal(after["ERR", 1].data, before["ERR", 1].data)
        assert problem[:20] in " ".join(" ".join(after[0].header["HISTORY"]).split())


def test_an_empty_err_of_a_raw_file_stays_and_is_no_reason_for_a_caution(run, tmp_path):
    path = acs_flc(tmp_path / "j1_flc.fits", 1)
    with fits.open(path) as hdus:
        others = [fits.ImageHDU(name="ERR", ver=1) if hdu.name == "ERR" else hdu for hdu in hdus]
        fits.HDUList(others).writeto(tmp_path / "j2_flc.fits")
    done = deepcr_zoo.clean_file(tmp_path / "j2_flc.fits", FINDER, inpaint=str(run.folder))
    assert not [caution for caution in done.cautions if "ERR" in caution]
    with fits.open(tmp_path / "j2_flc_crclean.fits") as after:
        assert after["ERR", 1].data is None


def test_err_of_a_cleaned_file_is_renewed_where_it_is_repainted(run, painter, tmp_path):
    path = acs_flc(tmp_path / "j1_flc.fits", 1)
    deepcr_zoo.clean_file(path, FINDER, inpaint=str(run.folder))
    mask = fits.getdata(tmp_path / "j1_flc_crmask.fits", ("CRMASK", 1)).astype(bool)
    with fits.open(path) as before, fits.open(tmp_path / "j1_flc_crclean.fits", checksum=True) as after:
        assert after["ERR", 1]._checksum_valid
        values, expected = painter.repaint(before["SCI", 1].data.astype(np.float32), mask)
        np.testing.assert_allclose(after["SCI", 1].data[mask], values[mask], rtol=0.01)
        np.testing.assert_allclose(after["ERR", 1].data[mask], expected[mask], rtol=0.01)
        np.testing.assert_array_equal(after["ERR", 1].data[~mask], before["ERR", 1].data[~mask])
