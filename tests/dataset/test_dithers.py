"""Labels from dithered exposures of any camera, against the truth of simulated ones."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from astropy.wcs import WCS

from benchmarks.ground_visits import READ_NOISE_ELECTRON, SECONDS, Conditions, draw, simulate
from deepcr_zoo.dataset.dithers import DitheredExposure, label_dithers
from deepcr_zoo.dataset.labelling import VisitRejectedError
from deepcr_zoo.dataset.persistent import Observed, find_defects
from deepcr_zoo.dataset.starmatching import Frame, align
from deepcr_zoo.errors import DataError
from deepcr_zoo.zoo.recipe import DithersBlock

SPARSE = Conditions(side=256, stars=200, exposures=4, largest_dither=16.0)
SETTINGS = DithersBlock()


@cache
def sparse():
    """A sparse visit; shared, so copy what you change."""
    return simulate(41, SPARSE)


def dithered(images, **facts):
    return [
        DitheredExposure(image.astype(np.float32), image < 70_000, SECONDS, READ_NOISE_ELECTRON, **facts) for image in images
    ]


def labelled(images, settings=SETTINGS):
    exposures = dithered(images)
    reference, alignments = align([Frame(one.image, one.usable, None) for one in exposures], 100.0, settings.min_stars)
    return label_dithers(exposures, alignments, reference, settings)


def rates(visit, labels):
    """TPR and FPR over a visit; a cosmic ray has left more than 3 sigma of the noise."""
    counts = np.zeros(4)
    for one, label in zip(visit, labels, strict=True):
        hit, counted = one.cosmic_rays > 3 * one.noise, ~label.ignore
        masks = (hit & label.cosmic_rays & counted, hit & counted, ~hit & label.cosmic_rays & counted, ~hit & counted)
        counts += [np.count_nonzero(mask) for mask in masks]
    return counts[0] / counts[1], counts[2] / counts[3]


@cache
def sparse_labels():
    return labelled([one.image for one in sparse()])


def test_dithered_exposures_without_a_wcs_label_each_others_cosmic_rays():
    tpr, fpr = rates(sparse(), sparse_labels())
    assert tpr > 0.95
    assert fpr < 0.0015
    assert all(label.ignore.mean() < 0.1 for label in sparse_labels())


def test_pixels_that_no_other_exposure_has_seen_are_ignored_and_counted():
    for one, label in zip(sparse(), sparse_labels(), strict=True):
        others = [other for other in sparse() if other is not one]
        height, width = one.image.shape
        rows, columns = np.mgrid[:height, :width]
        seen = np.zeros(one.image.shape, bool)
        for other in others:
            x, y = columns - one.offset[0] + other.offset[0], rows - one.offset[1] + other.offset[1]
            seen |= (x > -1) & (y > -1) & (x < width) & (y < height)
        assert label.unseen[~seen].mean() > 0.95
        assert not label.cosmic_rays[label.ignore].any()
        assert label.ignore[label.unseen].all()


@pytest.mark.slow
def test_labels_of_a_crowded_field_find_most_cosmic_rays():
    visit = simulate(42, dataclasses.replace(SPARSE, stars=5000))
    tpr, fpr = rates(visit, labelled([one.image for one in visit]))
    assert tpr > 0.85
    assert fpr < 0.0015


def test_cores_of_stars_whose_seeing_differs_much_are_ignored_unless_they_are_struck():
    sharp = simulate(43, dataclasses.replace(SPARSE, exposures=3, fwhm_pixels=(2.2, 2.2), stars=600))
    blurred = simulate(43, dataclasses.replace(SPARSE, exposures=3, fwhm_pixels=(3.4, 3.4), stars=600))
    mixed = [sharp[0].image, blurred[1].image, blurred[2].image]
    label = labelled(mixed)[0]
    steady = labelled([one.image for one in sharp])[0]
    assert label.cores.sum() > 10 * max(steady.cores.sum(), 1)
    assert not (label.cores & label.cosmic_rays).any()
    bright = sharp[0].scene - np.median(sharp[0].scene) > 2000
    clean = bright & (sharp[0].cosmic_rays == 0) & ~label.ignore
    assert label.cosmic_rays[clean].mean() < 0.02
    assert label.cores[bright].mean() > 0.3


def test_a_satellite_trail_is_ignored_also_where_it_is_faint():
    images = [one.image.copy() for one in sparse()]
    rows, columns = np.mgrid[:256, :256]
    trail = np.exp(-((rows - 40 - 0.6 * columns) ** 2) / 4) * (600 + 300 * np.sin(columns / 15.0))
    images[1] += trail.astype(np.float32)
    label = labelled(images)[1]
    assert label.ignore[trail > 100].mean() > 0.99
    assert label.cosmic_rays[trail > 30].sum() == 0
    assert label.moving.mean() < 0.1
    assert labelled([one.image for one in sparse()])[1].moving.mean() < 0.01


def test_an_object_that_moves_from_exposure_to_exposure_is_ignored():
    visit = sparse()
    images = [one.image.copy() for one in visit]
    paths = [np.array([[150.0 + 9 * number, 120.0 + 4 * number]]) for number in range(len(visit))]
    asteroid = []
    for image, one, path in zip(images, visit, paths, strict=True):
        light = draw(path + one.offset, np.array([6000.0]), one.fwhm_pixels, image.shape)
        image += light.astype(np.float32)
        asteroid.append(light > 60)
    labels = labelled(images)
    found = [label.moving[place].mean() > 0.9 for label, place in zip(labels, asteroid, strict=True)]
    assert sum(found) >= 3
    taught = [label.cosmic_rays[place].sum() for label, place, one in zip(labels, asteroid, found, strict=True) if one]
    assert sum(taught) == 0


def test_one_exposure_has_nothing_to_be_compared_with():
    (one, *_) = dithered([sparse()[0].image])
    with pytest.raises(DataError, match="two dithered exposures"):
        label_dithers([one], [None], 0, SETTINGS)


def test_warm_columns_and_hot_pixels_of_dithered_exposures_are_found_whole():
    random = np.random.default_rng(5)
    hot = random.random((256, 256)) < 5e-4
    images = [one.image.copy() for one in sparse()]
    for image in images:
        image[:, 100] += random.poisson(15, 256)
        image[64:192, 200] += random.poisson(40, 128)
        image[:, 30] += random.poisson(800, 256)  # as bright as a trail in every exposure
        image[hot] += 300
    labels = labelled(images)
    defects = find_defects(
        Observed(image, label.expected, ~label.ignore, READ_NOISE_ELECTRON)
        for image, label in zip(images, labels, strict=True)
    )
    assert defects.columns == (30, 100, 200)
    assert defects.mask[:, [30, 100]].all()
    assert not any(label.moving[:, 30].any() for label in labels)
    assert defects.mask[64:192, 200].all()
    assert not defects.mask[256:, 200].any()
    seen = ~np.any([label.ignore for label in labels], axis=0)
    assert defects.mask[hot & seen].mean() > 0.95
    others = defects.mask & ~hot
    others[:, [30, 100, 200]] = False
    assert others.sum() < 10


def test_a_wcs_that_is_off_by_pixels_is_refined_by_stars():
    visit = sparse()
    frames = []
    for number, one in enumerate(visit):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [30.0, 20.0]
        wcs.wcs.crpix = np.array([129.0, 129.0]) + one.offset + (3.0 * number, -2.0 * number)
        wcs.wcs.cd = np.diag([-1.0, 1.0]) * 0.4 / 3600
        frames.append(Frame(one.image, one.image < 70_000, wcs))
    reference, alignments = align(frames, 20.0, 4)
    for number, one in enumerate(alignments):
        off = np.array([3.0, -2.0]) * (number - reference)
        middle = np.array([128.0, 128.0])
        np.testing.assert_allclose(one.matrix @ middle + one.shift, middle + off, atol=0.15)
        assert one.residual_pixels < 0.3


def test_the_wcs_is_trusted_where_no_stars_can_be_matched():
    random = np.random.default_rng(1)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cd = ["RA---TAN", "DEC--TAN"], [30.0, 20.0], np.diag([-1.0, 1.0]) * 1e-4
    blank = [Frame(random.normal(100, 10, (96, 96)).astype(np.float32), np.ones((96, 96), bool), wcs) for _ in range(2)]
    _, alignments = align(blank, 20.0, 4)
    assert [one.stars for one in alignments if one.residual_pixels is None] == [0]
    _, without = align([dataclasses.replace(one, wcs=None) for one in blank], 20.0, 4)
    assert without.count(None) == 1


def test_exposures_that_lie_on_a_grid_without_bound_are_rejected():
    fine = WCS(naxis=2)
    fine.wcs.ctype, fine.wcs.crval, fine.wcs.cd = ["RA---TAN", "DEC--TAN"], [30.0, 20.0], np.diag([-1.0, 1.0]) * 1e-4
    coarse = fine.deepcopy()
    coarse.wcs.cd = np.diag([-1.0, 1.0]) * 1e-2
    blank = np.random.default_rng(1).normal(100, 10, (96, 96))
    exposures = [dataclasses.replace(dithered([blank])[0], wcs=wcs) for wcs in (fine, coarse)]
    reference, alignments = align([Frame(one.image, one.usable, one.wcs) for one in exposures], 20.0, SETTINGS.min_stars)
    trusted = [dataclasses.replace(alignments[reference], matrix=np.eye(2), shift=np.zeros(2))] * 2
    with pytest.raises(VisitRejectedError, match="more than 20 times their own: their places on the sky"):
        label_dithers(exposures, trusted, 0, SETTINGS)


def test_an_exposure_after_a_meridian_flip_is_matched_turned():
    visit = simulate(44, dataclasses.replace(SPARSE, exposures=2, half_turn=True, stars=200))
    reference, alignments = align([Frame(one.image, one.image < 70_000, None) for one in visit], 100.0, 4)
    (other,) = (one for index, one in enumerate(alignments) if index != reference)
    np.testing.assert_allclose(other.matrix, -np.eye(2), atol=2e-3)
    assert other.residual_pixels < 0.3


def test_seeing_transparency_and_offsets_are_measured_from_stars():
    visit = sparse()
    reference, alignments = align([Frame(one.image, one.image < 70_000, None) for one in visit], 100.0, 4)
    middle = np.array([128.0, 128.0])
    for one, found in zip(visit, alignments, strict=True):
        place = found.matrix @ (middle + one.offset) + found.shift
        np.testing.assert_allclose(place, middle + visit[reference].offset, atol=0.25)
        assert found.flux_ratio == pytest.approx(one.transparency / visit[reference].transparency, rel=0.12)
    order = np.argsort([one.fwhm_pixels for one in visit])
    widest, sharpest = (alignments[int(index)].fwhm_pixels for index in (order[-1], order[0]))
    assert widest > sharpest
