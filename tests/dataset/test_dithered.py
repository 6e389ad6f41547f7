"""Training sets of dithered raw frames of a described camera, without DQ, WCS, proposal and visit."""

import re

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.ground_visits import Conditions, simulate
from deepcr_zoo.dataset import dithered, overview
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.starmatching import Alignment
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.zoo.recipe import DithersBlock
from deepcr_zoo.zoo.recipefiles import read_recipe
from tests.described import describe, settings_of, write_recipe
from tests.groundframes import KEYWORDS, OVERSCAN, counts

FIELDS, EXPOSURES = (1, 2), 4
SIDE = 256
WARM = 90  # a column, counted from 0
KNOWN = {**KEYWORDS, "TRIMSEC": f"[1:{SIDE},1:{SIDE}]", "BIASSEC": f"[{SIDE + 1}:{SIDE + OVERSCAN},1:{SIDE}]"}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Dithered exposures of two fields, with a warm column; one of the first field is of another one."""
    folder = tmp_path_factory.mktemp("frames")
    struck = {}
    for target in FIELDS:
        visit = simulate(60 + target, Conditions(stars=200, exposures=EXPOSURES, side=SIDE, largest_dither=16.0))
        for number, one in enumerate(visit):
            scene = one.scene if (target, number) != (1, 3) else simulate(99, Conditions(200, 1, SIDE))[0].scene
            random = np.random.default_rng([target, number])
            electrons = scene + one.cosmic_rays
            electrons[:, WARM] += 40
            header = fits.Header({**KNOWN, "TARGET": f"Field {target}", "DATE-OBS": f"2026-01-0{target}T0{number}:10:00"})
            path = folder / f"field{target}" / f"field{target}-{number}.fits"
            path.parent.mkdir(exist_ok=True)
            fits.PrimaryHDU(counts(electrons, random), header).writeto(path)
            struck[f"field{target}-{number}"] = one.cosmic_rays > 3 * one.noise
    return folder, struck


@pytest.fixture(scope="module")
def built(frames, tmp_path_factory):
    folder, _ = frames
    place = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        describe(settings_of(place / "settings", patch) / "my.yaml", chip_shape=[SIDE, SIDE])
        build = {"labels": "dithers", "stamps": {"size": 32, "border": 16}, "sky": "measured"}
        recipe = read_recipe(write_recipe(place / "r.yaml", build=build))
        return build_dataset(recipe, [folder], home=Home(place / "home"))


def test_dithered_raw_frames_without_wcs_become_a_training_set(built, frames):
    _, struck = frames
    found, truth, counted, column = [], [], [], []
    for split in ("train", "validation", "test"):
        for group in built.exposures(split):
            layers = group.read("cosmic_rays", "ignore", "position")
            for cosmic_rays, ignore, (row, start) in zip(*layers.values(), strict=True):
                found.append(cosmic_rays.astype(bool))
                truth.append(struck[group.exposure.name][row : row + 32, start : start + 32])
                counted.append(ignore == 0)
                if start <= WARM < start + 32:
                    column.append((cosmic_rays | ignore)[:, WARM - start])
    found, truth, counted = map(np.concatenate, (found, truth, counted))
    assert found[truth & counted].mean() > 0.95
    assert found[~truth & counted].mean() < 0.0015
    assert len(column) > 5
    assert np.mean(column) < 0.05  # taught as clean but where other reasons exclude it


def test_an_exposure_of_another_field_is_named_and_left_out(built):
    rejected = [one for visit in built.manifest.visits for one in visit.record.rejected]
    assert [one.what for one in rejected] == ["field1-3"]
    assert rejected[0].reason == "fewer than 4 of its stars match those of its visit (build.dithers.min_stars)"


def test_the_report_lists_alignment_and_defects(built):
    text = overview.text(built.manifest)
    assert f"| 256 | 1 | {WARM + 1} |" in text
    assert "## Alignment" in text
    assert "field2-0" in text.partition("## Alignment")[2]
    records = [one for visit in built.manifest.visits for one in visit.record.exposures]
    assert all(one.dither.matched_stars >= 4 and one.fit_rms_pixels < 0.3 for one in records)
    assert all(2.5 < one.dither.fwhm_pixels < 4.5 and 0.6 < one.dither.transparency < 1.5 for one in records)


def aligned(residual=0.1, fwhm=3.0, ratio=1.0):
    return Alignment(np.eye(2), np.zeros(2), 20, residual, fwhm, ratio, 400.0)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (None, r"fewer than 4 of its stars match .*build\.dithers\.min_stars"),
        (aligned(residual=0.6), r"to 0\.60 pixels only \(build\.dithers\.max_residual_pixels is 0\.3\)"),
        (aligned(fwhm=6.0), r"seeing of 6\.00 pixels \(FWHM\) is 2 times .*build\.dithers\.max_seeing_ratio is 1\.6"),
        (aligned(ratio=0.2), r"0\.2 times the flux per second .*build\.dithers\.min_transparency is 0\.4"),
    ],
)
def test_an_exposure_that_does_not_fit_its_visit_is_named_with_the_limit(odd, reason):
    found = dithered.find_outlier([aligned(), odd, aligned(), aligned()], [300.0] * 4, DithersBlock())
    assert found.index == 1
    assert re.search(reason, found.reason)


def test_exposures_that_fit_are_not_rejected_for_their_exposure_times():
    alignments = [aligned(), aligned(ratio=0.1), aligned(ratio=2.0)]
    assert dithered.find_outlier(alignments, [300.0, 30.0, 600.0], DithersBlock()) is None
