"""The networks that a script judges, by their names or the folders of their runs."""

from __future__ import annotations

from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.models.model import InpaintModel, MaskModel


def mask_model(name: str, engine: str = "auto") -> MaskModel:
    """Return a mask network of the zoo or of a run, for the CPU."""
    model = find_subject(name).model("cpu", engine)
    if not isinstance(model, MaskModel):
        raise SystemExit(f"{name}: expected a mask network")
    return model


def inpainter(name: str, engine: str = "auto") -> InpaintModel:
    """Return an inpainting network of the zoo or of a run, for the CPU."""
    model = find_subject(name).model("cpu", engine)
    if not isinstance(model, InpaintModel):
        raise SystemExit(f"{name}: expected an inpainting network")
    return model
