"""The page of a model on the Hub, as the Hub's own client reads it."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from functools import cache

import pytest
from huggingface_hub import ModelCard

from deepcr_zoo.errors import PublishError
from deepcr_zoo.publishing.page import PageFacts, front_matter, render
from deepcr_zoo.publishing.releases import release_of_model, with_recipe
from deepcr_zoo.zoo.cards import Figure
from deepcr_zoo.zoo.hubmodels import HubConfig
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import LockedFile, read_registry
from tests.bench.reports import mask_results
from tests.conftest import ALL_MODELS, CHECKOUT
from tests.registries import copy_registry

pytestmark = pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")


@cache
def release_of(name):
    return release_of_model(default_registry().resolve(name))


def page(name):
    return ModelCard(release_of(name).files["README.md"].decode())


SOME_MODELS = ["mask/ACS-WFC-F606W-2-4@1.0", "inpaint/ACS-WFC-F606W-2-32@1.0"]
all_models = pytest.param(ALL_MODELS, marks=pytest.mark.slow)


@pytest.mark.parametrize("names", [SOME_MODELS, all_models], ids=["some", "all"])
def test_the_front_matter_is_what_the_hub_understands(names):
    for name in names:
        found = page(name).data
        assert (found.license, found.library_name, found.model_name) == ("bsd-3-clause", "deepcr-zoo", name)
        assert found.pipeline_tag == ("image-segmentation" if name.startswith("mask/") else "image-to-image")
        assert {"astronomy", "cosmic-rays", name.partition("/")[0]} <= set(found.tags)


def test_published_figures_are_evaluation_results_with_their_source():
    card = release_of("mask/ACS-WFC-F606W-2-4@1.0").card
    found = page("mask/ACS-WFC-F606W-2-4@1.0").data.eval_results
    expected = [figure.value / 100 for evaluation in card.published_evaluation for figure in evaluation.figures]
    assert sorted(one.metric_value for one in found) == pytest.approx(sorted(expected))  # shares, as what is measured here
    assert len(expected) == 12
    for one in found:
        assert one.metric_name.endswith("(published)")
        assert one.source_name.startswith("Zhang & Bloom 2020, Table 2")
        assert one.source_url == "https://doi.org/10.3847/1538-4357/ab3fa6"


def test_the_unit_of_a_published_figure_decides_not_the_text_of_its_metric():
    release = release_of("mask/ACS-WFC-F606W-2-4@1.0")
    metric = "TPR at FPR 0.05 % (%)"
    figures = [
        Figure(field="clusters", metric=metric, unit=unit, value=value)
        for unit, value in (("percent", 94.0), ("fraction", 0.5))
    ]
    evaluation = release.card.published_evaluation[0].model_copy(update={"figures": figures})
    card = release.card.model_copy(update={"published_evaluation": [evaluation]})
    facts = PageFacts(card, release.architecture, release.locked(None).weights, release.verdict, [], [])
    shown = ModelCard(render(facts).decode())
    assert [one.metric_value for one in shown.data.eval_results] == [0.94, 0.5]
    assert "| TPR at FPR 0.05 % (%), in % |" in shown.text


@pytest.mark.parametrize("name", SOME_MODELS)
def test_the_page_has_hash_limits_gates_and_citations(name):
    text, release = page(name).text, release_of(name)
    assert f'deepcr_zoo.load("{name}")' in text
    for part in (release.locked(None).weights.sha256, *release.card.limits, release.card.citation[0].bibtex.strip()):
        assert part in text
    for gate in release.verdict.gates:
        assert f"| {gate.gate} |" in text


def test_cautions_stand_at_the_top_and_a_network_without_figures_says_so():
    text = page("mask/WFC3-UVIS-2-32@1.0").text
    assert text.index("**Caution**: no rates at a fixed FPR are published for it") < text.index("## Use it")
    assert "No rates are published for this network, and none were measured here." in text
    assert "**Caution**" not in page("mask/ACS-WFC-2-32@1.0").text


def test_operating_points_on_record_are_shown_with_their_data():
    text = page("mask/ACS-WFC-2-32@1.0").text
    assert "Operating points (synthetic data: " in text
    assert "| all field types | 0.05 % |" in text


def test_equal_facts_give_equal_bytes():
    model = default_registry().resolve("mask/ACS-WFC-F606W-2-4@1.0")
    assert release_of_model(model).files == release_of_model(model).files


@pytest.mark.parametrize("names", [SOME_MODELS, all_models], ids=["some", "all"])
def test_every_imported_seed_passes_the_gates_of_such_networks(names):
    imported = [release for release in map(release_of, names) if release.card.provenance.kind == "imported"]
    assert imported
    for release in imported:
        release.check_gates()
        assert release.verdict.gate_set == "imported"
        assert len(release.verdict.gates) == 6


def test_a_seed_that_was_trained_here_has_the_gates_of_its_data_on_record_and_those_of_its_files_anew():
    release = release_of("mask/CCD-ANY-3-16@1.0")
    release.check_gates()
    assert (release.verdict.reference, release.verdict.gate_set) == ("mask/CCD-ANY-3-16@1.0", "trained")
    measured = {gate.gate: gate.measured for gate in release.verdict.gates}
    assert measured["files are what they were"].startswith(f"sha256 {release.locked(None).weights.sha256[:12]}")
    assert measured["labels are sound"].endswith("(on 2026-11-29)")
    assert len(measured) < len(release.verdict.gates) == 23
    assert {"recipe.yaml", "results.json"} < release.files.keys()
    assert "**Measured by this project** on synthetic data" in page("mask/CCD-ANY-3-16@1.0").text


def test_texts_of_a_benchmark_are_no_tags_and_links_on_the_page():
    facts = release_of("mask/CCD-ANY-3-16@1.0").facts
    evil = "<script>alert(1)</script> [a](javascript:b)"
    gate = facts.verdict.gates[0].model_copy(update={"gate": evil, "measured": evil, "bound": evil})
    data = facts.results.data.model_copy(update={"description": evil, "labels": evil})
    results = facts.results.model_copy(update={"data": data, "machine": evil})
    verdict = facts.verdict.model_copy(update={"gates": [gate]})
    text = render(dataclasses.replace(facts, verdict=verdict, results=results)).decode().partition("\n---\n")[2]
    assert "alert(1)" in text
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "[a](" not in text.replace("\\[a\\](", "")


def test_a_network_was_trained_from_what_it_started_with_and_not_from_its_teacher():
    facts = release_of("mask/CCD-ANY-3-16@1.0").facts
    for setting, base in (("teacher", None), ("init_from", SOME_MODELS[0])):
        recipe = read_recipe(find_recipe("ccd-any-3-16"), [f"train.{setting}=ACS-WFC-F606W-2-4@1.0"])
        found = with_recipe(facts, recipe)
        assert found.base_model == base
        assert ("Fine-tuned" in render(found).decode()) == (base is not None)


def test_a_network_that_was_trained_here_is_not_published_with_the_benchmark_of_other_weights(tmp_path):
    root = copy_registry(tmp_path / "root", "mask/CCD-ANY-3-16")
    shutil.copy(CHECKOUT / "LICENSE", root / "LICENSE")
    path = root / "cards" / "mask" / "CCD-ANY-3-16" / "1.0.benchmark.json"
    model = read_registry(root).resolve("mask/CCD-ANY-3-16@1.0")
    path.write_text(path.read_text().replace(model.locked.weights.sha256, "0" * 64))
    with pytest.raises(PublishError, match="gates cannot be applied: the benchmark on record is not of these weights"):
        release_of_model(model)
    recipe = path.with_name("1.0.recipe.yaml")
    bounds = recipe.read_text()
    recipe.write_text(bounds.replace("max_star_core_rate: 0.01", "max_star_core_rate: 1"))
    with pytest.raises(PublishError, match=r"1\.0\.recipe\.yaml: is not the recipe of the card: expected sha256"):
        release_of_model(model)
    recipe.write_text(bounds)
    path.unlink()
    with pytest.raises(PublishError, match=r"benchmark\.json is missing: .* its run has it: publish that"):
        release_of_model(model)


def test_a_network_without_figures_and_without_a_caution_does_not_pass():
    model = default_registry().resolve("mask/WFC3-UVIS-2-32@1.0")
    locked = model.locked.model_copy(update={"warning": None})
    entry = model.entry.model_copy(update={"versions": {"1.0": locked}})
    verdict = release_of_model(dataclasses.replace(model, entry=entry)).verdict
    assert [gate.gate for gate in verdict.gates if gate.verdict == "fails"] == ["its published evaluation has a source"]


def test_a_licence_that_the_hub_has_no_word_for_is_other_and_named():
    block = front_matter(name="x", spdx="CECILL-2.1", tags=[], pipeline="x", base_model=None, evaluations=[])
    found = ModelCard(f"{block}\n").data
    assert (found.license, found.license_name, found.license_link) == ("other", "cecill-2.1", "LICENSE")


@pytest.mark.parametrize(
    "name",
    [
        "mask/ACS-WFC-F606W-2-4@1.0",
        pytest.param("mask/WFC3-UVIS-2-32@1.0", marks=pytest.mark.slow),
        pytest.param("inpaint/ACS-WFC-F606W-3-32@1.0", marks=pytest.mark.slow),
    ],
)
def test_the_example_of_the_page_meets_the_test_vector_without_this_package(name, tmp_path):
    assert lines_of_example_alone(release_of(name).files, tmp_path) <= 27


def lines_of_example_alone(files, folder):
    """How many lines the example of a page has, which must meet the test vector where this package is absent."""
    for filename in ("config.json", "model.safetensors", "test_vector.safetensors"):
        (folder / filename).write_bytes(files[filename])
    [example] = [code for code in code_blocks(files["README.md"]) if "safetensors" in code]
    alone = "import sys\nsys.modules['deepcr_zoo'] = None\n"
    shown = "\nprint('met', float((found - vector['expected']).abs().max() / largest))"
    command = [sys.executable, "-c", alone + example + shown]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.startswith("met "), done.stderr
    return len([line for line in example.splitlines() if line])


def code_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.decode(), flags=re.DOTALL)


def test_config_json_has_what_the_card_and_the_registry_state():
    release = release_of("mask/ACS-WFC-F606W-2-4@1.0")
    found = json.loads(release.files["config.json"])
    stated = {"family": "UNet", "in_channels": 1, "depth": 2, "hidden": 4, "norm": "batch"}
    assert found["architecture"].items() >= stated.items()
    stated = {"unit": "electron", "scale": 100.0, "normalisation": "scale", "multiple": 2, "halo": 16}
    assert found["input"] == {**stated, "formula": "x = image / scale; [x]"}
    threshold = release.card.output.threshold
    formula = "sigmoid(network([x]))"
    assert found["output"] == {"quantity": "cosmic-ray probability", "formula": formula, "threshold": threshold}
    for file in found["files"].values():
        assert LockedFile.of(release.files[file["name"]]).model_dump() == {key: file[key] for key in ("sha256", "size")}
    assert HubConfig.model_validate(found).architecture == release.architecture


def test_the_page_of_another_repository_names_its_own_address():
    release = release_of("mask/ACS-WFC-F606W-2-4@1.0")
    own, other = (release.in_repository(f"{owner}/mask-ACS-WFC-F606W-2-4") for owner in ("deepcr-zoo", "keck"))
    assert own.files == release.files
    text = other.files["README.md"].decode()
    for line in (
        'deepcr_zoo.load("hf:keck/mask-ACS-WFC-F606W-2-4@v1.0")',
        "pip install deepcr-zoo",
        "--model hf:keck/mask-ACS-WFC-F606W-2-4@v1.0",
        "No registry vouches for them",
    ):
        assert line in text
    assert '"mask/ACS-WFC-F606W-2-4@1.0"' not in text
    assert other.locked_files == release.locked_files


def test_the_name_of_a_method_is_text_in_the_table():
    results, name = mask_results(), "x<script>[a](http://b) `c`\x1b[2J"
    methods = [one.model_copy(update={"name": name}) if one.method.kind == "baseline" else one for one in results.methods]
    judged = results.methods[0].name
    facts = dataclasses.replace(
        release_of(SOME_MODELS[0]).facts, results=results.model_copy(update={"methods": methods}), method=judged
    )
    text = render(facts).decode()
    assert r"x\<script\>\[a\](http://b) \`c\`\\x1b\[2J" in text
    assert "\x1b" not in text
