"""Choice of models and threshold for an exposure, with reasons and cautions for the user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deepcr_zoo.errors import NoModelError
from deepcr_zoo.exposures.framekinds import frame_kind
from deepcr_zoo.exposures.maskfiles import MaskFile, find_mask
from deepcr_zoo.exposures.options import AUTO, NO_INPAINTING, CleanOptions, named_model
from deepcr_zoo.exposures.reading import Exposure
from deepcr_zoo.exposures.usablepixels import has_bits
from deepcr_zoo.models.baselines import CLASSICAL
from deepcr_zoo.models.images import read_image, sky_sample
from deepcr_zoo.zoo.cards import ANY_TELESCOPE, Card, read_card
from deepcr_zoo.zoo.instruments import Instrument, PixelUnit, text
from deepcr_zoo.zoo.names import Task
from deepcr_zoo.zoo.records import sky_range, threshold_at
from deepcr_zoo.zoo.registry import RankedModel, Registry, ResolvedModel

MASKED = 0.5
"""Threshold of masks that are given, whose pixels are 0 and 1."""


@dataclass(frozen=True)
class Selection:
    """Models and threshold for an exposure.

    `mask` is a model, or the file of a mask that is given instead. `inpaint` is a model, the name of a classical method, or
    None for no inpainting.
    """

    mask: ResolvedModel | MaskFile
    unit: PixelUnit | None  # of the images that are searched and repainted; None is the file's own
    inpaint: ResolvedModel | str | None
    threshold: float
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]

    @property
    def mask_reference(self) -> str:
        """``task/name@version`` of the mask model, or ``mask/FILE``."""
        return f"mask/{self.mask.path.name}" if isinstance(self.mask, MaskFile) else self.mask.reference

    @property
    def mask_sha256(self) -> str:
        """Hash of the weights, or of the mask file."""
        return self.mask.sha256 if isinstance(self.mask, MaskFile) else self.mask.locked.weights.sha256

    @property
    def network(self) -> ResolvedModel | None:
        """The inpainting model; None for a classical method or no inpainting."""
        return self.inpaint if isinstance(self.inpaint, ResolvedModel) else None

    @property
    def networks(self) -> list[ResolvedModel]:
        """The mask model and the inpainting model, as far as there are any."""
        return [one for one in (self.mask, self.inpaint) if isinstance(one, ResolvedModel)]

    @property
    def inpaint_reference(self) -> str:
        """``task/name@version`` of the inpainting model, the name of the method, or ``none``."""
        if isinstance(self.inpaint, ResolvedModel):
            return self.inpaint.reference
        return self.inpaint or NO_INPAINTING


def select(exposure: Exposure, registry: Registry, options: CleanOptions) -> Selection:
    """Choose the models and the threshold for an exposure; the options have passed `CleanOptions.check`."""
    if options.mask is not None:
        return _with_mask(exposure, registry, options, Path(options.mask))
    mask, why_mask = _mask_model(exposure, registry, options.model)
    card = read_card(mask)
    inpainter, why_inpaint = _inpainter(exposure, registry, options.inpainter, card.input.pixel_unit)
    threshold, why_threshold = _threshold(mask, card, options)
    reasons = (f"{mask.reference}: {why_mask}", f"inpainting: {why_inpaint}", f"threshold {threshold:g}: {why_threshold}")
    cautions = [*exposure.cautions, *_no_image_of_the_sky(exposure), *_flagged_before(exposure, options), *mask.cautions]
    cautions += [*_outside_domain(mask, card, exposure), *_unit_cautions(card.input.pixel_unit, exposure)]
    cautions += _inpainter_cautions(inpainter, exposure)
    return Selection(mask, card.input.pixel_unit, inpainter, threshold, reasons, tuple(dict.fromkeys(cautions)))


def _with_mask(exposure: Exposure, registry: Registry, options: CleanOptions, path: Path) -> Selection:
    """Choose what repaints the cosmic rays of a mask that is given."""
    mask, unit = find_mask(path, exposure.sha256), _unit_of_inpainter(exposure, registry, options.inpainter)
    inpainter, why_inpaint = _inpainter(exposure, registry, options.inpainter, unit)
    reasons = (f"mask {mask.where}: as asked", f"inpainting: {why_inpaint}")
    cautions = [*exposure.cautions, *_no_image_of_the_sky(exposure), *_unit_cautions(unit, exposure), *mask.cautions]
    cautions += _inpainter_cautions(inpainter, exposure)
    return Selection(mask, unit, inpainter, MASKED, reasons, tuple(dict.fromkeys(cautions)))


def _unit_of_inpainter(exposure: Exposure, registry: Registry, inpaint: str) -> PixelUnit | None:
    """Return the unit of an inpainting network; the file's own for other methods, and where the gain is not known."""
    if inpaint in (NO_INPAINTING, *CLASSICAL):
        return None
    if inpaint != AUTO:
        return read_card(named_model(registry, "inpaint", inpaint)[0]).input.pixel_unit
    ranked = ranked_models(exposure.instrument, registry, "inpaint", exposure.filter_name)
    is_known = all(chip.has_electrons for chip in exposure.chips)
    return read_card(registry.resolve(ranked[0].model)).input.pixel_unit if ranked and is_known else None


def _inpainter_cautions(inpainter: ResolvedModel | str | None, exposure: Exposure) -> list[str]:
    if not isinstance(inpainter, ResolvedModel):
        return []
    return [*inpainter.cautions, *_outside_domain(inpainter, read_card(inpainter), exposure)]


def _mask_model(exposure: Exposure, registry: Registry, model: str) -> tuple[ResolvedModel, str]:
    if model != AUTO:
        return named_model(registry, "mask", model)
    ranked = ranked_models(exposure.instrument, registry, "mask", exposure.filter_name)
    if not ranked:
        raise NoModelError(f"{exposure.path}: the zoo ranks no mask model for {exposure.description}: give --model NAME")
    return registry.resolve(ranked[0].model), f"first choice for {exposure.description}: {ranked[0].reason}"


def _inpainter(
    exposure: Exposure, registry: Registry, inpaint: str, unit: PixelUnit | None
) -> tuple[ResolvedModel | str | None, str]:
    """Return what repaints images in this unit, and why."""
    if inpaint == NO_INPAINTING:
        return None, "none, as asked"
    if inpaint in CLASSICAL:
        return inpaint, f"{inpaint}, as asked"
    if inpaint != AUTO:
        resolved, why = named_model(registry, "inpaint", inpaint)
        network = read_card(resolved)
        if not _takes(network, unit):
            raise NoModelError(
                f"{exposure.path}: {resolved.reference} takes {network.input.unit}, the mask model {unit or 'any'}: "
                f"name an inpainter for the same unit, or one of {', '.join(CLASSICAL)}"
            )
        return resolved, f"{resolved.reference}, {why}"
    passed_over: list[str] = []
    for place, ranked in enumerate(ranked_models(exposure.instrument, registry, "inpaint", exposure.filter_name)):
        resolved = registry.resolve(ranked.model)
        network = read_card(resolved)
        if not _takes(network, unit):
            continue
        if problem := _outside_sky_range(resolved, network, exposure):
            passed_over.append(problem)
            continue
        choice = "next choice" if place else "first choice"
        why = f"{resolved.reference}, {choice} for {exposure.description}: {ranked.reason}"
        return resolved, "; ".join([why, *passed_over])
    if passed_over:
        return "medmask", "; ".join(["medmask, which no sky level biases", *passed_over])
    if unit is None:
        return "medmask", "medmask, which needs no unit: the mask needs none either"
    return "medmask", f"medmask, because the zoo has no inpainting network for {exposure.description} in {unit}s"


def _takes(inpainter: Card, unit: PixelUnit | None) -> bool:
    """True if an inpainter can take images in this unit."""
    return inpainter.input.pixel_unit in (None, unit)


def _outside_sky_range(model: ResolvedModel, card: Card, exposure: Exposure) -> str | None:
    """Return a text if the sky level of a chip is out of a model's range."""
    known = sky_range(model, card)
    if known is None:
        return None
    samples = [chip.part(sky_sample(chip.pixels.shape)) for chip in exposure.chips]
    levels = [level for chip in samples for level in read_image(chip.in_unit(card.input.pixel_unit), None).sky_levels()]
    outside = next((level for level in levels if not known.holds(level)), None)
    return None if outside is None else known.caution(model.reference, outside)


def ranked_models(known: Instrument | None, registry: Registry, task: Task, filter_name: str = "") -> list[RankedModel]:
    """Return the registry's models for an instrument and filter, best first, and after them those for any camera."""
    own = [] if known is None else registry.ranking(task, known.telescope, known.instrument, known.detector, filter_name)
    return [*own, *registry.for_any_camera(task)]


def _threshold(mask: ResolvedModel, card: Card, options: CleanOptions) -> tuple[float, str]:
    if options.threshold is not None:
        return float(options.threshold), "as asked"
    if options.fpr is not None:
        # of a network for any camera there are no real data of the one camera: it is measured on many simulated ones
        is_for_any = card.instrument.telescope == ANY_TELESCOPE
        return threshold_at(mask, options.fpr, options.allow_synthetic or is_for_any)
    assert card.output.threshold is not None  # the card's schema demands one of a mask model
    return card.output.threshold, "the card's"


def _unit_cautions(unit: PixelUnit | None, exposure: Exposure) -> list[str]:
    """Caution about gains assumed by convention; raise an error if a chip cannot be converted to this unit."""
    by_convention: dict[str, list[str]] = {}
    for chip in exposure.chips:
        chip.factor(unit)
        if unit is None:
            continue
        if exposure.instrument is None and chip.gain and chip.gain.keyword and chip.unit.quantity != unit:
            by_convention.setdefault(chip.gain.keyword, []).append(f"{chip.gain.electron_per_count:g}")
    return [f"{name} = {', '.join(gains)} was taken for the gain in e- per count" for name, gains in by_convention.items()]


def _outside_domain(model: ResolvedModel, card: Card, exposure: Exposure) -> list[str]:
    """Caution where an exposure lies outside the domain that a model was made for."""
    made_for, known = card.instrument, exposure.instrument
    if made_for.telescope == ANY_TELESCOPE:
        return []
    whole = card.input.normalisation == "frame-standardise"
    if known is None or (known.telescope, known.instrument, known.detector) != (
        made_for.telescope,
        made_for.instrument,
        made_for.detector,
    ):
        camera = f"{made_for.telescope} {made_for.instrument}/{made_for.detector}"
        need = "; it standardises over the frame, so give whole frames" if whole else ""
        return [
            f"{model.reference} was made for {camera}, this is {exposure.description}: its performance there has not been "
            f"measured{need}"
        ]
    if whole and any(list(chip.pixels.shape) != known.chip_shape for chip in exposure.chips):
        return [f"{model.reference} was made for whole chips, because it standardises over the frame: this is a part of one"]
    if "*" not in made_for.filters and exposure.filter_name not in made_for.filters:
        found = exposure.filter_name or "no filter"
        return [f"{model.reference} was trained on {', '.join(made_for.filters)}, this is {found}"]
    return []


def _flagged_before(exposure: Exposure, options: CleanOptions) -> list[str]:
    """Caution where flags of cosmic rays in the input make pixels unusable."""
    bits = exposure.instrument.cosmic_ray_bits if exposure.instrument else 0
    flags = [chip.quality.flags for chip in exposure.chips if chip.quality.flags is not None]
    found = sum(int(has_bits(one, bits).sum()) for one in flags) if options.reading.ignore_dq == 0 else 0
    return (
        [f"{found:,} pixels carry cosmic-ray flags and were not searched, because no bit leaves a pixel usable"]
        if found
        else []
    )


def _no_image_of_the_sky(exposure: Exposure) -> list[str]:
    """Caution where a header says that a frame is a calibration frame or not of a CCD."""
    found = frame_kind(exposure.keywords)
    if found is None:
        return []
    kind, keyword = found
    return [f"{keyword} is {text(exposure.keywords, keyword)}: this is {kind.meaning}: {kind.consequence}"]
