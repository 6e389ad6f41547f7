import pytest
import safetensors.numpy

from deepcr_zoo.models.verification import verify
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import LockedFile, read_registry
from tests.conftest import ALL_MODELS
from tests.registries import SMALL, copy_registry, edit_entry


@pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")
@pytest.mark.parametrize("name", ALL_MODELS)
def test_every_seed_model_reproduces_its_test_vector(name):
    outcome = verify(default_registry().resolve(name))
    assert outcome.verdict == "reproduces"
    assert outcome.max_difference <= outcome.tolerance
    assert outcome.flipped_pixels in (0, None)


def test_a_model_that_gives_something_else_runs_but_differs(tmp_path):
    root = copy_registry(tmp_path)
    path = root / "zoo" / "weights" / SMALL / "1.0" / "test_vector.safetensors"
    arrays = safetensors.numpy.load(path.read_bytes())
    arrays["expected"] = 1 - arrays["expected"]
    path.write_bytes(safetensors.numpy.save(arrays))
    locked = LockedFile.of(path.read_bytes()).model_dump()
    edit_entry(root, lambda entry: entry["versions"]["1.0"].update(test_vector=locked))
    outcome = verify(read_registry(root).resolve(SMALL))
    assert outcome.verdict == "runs but differs"
    assert outcome.max_difference > 0.9
    assert outcome.flipped_pixels > 10_000


def test_a_model_with_wrong_bytes_fails_and_says_why(tmp_path):
    root = copy_registry(tmp_path)
    path = root / "zoo" / "weights" / SMALL / "1.0" / "model.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    outcome = verify(read_registry(root).resolve(SMALL))
    assert outcome.verdict == "fails"
    assert f"expected {size} bytes, found {size - 1}" in outcome.reason


def test_a_test_vector_without_its_arrays_fails(tmp_path):
    root = copy_registry(tmp_path)
    path = root / "zoo" / "weights" / SMALL / "1.0" / "test_vector.safetensors"
    path.write_bytes(safetensors.numpy.save({"image": safetensors.numpy.load(path.read_bytes())["image"]}))
    edit_entry(root, lambda e: e["versions"]["1.0"].update(test_vector=LockedFile.of(path.read_bytes()).model_dump()))
    outcome = verify(read_registry(root).resolve(SMALL))
    assert outcome.verdict == "fails"
    assert "expected: expected a tensor, got none" in outcome.reason
