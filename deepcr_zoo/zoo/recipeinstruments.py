"""What a recipe takes from the description of the instrument that it names, so that it repeats nothing of it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from deepcr_zoo.documents import shown
from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.zoo.instrumentfiles import default_instruments, instruments_beside
from deepcr_zoo.zoo.instruments import Instrument
from deepcr_zoo.zoo.recipe import ANY_PRODUCT, DetectorBlock, InstrumentBlock

NAME = "name"
"""Key under ``instrument`` that names a description."""

Content = dict[Hashable, Any]


def detector_of(block: InstrumentBlock) -> Instrument:
    """Return the description of a recipe's instrument: its own, or the one that is known by these names."""
    names = (block.telescope, block.instrument, block.detector)
    if known := block.description or default_instruments().named(*names):
        return known
    raise InvalidDocumentError(
        f"instrument: {' '.join(names)} is not described: expected one of "
        f"{', '.join(f'{one.telescope} {one.instrument} {one.detector}' for one in default_instruments())}; "
        "'deepcr-zoo instrument new FILE.fits' describes another"
    )


def fill_from_description(content: Content, origin: str, folders: Iterable[Path]) -> None:
    """Replace ``instrument.name`` by the facts of that description; what the recipe says itself is kept.

    `origin` is the place of the name, for errors; descriptions are also found in `folders`. A description that does not ship
    becomes a part of the recipe, which can then be used where it is not known.
    """
    block = content.get("instrument")
    if not isinstance(block, dict) or NAME not in block:
        return
    name = block.pop(NAME)
    known = instruments_beside(folders)
    found = known.called(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidDocumentError(
            f"{origin}: instrument.{NAME}: expected one of {', '.join(one.name for one in known)}, got {shown(name)}; "
            "'deepcr-zoo instrument new FILE.fits' describes another"
        )
    _fill(content, _facts(found.instrument))
    missing = [field for field, one in DetectorBlock.model_fields.items() if one.is_required() and field not in block]
    if missing:
        raise InvalidDocumentError(
            f"{origin}: {found.instrument.name} is described without {', '.join(missing)}: add this to {found.where}, or "
            "under instrument of the recipe"
        )


def _fill(content: Content, facts: Content) -> None:
    for key, value in facts.items():
        own = content.setdefault(key, value)
        if own is not value and isinstance(own, dict) and isinstance(value, dict):
            _fill(own, value)


def _facts(instrument: Instrument) -> Content:
    gain, level = instrument.gain_electron_per_count, instrument.saturation_count
    saturation = instrument.saturation.level_electron if instrument.saturation else None
    if saturation is None and gain is not None and level is not None:
        saturation = (level - (instrument.bias_count or 0.0)) * gain
    facts = {
        "telescope": instrument.telescope,
        "instrument": instrument.instrument,
        "detector": instrument.detector,
        "pixel_scale_arcsec": instrument.pixel_scale_arcsec,
        "pixel_size_um": instrument.pixel_size_um,
        "silicon_um": instrument.silicon_um,
        "gain_electron_per_count": gain,
        "read_noise_electron": instrument.read_noise_electron,
        "saturation_electron": saturation,
        "chips": instrument.chips or 1,
        "chip_shape": instrument.chip_shape,
    }
    block: Content = {name: fact for name, fact in facts.items() if fact is not None}
    if instrument.is_shipped:
        return {"instrument": block if instrument.chips else {name: block[name] for name in block if name != "chips"}}
    return {
        "instrument": {**block, "description": instrument.model_dump(mode="json")},
        "data": {"product": ANY_PRODUCT},
        "build": {
            "sky": "measured",
            "dark_paste": {"product": ANY_PRODUCT},
            **({} if saturation is None else {"ignore": {"saturation_electron": saturation}}),
        },
    }
