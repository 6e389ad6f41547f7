"""The mask network that a script judges, by its name or the folder of its run."""

from __future__ import annotations

from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.models.model import MaskModel


def mask_model(name: str, engine: str = "auto") -> MaskModel:
    """Return a mask network of the zoo or of a run, for the CPU."""
    model = find_subject(name).model("cpu", engine)
    if not isinstance(model, MaskModel):
        raise SystemExit(f"{name}: expected a mask network")
    return model
