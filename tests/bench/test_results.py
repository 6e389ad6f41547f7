import datetime
import json
import math
from functools import cache

import numpy as np
import pytest

from deepcr_zoo.bench.measures import roc
from deepcr_zoo.bench.measures.detectionresults import field_result
from deepcr_zoo.bench.measures.lacosmic import Sweep
from deepcr_zoo.bench.measures.tally import tally_masks
from deepcr_zoo.bench.results import (
    RESULTS_FILE,
    BaselineMethod,
    BenchmarkResults,
    Data,
    MethodResult,
    ModelMethod,
    PixelCounts,
    check_replaced,
    keep_results,
    read_results,
    write_results,
)
from deepcr_zoo.errors import InvalidDocumentError, OutputError
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.zoo.records import OperatingPoint
from tests.bench.reports import NETWORK, OTHER, mask_results
from tests.scenes import star_field

FPRS = [0.0005, 0.01]


@cache
def measured():
    """Return the results of two methods on two synthetic images."""
    images = [star_field((100, 120), seed) for seed in (1, 2)]
    scores = [image.astype(np.float32) for image, _ in images]
    networks = [roc.count(score, labels) for score, (_, labels) in zip(scores, images, strict=True)]
    sigclips = (3.0, 6.0, 20.0)
    first, second = (
        tally_masks([Lacosmic(2.0, 4.0).mask(image, sigclip) for sigclip in sigclips], sigclips, labels.astype(int), 2)
        for image, labels in images
    )
    network = field_result(roc.merge(networks).curve(), FPRS)
    baseline = field_result(Sweep(first + second), FPRS)
    cosmic_rays = int(sum(labels.sum() for _, labels in images))
    return BenchmarkResults(
        date=datetime.date(2026, 11, 23),
        command="python x.py",
        machine="a processor",
        software={"deepcr-zoo": "0.1.0"},
        data=Data(
            kind="synthetic",
            description="star fields",
            labels="the truth",
            ignored="none",
            simulator_version=1,
            seeds=[1, 2],
            pixels={"all": PixelCounts(exposures=2, pixels=24_000, cosmic_rays=cosmic_rays, ignored=0)},
        ),
        methods=[
            MethodResult(
                name="brightness",
                method=ModelMethod(reference="mask/x@1.0", sha256="0" * 64, engine="torch", device="cpu"),
                score="logit",
                fields={"all": network},
            ),
            MethodResult(
                name="L.A.Cosmic",
                method=BaselineMethod(
                    name="lacosmic",
                    parameters={"objlim": {"all": 2.0}, "niter": 4, "sepmed": False, "sigclip": [3.0], "fsmode": "median"},
                    packages={"astroscrappy": "1.3.0"},
                ),
                score="sigclip",
                fields={"all": baseline},
            ),
        ],
    )


def test_results_are_read_as_they_were_written_and_written_the_same_each_time(tmp_path):
    results = measured()
    write_results(results, tmp_path / "results.json")
    again = read_results(tmp_path / "results.json")
    assert again == results
    assert again.methods[1].method.parameters["sepmed"] is False
    assert type(again.methods[1].method.parameters["niter"]) is int
    write_results(again, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "results.json").read_bytes()


def test_the_file_is_plain_json_without_nan(tmp_path):
    write_results(measured(), tmp_path / "results.json")
    text = (tmp_path / "results.json").read_text()
    assert text.endswith("}\n")
    content = json.loads(text, parse_constant=pytest.fail)
    assert content["format"] == 2
    assert content["date"] == "2026-11-23"


def test_figures_are_those_of_the_curve():
    images = [star_field((100, 120), seed) for seed in (1, 2)]
    counts = [roc.count(image.astype(np.float32), labels) for image, labels in images]
    curve = roc.merge(counts).curve()
    result = field_result(curve, FPRS)
    assert result.area == curve.area()
    for rate in result.at_fpr:
        point = curve.at_fpr(rate.fpr)
        assert (rate.tpr, rate.reached_fpr, rate.threshold) == (point.tpr, point.fpr, point.threshold)
    assert [point.tpr for point in result.curve] == [point.tpr for point in curve.points()]


def test_missing_rates_are_null_in_the_file(tmp_path):
    nothing = roc.count(np.zeros((2, 2), np.float32), np.zeros((2, 2), bool))
    result = field_result(nothing.curve(), FPRS)
    assert [(rate.tpr, rate.reached_fpr, rate.threshold) for rate in result.at_fpr] == [(None,) * 3] * 2
    assert (result.area, result.curve) == (None, [])


def test_a_threshold_becomes_the_operating_point_of_a_models_own_results():
    rate = measured().methods[0].fields["all"].at_fpr[1]
    probability = 1 / (1 + math.exp(-rate.threshold))
    point = OperatingPoint(field_type="all", fpr=rate.fpr, tpr=rate.tpr, threshold=probability)
    assert point.fpr == 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(surprise=1), "surprise: expected no such key"),
        (lambda content: content["data"].pop("labels"), "data.labels: expected a value, got none"),
        (lambda content: content["data"].update(kind="real"), "data: expected simulator_version and seeds exactly if"),
        (lambda content: content["data"]["pixels"]["all"].update(ignored=24_000), "at least as many pixels"),
        (
            lambda content: content["methods"][0]["fields"].update(other={}),
            "the field types of data.pixels for every",
        ),
        (lambda content: content["methods"][0]["fields"]["all"]["at_fpr"][0].update(tpr=1.5), "less than or equal to 1"),
        (lambda content: content["methods"][1]["method"].update(kind="guess"), "methods.1.method: expected"),
        (lambda content: content.update(format=3), "format: expected 2"),
    ],
)
def test_a_file_that_breaks_the_schema_is_refused_with_the_place(change, message, tmp_path):
    path = tmp_path / "results.json"
    write_results(measured(), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidDocumentError, match=message) as error:
        read_results(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "expected a JSON document"), ('{"format": 1, "format": 1}', "the key 'format' appears twice"), ("\xff", "JSON")],
)
def test_files_that_are_not_json_are_refused(text, message, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidDocumentError, match=message):
        read_results(path)


def inpainted(*figures):
    """Return the document of results of inpainting methods."""
    content = measured().model_dump(mode="json")
    content["data"]["inpainting"] = {"per_stamp": 1, "seed": 1}
    content["methods"] = [{**content["methods"][1], "fields": {"all": {"inpainting": one}}} for one in figures]
    return json.dumps(content)


def test_errors_of_inpainting_are_read_as_they_were_written(tmp_path):
    errors = {"pixels": 2, "mse": 4.5, "mae": 1.5, "bias": -1.5}
    results = BenchmarkResults.model_validate_json(inpainted(errors, {**errors, "bias": 1.5}))
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results
    assert results.methods[0].fields["all"].inpainting.model_dump() == errors


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ([{"pixels": 2, "mse": 1.0, "mae": 1.0}], "mse, mae and bias exactly if there are pixels"),
        ([{"pixels": 0, "mse": 1.0, "mae": 1.0, "bias": 0.0}], "mse, mae and bias exactly if there are pixels"),
        ([{"pixels": 0}, None], "data.inpainting exactly if all methods inpaint"),
        ([{"pixels": n, "mse": 1.0, "mae": 1.0, "bias": 0.0} for n in (2, 3)], "the same number of filled pixels"),
    ],
)
def test_errors_of_inpainting_that_contradict_each_other_are_refused(figures, message, tmp_path):
    (tmp_path / "results.json").write_text(inpainted(*figures))
    with pytest.raises(InvalidDocumentError, match=message):
        read_results(tmp_path / "results.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidDocumentError, match=r"nothing.json: cannot be read: No such file"):
        read_results(tmp_path / "nothing.json")


@pytest.mark.parametrize("group", ["star_cores", "cosmic_ray_size", "regions"])
def test_rates_of_other_than_the_working_points_are_refused(group, tmp_path):
    content = json.loads(mask_results().model_dump_json())
    found = next(iter(content["methods"][0]["fields"].values()))["diagnostics"][group][0]
    found["tprs" if group == "regions" else "rates"].pop()
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(InvalidDocumentError, match="one at each of working_points"):
        read_results(tmp_path / "results.json")


def test_a_benchmark_without_gates_may_be_replaced_by_one_of_the_same_models(tmp_path):
    # as `train --no-prove` leaves it
    whole = mask_results()
    alone = whole.model_copy(update={"verdicts": [], "runtime": [], "excluded": [], "methods": whole.methods[:1]})
    write_results(alone, tmp_path / RESULTS_FILE)
    on = alone.data.manifest_sha256
    check_replaced(tmp_path, [NETWORK], on, lacosmic=True, runtime=True)
    with pytest.raises(OutputError, match=f"holds a benchmark of {NETWORK}, which would be replaced"):
        check_replaced(tmp_path, [OTHER], on, lacosmic=True, runtime=True)


def test_results_on_other_data_are_replaced_in_the_folder_of_a_run_alone_where_they_are_kept(tmp_path):
    earlier = mask_results()
    names = [NETWORK, *(one.reference for one in earlier.excluded)]
    write_results(earlier, tmp_path / RESULTS_FILE)
    with pytest.raises(OutputError, match="holds a benchmark on other data"):
        check_replaced(tmp_path, names, "0" * 64, lacosmic=True, runtime=True)
    check_replaced(tmp_path, names, "0" * 64, lacosmic=False, runtime=False, is_of_run=True)
    keep_results(tmp_path, earlier.data.manifest_sha256)
    assert [*tmp_path.glob("results-*")] == []
    keep_results(tmp_path, "0" * 64)
    assert read_results(tmp_path / f"results-{earlier.data.manifest_sha256[:8]}.json") == earlier


def test_results_of_a_newer_version_are_not_replaced_and_cut_off_ones_are(tmp_path):
    path = tmp_path / RESULTS_FILE
    content = json.loads(mask_results().model_dump_json()) | {"format": 99}
    path.write_text(json.dumps(content))
    with pytest.raises(OutputError, match="holds results that cannot be read"):
        check_replaced(tmp_path, [NETWORK], "0" * 64, lacosmic=True, runtime=True)
    path.write_text(json.dumps(content)[:1000])
    check_replaced(tmp_path, [NETWORK], "0" * 64, lacosmic=True, runtime=True)


def test_a_command_with_bytes_that_are_no_text_can_be_recorded(tmp_path):
    alone = mask_results().model_copy(update={"command": "deepcr-zoo bench runs\udcff"})
    write_results(alone, tmp_path / RESULTS_FILE)
    assert read_results(tmp_path / RESULTS_FILE).command == "deepcr-zoo bench runs\\udcff"
