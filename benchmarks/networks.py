"""The networks that a script judges, by their names or the folders of their runs."""

from __future__ import annotations

from typing import TypeVar

from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.models.model import InpaintModel, MaskModel

Wanted = TypeVar("Wanted", MaskModel, InpaintModel)


def mask_model(name: str, engine: str = "auto") -> MaskModel:
    """Return a mask network of the zoo or of a run, for the CPU."""
    return _network(name, engine, MaskModel, "a mask network")


def inpainter(name: str, engine: str = "auto") -> InpaintModel:
    """Return an inpainting network of the zoo or of a run, for the CPU."""
    return _network(name, engine, InpaintModel, "an inpainting network")


def _network(name: str, engine: str, kind: type[Wanted], meant: str) -> Wanted:
    model = find_subject(name).model("cpu", engine)
    if not isinstance(model, kind):
        raise SystemExit(f"{name}: expected {meant}")
    return model
