"""Which models clean an exposure, at which threshold, and what the user should be told about that."""

from __future__ import annotations

from dataclasses import dataclass

from deepcr_zoo.errors import NoModelError, UnknownModelError, UsageError
from deepcr_zoo.exposures.reading import Exposure
from deepcr_zoo.models.baselines import CLASSICAL
from deepcr_zoo.zoo.cards import Card, check_threshold, read_card
from deepcr_zoo.zoo.names import Task, for_task
from deepcr_zoo.zoo.records import threshold_at
from deepcr_zoo.zoo.registry import RankedModel, Registry, ResolvedModel

AUTO = "auto"
NO_INPAINTING = "none"


@dataclass(frozen=True)
class Selection:
    """What an exposure is cleaned with.

    Attributes
    ----------
    mask : ResolvedModel
    card : Card
        The mask model's.
    inpaint : ResolvedModel, str or None
        A model, the name of a classical method, or None for no inpainting.
    threshold : float
    reasons : tuple of str
        How each choice was made.
    cautions : tuple of str
        What may make the result worse than the user expects.
    """

    mask: ResolvedModel
    card: Card
    inpaint: ResolvedModel | str | None
    threshold: float
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]

    @property
    def network(self) -> ResolvedModel | None:
        """The inpainting model, if it is one."""
        return self.inpaint if isinstance(self.inpaint, ResolvedModel) else None

    @property
    def inpaint_reference(self) -> str:
        """``task/name@version`` of the inpainting model, the name of the method, or ``none``."""
        if isinstance(self.inpaint, ResolvedModel):
            return self.inpaint.reference
        return self.inpaint or NO_INPAINTING


def select(
    exposure: Exposure,
    registry: Registry,
    model: str = AUTO,
    inpaint: str = AUTO,
    threshold: float | None = None,
    fpr: float | None = None,
    allow_synthetic: bool = False,
) -> Selection:
    """Choose the models and the threshold for an exposure.

    Raises
    ------
    UsageError
        As `check_request`.
    UnknownModelError
        If a name means nothing.
    NoModelError
        If the registry ranks no model for the exposure, knows no operating point for `fpr`, or the inpainter takes another
        unit than the mask model.
    InvalidFileError
        If the mask model takes another unit than the file has and the gain is not known.
    """
    check_request(registry, model, inpaint, threshold, fpr, allow_synthetic)
    mask, why_mask = _mask_model(exposure, registry, model)
    card = read_card(mask)
    filler, why_inpaint = _inpainter(exposure, registry, inpaint, card)
    limit, why_threshold = _threshold(mask, card, threshold, fpr, allow_synthetic)
    cautions = [*exposure.cautions, *mask.cautions, *_outside(mask, card, exposure), *_units(card, exposure)]
    if isinstance(filler, ResolvedModel):
        cautions += [*filler.cautions, *_outside(filler, read_card(filler), exposure)]
    reasons = (f"{mask.reference}: {why_mask}", f"inpainting: {why_inpaint}", f"threshold {limit:g}: {why_threshold}")
    return Selection(mask, card, filler, limit, reasons, tuple(dict.fromkeys(cautions)))


def check_request(
    registry: Registry, model: str, inpaint: str, threshold: float | None, fpr: float | None, allow_synthetic: bool
) -> None:
    """Refuse what is wrong for every exposure.

    Raises
    ------
    UsageError
        If a threshold and a false-positive rate are given, a threshold is no probability, or a model is for another task.
    UnknownModelError
        If a name means nothing.
    NoModelError
        If a named model has no operating point for `fpr`.
    """
    if threshold is not None and fpr is not None:
        raise UsageError("a threshold and a false-positive rate are given: expected one of the two")
    if threshold is not None:
        check_threshold(threshold)
    if model != AUTO:
        mask, _ = _named(registry, "mask", model)
        if fpr is not None:
            threshold_at(mask, fpr, allow_synthetic)
    if inpaint not in (AUTO, NO_INPAINTING, *CLASSICAL):
        _named(registry, "inpaint", inpaint)


def _mask_model(exposure: Exposure, registry: Registry, model: str) -> tuple[ResolvedModel, str]:
    if model != AUTO:
        return _named(registry, "mask", model)
    ranked = _ranked(exposure, registry, "mask")
    if not ranked:
        masks = ", ".join(entry.name for entry in registry.find("mask/*"))
        raise NoModelError(
            f"{exposure.path}: the zoo ranks no mask model for {exposure.description}: name one with --model; "
            f"there are {masks}"
        )
    return registry.resolve(ranked[0].model), f"first choice for {exposure.description}: {ranked[0].reason}"


def _inpainter(exposure: Exposure, registry: Registry, inpaint: str, card: Card) -> tuple[ResolvedModel | str | None, str]:
    if inpaint == NO_INPAINTING:
        return None, "none, as asked"
    if inpaint in CLASSICAL:
        return inpaint, f"{inpaint}, as asked"
    if inpaint != AUTO:
        resolved, why = _named(registry, "inpaint", inpaint)
        if (unit := read_card(resolved).input.unit) != card.input.unit:
            raise NoModelError(
                f"{exposure.path}: {resolved.reference} takes {unit}, the mask model {card.input.unit}: "
                f"name an inpainter for the same unit, or one of {', '.join(CLASSICAL)}"
            )
        return resolved, f"{resolved.reference}, {why}"
    for ranked in _ranked(exposure, registry, "inpaint"):
        resolved = registry.resolve(ranked.model)
        if read_card(resolved).input.unit == card.input.unit:
            return resolved, f"{resolved.reference}, first choice for {exposure.description}: {ranked.reason}"
    return "medmask", f"medmask, because the zoo has no inpainting network for {exposure.description} in {card.input.unit}s"


def _named(registry: Registry, task: Task, name: str) -> tuple[ResolvedModel, str]:
    try:
        resolved = registry.resolve(for_task(name, task))
    except UnknownModelError as error:
        others = (AUTO,) if task == "mask" else (AUTO, NO_INPAINTING, *CLASSICAL)
        raise UnknownModelError(f"{error}; also expected here: {', '.join(others)}") from None
    if resolved.entry.task != task:
        raise UsageError(f"{name}: expected a model for the task {task}, this one is for {resolved.entry.task}")
    return resolved, "; ".join(["as asked", *resolved.notes])


def _ranked(exposure: Exposure, registry: Registry, task: Task) -> list[RankedModel]:
    known = exposure.instrument
    if known is None:
        return []
    return registry.ranking(task, known.telescope, known.instrument, known.detector, exposure.filter_name)


def _threshold(
    mask: ResolvedModel, card: Card, threshold: float | None, fpr: float | None, allow_synthetic: bool
) -> tuple[float, str]:
    if threshold is not None:
        return float(threshold), "as asked"
    if fpr is not None:
        return threshold_at(mask, fpr, allow_synthetic)
    assert card.output.threshold is not None  # the card's schema demands one of a mask model
    return card.output.threshold, "the card's"


def _units(card: Card, exposure: Exposure) -> list[str]:
    """Make sure that the pixels can be had in the model's unit; tell of a gain that was taken by convention."""
    cautions = []
    for chip in exposure.chips:
        chip.factor(card.input.unit)
        if exposure.instrument is None and chip.gain and chip.unit.quantity != card.input.unit:
            cautions.append(f"{chip.gain.keyword} = {chip.gain.electron_per_count:g} was taken for the gain in e- per count")
    return cautions


def _outside(model: ResolvedModel, card: Card, exposure: Exposure) -> list[str]:
    """Say where an exposure lies outside of what a model was made for."""
    made_for, known = card.instrument, exposure.instrument
    whom = f"{made_for.telescope} {made_for.instrument}/{made_for.detector}"
    if known is None or (known.telescope, known.instrument, known.detector) != (
        made_for.telescope,
        made_for.instrument,
        made_for.detector,
    ):
        return [
            f"{model.reference} was made for {whom}, this is {exposure.description}: nobody has measured how well it does"
        ]
    if card.input.normalisation == "frame-standardise" and any(
        list(chip.pixels.shape) != known.chip_shape for chip in exposure.chips
    ):
        return [f"{model.reference} was made for whole chips, because it standardises over the frame: this is a part of one"]
    if "*" not in made_for.filters and exposure.filter_name not in made_for.filters:
        found = exposure.filter_name or "no filter"
        return [f"{model.reference} was trained on {', '.join(made_for.filters)}, this is {found}"]
    return []
