"""Options for cleaning files: built once, checked once, passed on whole."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from deepcr_zoo.errors import SWITCH, TEXT, Kind, UnknownModelError, UsageError, check_kinds
from deepcr_zoo.exposures import pictures
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from deepcr_zoo.models import baselines
from deepcr_zoo.models.baselines import CLASSICAL
from deepcr_zoo.zoo.cards import check_threshold
from deepcr_zoo.zoo.names import Task, is_name
from deepcr_zoo.zoo.records import threshold_at
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import Registry, ResolvedModel
from deepcr_zoo.zoo.resolving import find_model
from deepcr_zoo.zoo.runfolders import is_run_folder

AUTO = "auto"
NO_INPAINTING = "none"


MOST_GROWN = 1000
"""Largest dilation of a mask, pixels; it is made step by step."""


_NUMBER: Kind = ((int, float, type(None)), "a number or None")
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("model", "inpaint"), ((str,), "a name, or the folder of a run")),
    **dict.fromkeys(("device", "engine"), TEXT),
    **dict.fromkeys(("allow_synthetic", "overwrite", "dq_only", "prob", "preview"), SWITCH),
    **dict.fromkeys(("threshold", "fpr", "exposure_time"), _NUMBER),
    "grow": ((int,), "a whole number of pixels"),
    "unit": ((str, type(None)), "a text or None"),
    "output_dir": ((str, os.PathLike, type(None)), "a folder or None"),
    "mask": ((str, os.PathLike, type(None)), "a file or None"),
}
"""Types of options, as any text would be true and any other object fails deep inside."""


@dataclass(frozen=True)
class CleanOptions:
    """Options for cleaning files; the attributes are the parameters of `deepcr_zoo.clean_file`."""

    model: str = AUTO
    inpaint: str = AUTO
    threshold: float | None = None
    mask: str | os.PathLike[str] | None = None
    fpr: float | None = None
    allow_synthetic: bool = False
    grow: int = 0
    output_dir: str | os.PathLike[str] | None = None
    overwrite: bool = False
    dq_only: bool = False
    ignore_dq: str | int | Sequence[int] | None = None
    extension: str | int | Sequence[str | int] | None = None
    unit: str | None = None
    gain: float | str | Sequence[float] | None = None
    bias: float | str | None = None
    exposure_time: float | None = None
    prob: bool = False
    preview: bool = False
    device: str = "auto"
    engine: str = "auto"

    def __post_init__(self) -> None:
        """Take scalars of numpy for what they hold, and folders of runs by their names."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())
            elif field.name in ("model", "inpaint") and isinstance(value, os.PathLike):
                object.__setattr__(self, field.name, os.fspath(value))

    @property
    def inpainter(self) -> str:
        """`inpaint`, or ``none`` where only the DQ bit is set."""
        return NO_INPAINTING if self.dq_only else self.inpaint

    @property
    def reading(self) -> ReadingOptions:
        """What the user says of the files in place of their headers."""
        return ReadingOptions.parse(self.extension, self.unit, self.gain, self.bias, self.exposure_time, self.ignore_dq)

    def pinned(self) -> tuple[CleanOptions, list[str]]:
        """Return these options with each named model at the version that its name means now, and notes on how it was chosen.

        So all files of a batch are cleaned alike, also if a registry gets a new version meanwhile. Runs have no versions.
        """
        named: list[tuple[Task, str, str]] = [("mask", "model", self.model), ("inpaint", "inpaint", self.inpaint)]
        pinned, notes = self, []
        for task, option, name in named:
            if name in (AUTO, NO_INPAINTING, *CLASSICAL) or not is_name(name) or is_run_folder(name):
                continue
            model, _ = named_model(default_registry(), task, name)
            pinned = replace(pinned, **{option: model.reference})  # type: ignore[arg-type]
            notes += [f"{name} -> {model.reference}: {'; '.join(model.notes)}"] if model.notes else []
        return pinned, notes

    def check(self) -> None:
        """Refuse options that are wrong for every file.

        Raises
        ------
        UsageError
            If options contradict each other, are out of range, or name a model for another task.
        UnknownModelError
            If a name has no registry entry.
        NoModelError
            If the named mask model has no operating point for `fpr`.
        MissingExtraError
            If an option needs an optional dependency that is not installed.
        """
        check_kinds(vars(self), _KINDS)
        _ = self.reading
        for name in ("output_dir", "mask"):
            if "\0" in os.fspath(getattr(self, name) or ""):
                raise UsageError(f"{name} is {getattr(self, name)!r}: expected a path, which holds no NUL")
        self._check_mask()
        if not 0 <= self.grow <= MOST_GROWN:
            raise UsageError(f"grow is {self.grow}: expected a number of pixels, 0 to {MOST_GROWN}")
        if self.dq_only and self.inpaint not in (AUTO, NO_INPAINTING):
            raise UsageError(
                f"inpaint={self.inpaint} and dq_only are given: expected one of the two, dq_only repaints nothing"
            )
        if self.threshold is not None and self.fpr is not None:
            raise UsageError("a threshold and a false-positive rate are given: expected one of the two")
        if self.threshold is not None:
            check_threshold(self.threshold)
        if self.model != AUTO:
            mask, _ = named_model(default_registry(), "mask", self.model)
            if self.fpr is not None:
                threshold_at(mask, self.fpr, self.allow_synthetic)
        if self.inpaint not in (AUTO, NO_INPAINTING, *CLASSICAL):
            named_model(default_registry(), "inpaint", self.inpaint)
        if (self.device, self.engine) != (AUTO, AUTO):  # these exist everywhere, and torch is slow to load
            from deepcr_zoo.models.engines import select_engine
            from deepcr_zoo.models.model import select_device

            select_engine(self.engine, select_device(self.device))
        if self.preview:
            pictures.require_matplotlib()
        if self.inpaint == "biharmonic":
            baselines.require_scikit_image()

    def _check_mask(self) -> None:
        if self.mask is None:
            return
        without = {"model": AUTO, "threshold": None, "fpr": None, "prob": False}
        if other := next((name for name, default in without.items() if getattr(self, name) != default), None):
            raise UsageError(f"mask={self.mask} and {other} are given: expected one of the two, a mask needs no network")


_VALUE = r"(?: (?P<value>'[^']*'|[\w*,./-]*\d[\w*,./-]*(?<![.,-])|[A-Z][A-Z_]+\b|none\b|all\b|overscan\b|counts\b))?"
_PLACEHOLDERS = ("E_PER_COUNT", "LEVEL", "SECONDS", "NUMBER", "UNIT", "NAME")


def in_python(message: str) -> str:
    """Return a message with options as Python spells them: ``gain=E_PER_COUNT`` for ``--gain E_PER_COUNT``."""
    for field in fields(CleanOptions):
        option = rf"--{field.name.replace('_', '-')}(?![\w-])"
        if isinstance(field.default, bool):
            message = re.sub(option, f"{field.name}=True", message)
        else:
            message = re.sub(option + _VALUE, partial(_argument, field.name), message)
    return re.sub(r'(\b[a-z_]+=(?:"[^"]*"|\w+)) (?=[a-z_]+=)', r"\1, ", message)


def _argument(name: str, found: re.Match[str]) -> str:
    value = found["value"]
    if value is None:
        return name
    is_bare = value in _PLACEHOLDERS or value.isdecimal()
    return f"{name}={value}" if is_bare else f'{name}="{value.strip(chr(39))}"'


def named_model(registry: Registry, task: Task, name: str) -> tuple[ResolvedModel, str]:
    """Return the model that a user named for a task, and a note on how the name was resolved."""
    try:
        resolved = find_model(name, task, registry)
    except UnknownModelError as error:
        others = (AUTO,) if task == "mask" else (AUTO, NO_INPAINTING, *CLASSICAL)
        raise UnknownModelError(f"{error}; also expected here: {', '.join(others)}") from None
    if resolved.entry.task != task:
        raise UsageError(f"{name}: expected a model for the task {task}, this one is for {resolved.entry.task}")
    return resolved, "; ".join(["as asked", *resolved.notes])
