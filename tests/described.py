"""A described camera, a recipe that names it, and a settings folder of its own, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.groundframes import SHAPE

SAID = "header"
CAMERA: dict[str, Any] = {
    "name": "My camera",
    "telescope": "Test 1.0m",
    "instrument": "TestCam",
    "detector": "CCD",
    "recognise": {"TELESCOP": "Test 1.0m", "INSTRUME": "TestCam"},
    "filter_keywords": ["FILTER"],
    "gain_keywords": ["GAIN"],
    "gain_electron_per_count": 1.8,
    "read_noise_keywords": ["RDNOISE"],
    "read_noise_electron": 6.0,
    "target_keywords": ["TARGET"],
    "time_keywords": ["DATE-OBS"],
    "chip_shape": list(SHAPE),
    "pixel_size_um": 13.5,
    "pixel_scale_arcsec": 0.4,
    "unit_if_absent": "adu",
    "has_flags": False,
    "cosmic_ray_bit": 4096,
    "saturation_count": 60_000.0,
    "amplifiers": [{"image": "TRIMSEC", "bias": "BIASSEC"}],
}
CAMERA["sources"] = {name: SAID for name in CAMERA if name not in ("name", "telescope", "instrument", "detector")}
RECIPE: dict[str, Any] = {
    "name": "TESTCAM-R-2-4",
    "task": "mask",
    "instrument": {"name": "My camera", "filters": ["R"]},
    "data": {"source": "own", "visits": {"any": {"field_type": "extragalactic", "test_fraction": 0.25}}},
    "build": {"labels": "cr_split", "stamps": {"size": 32, "border": 4}},
    "train": {"architecture": {"depth": 2, "hidden": 4, "norm": "batch"}},
    "publish": {"summary": "a test"},
}


def settings_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty settings file, and return its folder of descriptions, which need not exist."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("registries: {}\n")
    monkeypatch.setenv("DEEPCR_ZOO_CONFIG", str(folder / "config.yaml"))
    return folder / "instruments"


def describe(path: Path, **changes: Any) -> Path:
    """Write the description with some facts changed; None removes one."""
    content = {name: fact for name, fact in {**CAMERA, **changes}.items() if fact is not None}
    content["sources"] = {**CAMERA["sources"], **dict.fromkeys(changes, SAID), **changes.get("sources", {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def write_recipe(path: Path, **changes: Any) -> Path:
    """Write the recipe with some blocks changed."""
    path.write_text(yaml.safe_dump({**RECIPE, **changes}, sort_keys=False))
    return path
