import hashlib
import importlib.util
from contextlib import contextmanager

import numpy as np
import pytest

from deepcr_zoo.bench import runtime
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.measures.inpainting import draw
from deepcr_zoo.bench.measures.summary import rows
from deepcr_zoo.bench.results import read_results, write_results
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.dataset.store import MANIFEST_FILE
from deepcr_zoo.errors import DataError, DatasetError
from deepcr_zoo.machine import processor_name
from deepcr_zoo.models import baselines
from deepcr_zoo.progress import NullReporter
from deepcr_zoo.simulate import VERSION
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES
from tests.bench.stamps import EXPOSURES, layers, recipe_of, write_dataset

COMMAND = "deepcr-zoo train recipe.yaml"
ALL = [*SIMULATED_FIELD_TYPES, "all"]
FEW = "benchmark.inpainting_stamps=40"
ALONE = Extent(lacosmic=False, runtime=False, gates=False)


class Listener(NullReporter):
    """Keeps the file of every exposure that is reported."""

    def __init__(self):
        self.seen = []

    @contextmanager
    def pieces(self, activity, total):
        yield lambda piece: self.seen.append(piece.path)


def evaluate(model, dataset, recipe, reporter=None):
    """Judge a network by itself."""
    subjects = [find_subject(model.reference)]
    return benchmark(subjects, dataset, recipe, COMMAND, extent=ALONE, device="cpu", engine="torch", reporter=reporter)


def test_networks_are_timed_with_the_engine_that_they_were_judged_with(finder, dataset, monkeypatch):
    asked = []
    monkeypatch.setattr(runtime, "measure", lambda methods, on_method: (asked.append(methods), ([], []))[1])
    subjects = [find_subject(finder.reference)]
    extent = Extent(lacosmic=False, runtime=True, gates=False)
    benchmark(subjects, dataset, recipe_of(), COMMAND, extent=extent, device="cpu", engine="torch")
    load = asked[0][finder.reference].args[0]
    assert load("cpu").engine == "torch"


@pytest.fixture(scope="module")
def inpainted(painter, dataset):
    """Results of the inpainting network, and the files that were reported as judged."""
    listener = Listener()
    return evaluate(painter, dataset, recipe_of("benchmark.seed=5", FEW), listener), listener.seen


@pytest.fixture(scope="module")
def masked(finder, dataset):
    """Results of the mask network, and the files that were reported as judged."""
    listener = Listener()
    return evaluate(finder, dataset, recipe_of(), listener), listener.seen


def without_cosmic_rays(field_type):
    def change(of, tensors):
        if of == field_type:
            tensors["cosmic_rays"][:] = 0

    return change


def test_a_mask_networks_figures_are_those_of_a_count_with_numpy(masked, finder, dataset):
    recipe, (results, _) = recipe_of(), masked
    (network,) = results.methods
    assert list(network.fields) == list(results.data.pixels) == ALL
    parts = [layers(dataset, name) for name in SIMULATED_FIELD_TYPES]
    pooled = tuple(np.concatenate(same) for same in zip(*parts, strict=True))
    for name, (image, labels, ignored) in zip(ALL, [*parts, pooled], strict=True):
        logits, result, pixels = finder.logits(image), network.fields[name], results.data.pixels[name]
        assert (pixels.pixels, pixels.ignored) == (image.size, ignored.sum())
        assert pixels.cosmic_rays == np.count_nonzero(labels & ~ignored)
        hits, clean = logits[labels & ~ignored], logits[~labels & ~ignored]
        for rate in result.at_fpr:
            assert rate.tpr == np.mean(hits > rate.threshold)
            assert rate.reached_fpr == np.mean(clean > rate.threshold) <= rate.fpr
            more = np.sort(clean)[::-1][int(rate.fpr * clean.size)]  # with the next clean pixel the FPR would be too high
            assert rate.tpr == np.mean(hits > more)
        ordered = np.sort(clean)
        below = (np.searchsorted(ordered, hits, "left") + np.searchsorted(ordered, hits, "right")) / 2  # a tie is half
        assert result.area == pytest.approx(np.mean(below) / clean.size, rel=1e-12)
        assert len(result.curve) > 10
    assert [rate.fpr for rate in network.fields["all"].at_fpr] == recipe.benchmark.fprs


def test_an_inpainting_networks_errors_stand_beside_those_of_the_baselines_on_the_same_pixels(inpainted, painter, dataset):
    results, _ = inpainted
    assert [method.name for method in results.methods] == [painter.reference, "masked median", "biharmonic"]
    added = results.data.inpainting
    assert (added.per_stamp, added.stamps, added.seed) == (1, 40, 5)
    stamps = dataset.stamps("test")
    draws = draw(len(stamps), 40, 5)
    for method, fill in zip(results.methods, (painter.fill, baselines.medmask, baselines.biharmonic), strict=True):
        errors = {name: [] for name in SIMULATED_FIELD_TYPES}
        for number, other in zip(draws.stamps.tolist(), draws.others.tolist(), strict=True):
            stamp, hidden = stamps[number], stamps[other].cosmic_rays == 1
            own, ignored = stamp.cosmic_rays == 1, stamp.ignore == 1
            difference = fill(stamp.image, hidden | own).astype(float) - stamp.image
            errors[stamp.visit.field_type].append(difference[hidden & ~own & ~ignored])
        together = [np.concatenate(errors[name]) for name in SIMULATED_FIELD_TYPES]
        for name, error in zip(ALL, [*together, np.concatenate(together)], strict=True):
            found = method.fields[name].inpainting
            figures = (np.mean(error**2), np.mean(np.abs(error)), np.mean(error))
            assert (found.mse, found.mae, found.bias) == pytest.approx(figures, rel=1e-6)
            assert found.pixels == error.size
    assert results.cautions == []


def test_comparisons_of_inpainting_are_ratios_of_the_errors(inpainted):
    results, _ = inpainted
    network, *others = results.methods
    for one in results.comparisons:
        against = next(other for other in others if other.name == one.against)
        figure = {"MSE ratio": "mse", "MSE ratio in units of the noise": "mse_in_noise"}[one.quantity]
        mse = [getattr(method.fields[one.field_type].inpainting, figure) for method in (network, against)]
        assert one.value == pytest.approx(mse[0] / mse[1], rel=1e-9)
    assert len(results.comparisons) == 2 * 2 * len(ALL)


def test_results_name_model_data_command_machine_and_software(masked, finder, dataset):
    results, _ = masked
    method = results.methods[0].method
    assert (method.reference, method.sha256, method.engine) == (finder.reference, finder.sha256, "torch")
    assert results.command == COMMAND
    assert results.machine.startswith(processor_name())
    assert set(results.software) == {"deepcr-zoo", "numpy", "scipy", "torch"}
    data = results.data
    assert (data.kind, data.simulator_version, data.seeds) == ("synthetic", VERSION, [1002, 1005, 1008])
    assert data.manifest_sha256 == hashlib.sha256((dataset.folder / MANIFEST_FILE).read_bytes()).hexdigest()
    assert data.description == (
        "test stamps of ACS-WFC-F606W-2-4, simulated, 64 x 64 pixels; extragalactic: 6 of 2 exposures of 1 visit; "
        "globular cluster: 6 of 2 exposures of 1 visit; resolved galaxy: 6 of 2 exposures of 1 visit"
    )
    assert data.labels.startswith("AstroDrizzle of drizzlepac 3.11.0, driz_cr_snr 5.0 1.5, driz_cr_grow 1, ")
    assert "7 x 7" in data.ignored
    assert data.pixels["all"].exposures == 3 * EXPOSURES


def test_real_data_are_called_real(finder, tmp_path):
    recipe = recipe_of()
    data = evaluate(finder, write_dataset(tmp_path, recipe, ("extragalactic",), rehearsal=False), recipe).data
    assert (data.kind, data.simulator_version, data.seeds) == ("real", None, [])
    assert "simulated" not in data.description


@pytest.mark.parametrize("network", ["finder", "painter"])
def test_the_same_input_gives_the_same_bytes_but_for_the_date(network, request, tmp_path):
    model, recipe = request.getfixturevalue(network), recipe_of("benchmark.inpainting_stamps=5")
    dataset = write_dataset(tmp_path, recipe, ("resolved_galaxy",))
    first, second = (evaluate(model, dataset, recipe) for _ in range(2))
    write_results(first, tmp_path / "first.json")
    write_results(second.model_copy(update={"date": first.date}), tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    assert read_results(tmp_path / "first.json") == first


def test_every_exposure_is_reported_as_often_as_it_is_judged(inpainted, masked, dataset):
    everything = [group.path for group in dataset.exposures("test")]
    assert masked[1] == everything
    assert inpainted[1] == everything * 2  # errors, then photometry


def test_a_field_type_that_the_test_visits_lack_is_left_out(finder, tmp_path):
    recipe, field_types = recipe_of(), ("extragalactic", "resolved_galaxy")
    results = evaluate(finder, write_dataset(tmp_path, recipe, field_types), recipe)
    assert list(results.data.pixels) == [*field_types, "all"]
    assert results.data.seeds == [1002, 1008]


def test_a_field_type_without_cosmic_rays_has_no_rates_and_the_others_have_theirs(finder, tmp_path):
    recipe = recipe_of()
    field_types = ("extragalactic", "globular_cluster")
    dataset = write_dataset(tmp_path, recipe, field_types, without_cosmic_rays("extragalactic"))
    results = evaluate(finder, dataset, recipe)
    nothing = results.methods[0].fields["extragalactic"]
    assert [(rate.tpr, rate.threshold) for rate in nothing.at_fpr] == [(None, None)] * 3
    assert (nothing.area, nothing.curve) == (None, [])
    assert results.methods[0].fields["all"].at_fpr[-1].tpr > 0
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results


def test_where_no_pixel_can_be_judged_there_are_no_errors_of_inpainting(painter, tmp_path):
    recipe = recipe_of(FEW)

    def all_ignored(field_type, tensors):
        tensors["ignore"][:] |= field_type == "extragalactic"

    field_types = ("extragalactic", "globular_cluster")
    results = evaluate(painter, write_dataset(tmp_path, recipe, field_types, all_ignored), recipe)
    for method in results.methods:
        nothing = method.fields["extragalactic"].inpainting
        assert (nothing.pixels, nothing.mse, nothing.mae, nothing.bias) == (0, None, None, None)
        assert method.fields["all"].inpainting.mse > 0


@pytest.mark.parametrize("network", ["finder", "painter"])
def test_a_training_set_without_test_stamps_is_refused_with_the_way_out(network, request, tmp_path):
    recipe = recipe_of()
    dataset = write_dataset(tmp_path, recipe, test=False)
    with pytest.raises(DataError, match="has no test stamp to judge on: give the recipe a visit whose split is test"):
        evaluate(request.getfixturevalue(network), dataset, recipe)


@pytest.mark.parametrize("setting", ["rehearsal.seed=2000", "build.drizzle.driz_cr_snr=4.0 1.5"])
def test_a_recipe_that_the_training_set_is_not_of_is_refused(setting, finder, dataset):
    with pytest.raises(DatasetError, match="was built from another recipe"):
        evaluate(finder, dataset, recipe_of(setting))


def test_visits_of_another_version_of_the_simulator_are_refused(finder, dataset, monkeypatch):
    monkeypatch.setattr("deepcr_zoo.dataset.planned.SIMULATOR", VERSION + 1)
    with pytest.raises(DatasetError, match="was simulated by another version than"):
        evaluate(finder, dataset, recipe_of())


def test_a_change_of_the_training_alone_leaves_the_training_set_that_of_the_recipe(finder, dataset):
    assert evaluate(finder, dataset, recipe_of("name=OTHER", "train.seed=9", "benchmark.fprs=[0.01]")).methods


def test_without_scikit_image_the_median_alone_is_the_baseline_and_a_caution_says_so(painter, tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path, recipe_of(), ("extragalactic",))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "skimage" else find(name, *more))
    results = evaluate(painter, dataset, recipe_of(FEW))
    assert [method.name for method in results.methods] == [painter.reference, "masked median"]
    (caution,) = results.cautions
    assert caution.startswith("not compared with biharmonic inpainting: ")
    assert "pip install 'deepcr-zoo[baselines]'" in caution
    assert "scikit-image" not in results.software


def test_rows_for_people_hold_the_figures_field_type_by_field_type(inpainted, masked, finder, painter):
    (masks, _), (inpainting, _) = masked, inpainted
    assert [(row.method, row.field_type) for row in rows(masks)] == [(finder.reference, name) for name in ALL]
    last, result = rows(masks)[-1].figures, masks.methods[0].fields["all"]
    assert list(last) == ["TPR at FPR 0.05 %", "TPR at FPR 0.1 %", "TPR at FPR 0.5 %", "area"]
    assert list(last.values()) == [*(rate.tpr for rate in result.at_fpr), result.area]
    assert [row.method for row in rows(inpainting)[:3]] == [painter.reference, "masked median", "biharmonic"]
    errors = inpainting.methods[0].fields["extragalactic"].inpainting
    assert list(rows(inpainting)[0].figures.values()) == [errors.mse, errors.mae, errors.bias, errors.pixels]
