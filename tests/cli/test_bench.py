"""``deepcr-zoo bench``: what it takes, says, writes and exits with; the figures are tested in tests/bench/."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deepcr_zoo.bench.results import read_results
from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import DeepcrZooError, OutputError, UnknownModelError, UsageError
from tests.bench.stamps import recipe_of, write_dataset

NAME = "ACS-WFC-F606W-2-4"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"), recipe_of(), ("globular_cluster",))


def bench(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_a_model_gets_a_report_and_results_in_a_folder_of_its_name(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = bench(NAME, "--data", dataset.folder, "--against", "none,ACS-WFC-F606W-2-32", "--no-runtime")
    assert done.exit_code == 0, done.output
    report = Path(done.stdout.split()[-1])
    assert report == Path("bench", f"mask-{NAME}@1.0", "report.html")
    assert "Synthetic data" in report.read_text()
    results = read_results(report.with_name("results.json"))
    assert [one.name for one in results.methods] == [f"mask/{NAME}@1.0", "mask/ACS-WFC-F606W-2-32@1.0"]
    assert "passes its gates" in done.stdout
    assert list(report.with_name("report").glob("*.png"))


@pytest.mark.slow
def test_results_of_other_models_or_data_in_the_folder_of_that_name_stay(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--against", "none", "--no-runtime"]
    other_data = write_dataset(tmp_path / "home", recipe_of(), ("extragalactic",))
    assert bench(NAME, "--data", dataset.folder, *options).exit_code == 0
    (results,) = tmp_path.glob("bench/*/results.json")
    before = results.read_bytes()
    refused = bench(NAME, "--data", other_data.folder, *options)
    assert isinstance(refused.exception, OutputError)
    assert "holds a benchmark on other data, which would be replaced" in str(refused.exception)
    assert results.read_bytes() == before
    assert bench(NAME, "--data", dataset.folder, *options).exit_code == 0
    results.parent.rename(tmp_path / "bench" / "2-models")
    refused = bench(NAME, "ACS-WFC-F606W-2-32", "--data", dataset.folder, *options)
    assert f"holds a benchmark of mask/{NAME}@1.0, which would be replaced" in str(refused.exception)


@pytest.mark.slow
def test_a_poorer_benchmark_does_not_replace_one_with_lacosmic_and_run_times(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = bench(NAME, "--data", dataset.folder)
    assert isinstance(whole.exception, SystemExit | None)
    (results,) = tmp_path.glob("bench/*/results.json")
    before = results.read_bytes()
    refused = bench(NAME, "--data", dataset.folder, "--against", "none", "--no-runtime")
    assert "holds a benchmark with run times and L.A.Cosmic, which would be lost" in str(refused.exception)
    assert results.read_bytes() == before


@pytest.mark.slow
def test_results_are_json_for_machines(dataset, tmp_path):
    done = bench(
        NAME, "--data", dataset.folder, "--against", "none", "--no-runtime", "--json", "--output-dir", tmp_path / "x"
    )
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert json.loads(done.stdout) == json.loads((tmp_path / "x" / "results.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ((), UsageError, "name a model of the zoo or the folder of a run, or give --all"),
        ((NAME,), UsageError, "expected --data RECIPE"),
        (("NOTHING",), UnknownModelError, "no such model"),
        ((NAME, "inpaint/ACS-WFC-F606W-2-32", "--data", "DATASET"), UsageError, "all of one task"),
        (("WFC3-UVIS-2-32", "--data", "DATASET"), UsageError, "normalised by the whole frame"),
        ((NAME, "--data", "nowhere"), DeepcrZooError, "nowhere"),
        ((".",), DeepcrZooError, "expected the folder of a run"),
        ((NAME, "--rehearse"), UsageError, "--rehearse: expected --data RECIPE beside it"),
        ((NAME, "--data", "DATASET", "--rehearse"), UsageError, "--rehearse: expected --data RECIPE beside it"),
        ((NAME, "--set", "train.seed=2"), UsageError, "--set: expected --data RECIPE beside it"),
        ((NAME, "--data", "DATASET", "--set", "train.seed=2"), UsageError, "--set: expected --data RECIPE beside it"),
        ((NAME, "--recipe", "acs-wfc-f606w"), UsageError, "--recipe: expected --data DIR beside it"),
        ((NAME, "--data", "acs-wfc", "--recipe", "acs-wfc"), UsageError, "--recipe: expected --data DIR beside it"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(arguments, kind, words, dataset):
    done = bench(*(dataset.folder if one == "DATASET" else one for one in arguments))
    assert isinstance(done.exception, kind)
    assert words in str(done.exception)


def test_a_folder_that_cannot_be_written_is_named(dataset, tmp_path):
    (tmp_path / "file").touch()
    done = bench(
        NAME, "--data", dataset.folder, "--against", "none", "--no-runtime", "--output-dir", tmp_path / "file" / "x"
    )
    assert isinstance(done.exception, DeepcrZooError), done.exception
    assert "cannot be written" in str(done.exception)
