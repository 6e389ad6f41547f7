"""A network file of a user becomes a model of their own."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import deepcr_zoo
from deepcr_zoo.cli.cleanreport import CleanReport
from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import (
    ConversionError,
    DeepcrZooError,
    InvalidWeightsError,
    ModelWarning,
    OutputError,
    UnknownModelError,
    UsageError,
)
from deepcr_zoo.models.nets import UNet
from deepcr_zoo.models.verification import verify
from deepcr_zoo.publishing import importing
from deepcr_zoo.publishing.checking import check
from deepcr_zoo.publishing.importing import StatedFacts, import_file
from deepcr_zoo.zoo.cards import read_card
from deepcr_zoo.zoo.registries import default_registry, local_root, other_registries
from deepcr_zoo.zoo.registry import Architecture
from deepcr_zoo.zoo.resolving import find_model
from tests.fitsfiles import acs_flc
from tests.models.test_upstream import upstream_name
from tests.registries import SMALL
from tests.scenes import star_field

IMAGE, _ = star_field((64, 60), seed=3)
FACTS = StatedFacts("CSST-2-50", scale=100.0)
pytestmark = pytest.mark.filterwarnings("ignore:.*imported from a file")
SCRIPT = Path(__file__).parents[1] / "upstream" / "run_network.py"


def a_network(task="mask", depth=2, hidden=6, norm="batch", seed=1):
    """Random weights whose output differs from pixel to pixel."""
    torch.manual_seed(seed)
    network = UNet(Architecture(depth=depth, hidden=hidden, norm=norm), task)
    for name, tensor in network.state_dict().items():
        if name.endswith(".running_mean"):
            tensor.uniform_(-0.2, 0.2)
        elif name.endswith(".running_var"):
            tensor.uniform_(0.1, 0.5)
    return network.eval()


def deeper_name(ours):
    """The name of a tensor in a network of deepCR with three resolutions."""
    found = {"encoder.2": "down2.mpconv.1", "upsample.0": "up7.up", "upsample.1": "up8.up"}
    found |= {"decoder.0": "up7.conv", "decoder.1": "up8.conv"}
    for place, theirs in found.items():
        if ours.startswith(place):
            layers = {"conv1": "conv.0", "norm1": "conv.1", "conv2": "conv.3", "norm2": "conv.4"}
            rest = ours.removeprefix(f"{place}.")
            layer = rest.partition(".")[0]
            return f"module.{theirs}.{rest.replace(layer, layers.get(layer, layer), 1)}"
    return upstream_name(ours)


def upstream_state(network, depth=2):
    rename = upstream_name if depth == 2 else deeper_name
    return {rename(name): tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))


@pytest.fixture
def pth(tmp_path):
    torch.save(upstream_state(a_network()), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def found_by(network, image, scale):
    """What a mask network gives, without this package's way there."""
    with torch.inference_mode():
        return network.double()(torch.from_numpy(image / scale).double()[None, None])[0, 0].sigmoid().numpy()


def test_an_imported_network_is_a_model_for_all_commands(pth, tmp_path):
    made = import_file(pth, FACTS)
    assert made.model.reference == "local:mask/CSST-2-50@1.0"
    assert made.difference < 1e-4
    with pytest.warns(ModelWarning, match="imported from a file: no error rates are known"):
        model = deepcr_zoo.load("local:CSST-2-50")
    np.testing.assert_allclose(model.predict(IMAGE), found_by(a_network(), IMAGE, 100), atol=1e-5)
    assert deepcr_zoo.list_models("local:*") == ["local:mask/CSST-2-50"]
    assert verify(find_model("local:CSST-2-50")).verdict == "reproduces"
    card = read_card(made.model)
    assert (card.input.unit, card.input.scale, card.provenance.file.name) == ("electron", 100, "mine.pth")
    assert card.input.fingerprint is not None
    assert not any("licence" in problem for one in check(local_root()) for problem in one.problems)
    assert deepcr_zoo.pull("local:CSST-2-50", to=tmp_path / "mirror").is_file()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "expected a variance of its training, got 0"),
        (-1.0, "expected variances of 0 or more, got -1"),
        (float("nan"), "expected finite numbers"),
    ],
)
def test_a_network_whose_first_variances_are_none_is_refused(value, message, tmp_path):
    state = upstream_state(a_network())
    name = upstream_name("encoder.0.norm1.running_var")
    state[name] = torch.full_like(state[name], value)
    torch.save(state, tmp_path / "mine.pth")
    with pytest.raises(InvalidWeightsError, match=message):
        import_file(tmp_path / "mine.pth", FACTS)


@pytest.mark.parametrize("layout", ["ours", "upstream", "without prefix"])
def test_a_safetensors_file_of_either_layout_gives_the_same_network(layout, tmp_path):
    network = a_network()
    state = network.state_dict() if layout == "ours" else upstream_state(network)
    if layout == "without prefix":
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    safetensors.torch.save_file(state, tmp_path / "mine.safetensors")
    made = import_file(tmp_path / "mine.safetensors", FACTS)
    model = deepcr_zoo.models.model.load_resolved(made.model, "cpu", engine="torch")
    np.testing.assert_allclose(model.predict(IMAGE), found_by(network, IMAGE, 100), atol=1e-5)


@pytest.mark.parametrize(("task", "depth"), [("mask", 3), ("inpaint", 2), ("inpaint", 3)])
def test_task_depth_and_width_are_read_from_the_file(task, depth, tmp_path):
    torch.save(upstream_state(a_network(task, depth, hidden=5), depth), tmp_path / "mine.pth")
    made = import_file(tmp_path / "mine.pth", StatedFacts("OWN"))
    assert made.model.reference == f"local:{task}/OWN@1.0"
    assert made.architecture == Architecture(depth=depth, hidden=5, norm="batch")


NEW = ("parametrizations.weight.original0", "parametrizations.weight.original1")


@pytest.mark.parametrize("names", [("weight_g", "weight_v"), NEW])
def test_weight_normalisation_of_old_and_new_torch_is_folded(names, tmp_path):
    network = a_network(norm="none")
    plain = {name.replace("conv.3", "conv.2"): tensor for name, tensor in upstream_state(network).items()}
    state = {}
    for name, tensor in plain.items():
        module, _, parameter = name.rpartition(".")
        if parameter == "weight" and ".conv." in module:
            length = tensor.flatten(1).norm(dim=1)[:, None, None, None]
            state |= {f"{module}.{names[0]}": length, f"{module}.{names[1]}": 3 * tensor}
        else:
            state[name] = tensor
    torch.save(state, tmp_path / "mine.pth")
    made = import_file(tmp_path / "mine.pth", FACTS)
    model = deepcr_zoo.models.model.load_resolved(made.model, "cpu", engine="torch")
    np.testing.assert_allclose(model.predict(IMAGE), found_by(network, IMAGE, 100), atol=1e-5)


@pytest.mark.slow
@pytest.mark.network
def test_fifty_channels_agree_with_upstreams_own_code(upstream_sdists, tmp_path):
    torch.save(upstream_state(a_network(hidden=50)), tmp_path / "csst.pth")
    with tarfile.open(upstream_sdists / "deepCR-0.3.1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    np.savez(tmp_path / "input.npz", image=(IMAGE / 100).astype(np.float32)[None])
    release = tmp_path / "deepCR-0.3.1"
    what = [release, "unet_batchnorm", "UNet2SigmoidBatchNorm", 1, 50, tmp_path / "csst.pth"]
    subprocess.run([sys.executable, SCRIPT, *map(str, what), tmp_path / "input.npz", tmp_path / "output.npz"], check=True)
    import_file(tmp_path / "csst.pth", FACTS)
    with warnings.catch_warnings(action="ignore", category=ModelWarning):
        model = deepcr_zoo.load("local:CSST-2-50")
    np.testing.assert_allclose(model.predict(IMAGE), np.load(tmp_path / "output.npz")["image"], atol=1e-5)


def test_a_conversion_that_went_wrong_is_not_imported(pth, monkeypatch):
    right = importing.read_network

    def wrong(path):
        network = right(path)
        network.state["decoder.0.conv1.weight"] *= 1.1
        return network

    monkeypatch.setattr(importing, "read_network", wrong)
    with pytest.raises(ConversionError, match="differs from the file's own layers"):
        import_file(pth, FACTS)
    assert "local" not in other_registries()


@pytest.mark.parametrize(("unit", "stated"), [("any", {"outputs": 2}), ("electron", {"stride": 2})])
def test_stride_and_a_second_output_are_read_from_a_file_with_our_names(unit, stated, tmp_path):
    expected = Architecture(depth=2, hidden=5, norm="batch", **stated)
    safetensors.torch.save_file(UNet(expected, "inpaint").state_dict(), tmp_path / "mine.safetensors")
    assert import_file(tmp_path / "mine.safetensors", StatedFacts("MINE", unit=unit)).architecture == expected


def test_a_pth_file_may_have_our_names_too(tmp_path):
    network = a_network()
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    made = import_file(tmp_path / "mine.pth", FACTS)
    model = deepcr_zoo.models.model.load_resolved(made.model, "cpu", engine="torch")
    np.testing.assert_allclose(model.predict(IMAGE), found_by(network, IMAGE, 100), atol=1e-5)


@pytest.mark.parametrize("values", [torch.full((6,), torch.nan), -torch.ones(6), torch.ones(6, dtype=torch.uint16)])
def test_variances_that_no_network_has_are_one_sentence(values, tmp_path):
    state = a_network().state_dict() | {"encoder.0.norm1.running_var": values}
    safetensors.torch.save_file(state, tmp_path / "mine.safetensors")
    with pytest.raises(DeepcrZooError, match=r"encoder\.0\.norm1\.running_var: expected"):
        import_file(tmp_path / "mine.safetensors", FACTS)


def test_uncertainties_are_for_inpainting_in_any_unit_alone(tmp_path):
    for task, unit in (("inpaint", "electron"), ("mask", "any")):
        safetensors.torch.save_file(
            UNet(Architecture(depth=2, hidden=5, norm="batch", outputs=2), task).state_dict(), tmp_path / "a.safetensors"
        )
        with pytest.raises(UsageError, match=f"a {task} network of two outputs, for {unit}: expected one, or an inpaint"):
            import_file(tmp_path / "a.safetensors", StatedFacts("MINE", unit=unit))


def test_the_same_again_changes_nothing_and_other_facts_need_another_version(pth):
    first = import_file(pth, FACTS).model
    assert import_file(pth, FACTS).model.locked == first.locked
    with pytest.raises(ConversionError, match=r"a version never changes meaning: give --version 2\.0"):
        import_file(pth, StatedFacts("CSST-2-50", scale=1.0))
    import_file(pth, StatedFacts("CSST-2-50", "2.0", scale=1.0))
    assert find_model("local:CSST-2-50").version == "2.0"
    assert find_model("local:CSST-2-50@1").locked == first.locked


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_version_that_is_imported_during_a_batch_cleans_none_of_its_files(jobs, pth, tmp_path, monkeypatch):
    import_file(pth, FACTS)
    files = [str(acs_flc(tmp_path / f"j{number}_flc.fits")) for number in range(5)]
    before = CleanReport.add

    def add(self, outcome):
        if not self.outcomes:
            import_file(pth, StatedFacts("CSST-2-50", "2.0", scale=1.0))
        before(self, outcome)

    monkeypatch.setattr(CleanReport, "add", add)
    options = ["--model", "local:CSST-2-50", "--inpaint", "none", "--jobs", jobs, "--json"]
    done = CliRunner().invoke(app, ["clean", *files, *options])
    assert find_model("local:CSST-2-50").version == "2.0"
    models = [json.loads(line)["model"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert models == ["local:mask/CSST-2-50@1.0"] * len(files)
    other = CliRunner().invoke(app, ["clean", files[0], *options, "--output-dir", str(tmp_path / "other")])
    assert "local:CSST-2-50 -> local:mask/CSST-2-50@2.0: " in other.output


@pytest.mark.parametrize("of", ["card", "licence"])
def test_what_the_user_has_edited_is_not_replaced_although_its_entry_is_gone(of, pth):
    import_file(pth, FACTS)
    root = local_root()
    (entry,) = (root / "zoo").rglob("*.yaml")
    (mine,) = (root / "cards").rglob("*.yaml") if of == "card" else (root / "zoo" / "weights").glob("LICENSE*")
    mine.write_text(mine.read_text() + "\n# mine\n")
    entry.unlink()
    with pytest.raises(ConversionError, match=r"is another file of .*, which no entry names: move it away"):
        import_file(pth, FACTS)
    assert mine.read_text().endswith("# mine\n")
    assert not entry.exists()


def test_the_same_again_restores_files_that_were_lost_or_damaged(pth):
    model = import_file(pth, FACTS).model
    root = local_root()
    shelf = next((root / "zoo" / "weights").rglob("model.safetensors")).parent
    card = next((root / "cards").rglob("*.yaml"))
    licence = next((root / "zoo" / "weights").glob("LICENSE*"))
    before = {path: path.read_bytes() for path in (*shelf.iterdir(), card, licence)}
    shutil.rmtree(shelf)
    licence.unlink()
    card.write_bytes(card.read_bytes()[:100])
    assert import_file(pth, FACTS).model.locked == model.locked
    assert {path: path.read_bytes() for path in before} == before


def test_what_the_user_has_written_into_the_local_registry_is_not_replaced_by_the_same_again(pth):
    import_file(pth, FACTS)
    root = local_root()
    licence = next((root / "zoo" / "weights").glob("LICENSE*"))
    licence.write_text("of my institute")
    import_file(pth, FACTS)
    assert licence.read_text() == "of my institute"
    card = next((root / "cards").rglob("*.yaml"))
    edited = card.read_bytes() + b"# mine\n"
    card.write_bytes(edited)
    with pytest.raises(ConversionError, match=r"was edited, and a version never changes meaning: give --version"):
        import_file(pth, FACTS)
    assert card.read_bytes() == edited


@pytest.mark.parametrize(
    "facts",
    [
        StatedFacts("mask/X"),
        StatedFacts("a b"),
        StatedFacts("X", "1"),
        StatedFacts("X", scale=0),
        StatedFacts("X", threshold=2),
    ],
)
def test_facts_that_cannot_be_are_refused(pth, facts):
    with pytest.raises(UsageError):
        import_file(pth, facts)


def test_a_name_without_its_prefix_is_not_the_zoos_and_names_the_model(pth):
    import_file(pth, FACTS)
    with pytest.raises(UnknownModelError, match=r"did you mean local:mask/CSST-2-50\?"):
        deepcr_zoo.load("CSST-2-50")
    import_file(pth, StatedFacts(SMALL.partition("/")[2]))
    assert find_model(SMALL).origin.registry is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"[" * 1000])
@pytest.mark.parametrize("name", ["mine.pth", "mine.safetensors"])
def test_a_file_of_anything_else_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DeepcrZooError, match=re.escape(name)) as caught:
        import_file(tmp_path / name, FACTS)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="No such file"):
        import_file(tmp_path / "nowhere.pth", FACTS)


def test_the_command_prints_the_name_that_other_commands_take(pth):
    run = CliRunner().invoke(app, ["import", str(pth), "--name", "CSST-2-50", "--scale", "100", "--licence", "MIT"])
    assert run.exit_code == 0, run.output
    assert run.stdout.splitlines()[-1] == "local:mask/CSST-2-50@1.0"
    assert "if --scale 100 is right, the output of its first layer had a standard deviation of about" in run.output
    for command in (["info", "local:CSST-2-50"], ["list", "local:*"]):
        shown = CliRunner().invoke(app, command)
        assert shown.exit_code == 0
        assert "mine.pth" in shown.stdout
    assert default_registry().resolve("local:CSST-2-50").locked.weights.size > 0


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"name": "n" * 300}, "at most 80 letters"),
        ({"version": f"{'9' * 300}.0"}, "at most 80 letters"),
        ({"author": "J\udcf6rg"}, r"author is J\\udcf6rg: expected one line"),
        ({"licence": "MIT\nX: y"}, "licence is MIT X: y: expected one line"),
        ({"author": "\x1b[2J"}, r"author is \\x1b\[2J: expected one line"),
        ({"scale": 1e-170}, "scale is 1e-170: expected 1e-06 to 1e"),
        ({"unit": "photon"}, "unit is 'photon': expected one of"),
    ],
)
def test_facts_that_make_no_model_are_one_sentence(facts, problem, pth):
    with pytest.raises(UsageError, match=problem):
        import_file(pth, StatedFacts(**({"name": "CSST-2-50"} | facts)))


@pytest.mark.parametrize("name", [b"bad\xff.pth", b"esc\x1b[31m\n\n.pth", b"nel\xc2\x85\xe2\x80\xa8.pth"])
def test_any_name_of_a_file_makes_a_model_that_is_read_back(name, pth):
    path = pth.with_name(os.fsdecode(name))
    pth.rename(path)
    found = import_file(path, FACTS)
    assert verify(find_model(found.model.reference)).verdict == "reproduces"
    assert read_card(found.model).provenance.file.name.isprintable()


def test_names_that_differ_in_capitals_alone_are_refused(pth):
    import_file(pth, FACTS)
    with pytest.raises(UsageError, match="local:mask/csst-2-50: differs from local:mask/CSST-2-50 in capitals alone"):
        import_file(pth, StatedFacts("csst-2-50", scale=100.0))


@pytest.mark.parametrize("damage", ["text", "link"])
def test_nothing_is_written_into_a_registry_that_cannot_be_read(damage, pth, tmp_path):
    root = import_file(pth, FACTS).model.root
    other = root / "zoo/mask/OTHER.yaml"
    if damage == "text":
        other.write_text("x: [")
    else:
        other.symlink_to(tmp_path / "elsewhere")
    before = sorted(root.rglob("*"))
    with pytest.raises(DeepcrZooError, match=r"OTHER\.yaml"):
        import_file(pth, StatedFacts("NEW-2-50", scale=100.0))
    assert sorted(root.rglob("*")) == before


def test_a_network_that_was_imported_anew_with_another_scale_makes_other_products(pth, tmp_path):
    path = acs_flc(tmp_path / "jtest_flc.fits")

    def clean():
        return deepcr_zoo.clean_file(path, "local:CSST-2-50", "medmask", device="cpu").status

    first = import_file(pth, FACTS)
    assert [clean(), clean()] == ["cleaned", "finished"]
    shutil.rmtree(first.model.root)
    import_file(pth, StatedFacts("CSST-2-50", scale=10.0))
    with pytest.raises(OutputError, match="exists and was made otherwise"):
        clean()
