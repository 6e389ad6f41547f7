"""Aperture fluxes, on made-up stamps whose truth is known."""

import numpy as np
import pytest
from photutils.aperture import CircularAnnulus, CircularAperture, aperture_photometry

from deepcr_zoo.bench.measures.inpainting import by_values
from deepcr_zoo.bench.measures.photometry import (
    APERTURE_PIXELS,
    RING_PIXELS,
    describe,
    flux_ratios,
    masks_of_others,
    rows,
)
from deepcr_zoo.bench.results import BEFORE, UNTOUCHED
from deepcr_zoo.models.baselines import medmask
from tests.bench.stamps import EXPOSURES, STAMPS, recipe_of, with_truth, write_dataset

FIELD, SIDE, SKY, SEED = "extragalactic", 96, 50.0, 3
STARS = [(16, 16), (16, 48), (16, 80), (48, 16)]
GALAXIES = [(48, 48), (80, 24), (80, 72)]


def light():
    """Stars and galaxies without cosmic rays and noise."""
    rows_, columns = np.mgrid[:SIDE, :SIDE]
    found = np.full((SIDE, SIDE), SKY)
    for row, column in STARS:
        found += 4000 * np.exp(-((rows_ - row) ** 2 + (columns - column) ** 2) / (2 * 0.95**2))
    for row, column in GALAXIES:
        found += 900 * np.exp(-np.hypot(rows_ - row, columns - column) / 2.5)
    return found


def scene(seed):
    """The same with photon noise."""
    return np.random.default_rng(seed).poisson(light()).astype(np.float32)


def struck():
    """A cosmic ray through every source but the first star and the first galaxy."""
    electrons = np.zeros((SIDE, SIDE), dtype=np.float32)
    for row, column in STARS[1:] + GALAXIES[1:]:
        electrons[row + 1, column - 4 : column + 2] = 800
    return electrons


def stamps(field_type, tensors):
    """Put them in the place of the made-up ones."""
    image = np.stack([scene(seed) + struck() for seed in range(STAMPS + 1)])
    labels = np.broadcast_to(struck() > 0, image.shape).astype(np.uint8)
    tensors.update(image=image, cosmic_rays=labels, ignore=np.zeros_like(labels))


def with_cosmic_rays(dataset, electrons):
    """The same data set, simulated: each stamp has these cosmic rays."""

    def truth_of(image):
        cosmic_rays, scene = (np.broadcast_to(one, image.shape).astype(np.float32) for one in (electrons, light()))
        return {"cosmic_rays": cosmic_rays, "scene": scene, "noise": np.zeros_like(scene)}

    return with_truth(dataset, truth_of)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Stamps with the cosmic rays of `struck`, all labelled."""
    return with_cosmic_rays(write_dataset(tmp_path_factory.mktemp("stamps"), recipe_of(), (FIELD,), stamps), struck())


def perfect(image, mask):
    return np.where(mask, image - struck(), image)


def ratios_of(fills, dataset):
    return flux_ratios({name: by_values(fill) for name, fill in fills.items()}, dataset, FIELD, SEED)


def judge(fills, dataset):
    return rows(ratios_of(fills, dataset), FIELD)


def by_method(found):
    return {(row.method, row.kind): row for row in found}


def test_a_perfect_method_has_no_error_and_one_that_does_nothing_that_of_before(simulated):
    found = by_method(judge({"perfect": perfect, "nothing": lambda image, mask: image}, simulated))
    for kind, hit in (("star", STARS[1:]), ("galaxy", GALAXIES[1:])):
        row = found["perfect", kind]
        assert row.sources == len(hit) * STAMPS * EXPOSURES
        assert (row.bias, row.error, row.within_5_percent) == (0, 0, 1)
        before = found[BEFORE, kind]
        assert before.bias > 0.05
        assert before.within_5_percent == 0
        assert found["nothing", kind] == before.model_copy(update={"method": "nothing"})


def test_fluxes_are_those_of_photutils(simulated):
    ratios = ratios_of({"median": medmask}, simulated)
    for kind, places in (("star", STARS[1:]), ("galaxy", GALAXIES[1:])):
        assert len(ratios["median", kind]) == len(ratios[BEFORE, kind])
        image, true = scene(1) + struck(), scene(1)
        filled = medmask(image, struck() > 0)
        for wanted, measured in ((BEFORE, image), ("median", filled)):
            ratio = [direct(measured, place, kind) / direct(true, place, kind) for place in places]
            found = ratios[wanted, kind][: len(places)]
            if kind == "star":
                np.testing.assert_allclose(found, ratio, rtol=1e-5)
            else:  # the noise moves the brightest pixel of the smoothed image
                np.testing.assert_allclose(found, ratio, atol=0.1)


def direct(image, place, kind):
    """Flux by photutils itself."""
    centre = place[::-1]
    ring = CircularAnnulus(centre, *RING_PIXELS).to_mask(method="center").get_values(image)
    circle = CircularAperture(centre, APERTURE_PIXELS[kind])
    return aperture_photometry(image.astype(float), circle)["aperture_sum"][0] - circle.area * np.median(ring)


def test_scatter_is_against_noiseless_fluxes_and_that_of_untouched_sources_is_the_photons(simulated):
    random = np.random.default_rng(1)

    def noisy(image, mask):
        return perfect(image, mask) + np.where(mask, random.normal(0, 300, image.shape), 0).astype(np.float32)

    found = by_method(judge({"perfect": perfect, "noisy": noisy}, simulated))
    for kind, places in (("star", STARS[1:]), ("galaxy", GALAXIES[1:])):
        untouched, flux = found[UNTOUCHED, kind], direct(light(), places[0], kind)
        assert untouched.sources == len(places) * STAMPS * EXPOSURES
        assert untouched.scatter == pytest.approx(np.sqrt(flux + np.pi * APERTURE_PIXELS[kind] ** 2 * SKY) / flux, rel=0.6)
        assert found["perfect", kind].scatter == pytest.approx(untouched.scatter)
        assert found["noisy", kind].scatter > 1.5 * untouched.scatter


def test_a_known_bias_comes_out(simulated):
    def brighter(image, mask):
        true = perfect(image, mask)
        return (SKY + 1.03 * (true - SKY)).astype(np.float32)

    found = by_method(judge({"brighter": brighter}, simulated))
    for kind in APERTURE_PIXELS:
        assert found["brighter", kind].bias == pytest.approx(0.03, abs=1e-4)
        assert found["brighter", kind].error == pytest.approx(0.03, abs=1e-4)
        assert found["brighter", kind].within_5_percent == 1


def test_ignored_pixels_are_in_no_flux_and_too_many_of_them_exclude_a_source(tmp_path):
    def with_ignored(field_type, tensors):
        image = np.stack([scene(seed) for seed in range(STAMPS + 1)])
        labels, ignore = np.zeros((2, *image.shape), dtype=np.uint8)
        ignore[:, 18, 16] = 1  # one pixel of the first star
        ignore[:, 18, 45:52] = 1  # a row of the second
        for row, column in STARS:
            labels[:, row, column + 2] = 1
        tensors.update(image=image, cosmic_rays=labels, ignore=ignore)

    dataset = with_cosmic_rays(
        write_dataset(tmp_path, recipe_of(), (FIELD,), with_ignored), np.zeros((SIDE, SIDE), np.float32)
    )

    def wrong_there(image, mask):
        image = image.copy()
        image[:, 18, 16] = 1e6
        return image

    ratios = ratios_of({"wrong there": wrong_there}, dataset)["wrong there", "star"]
    np.testing.assert_array_equal(ratios, np.ones(3 * STAMPS * EXPOSURES))


def test_real_stamps_are_hit_where_other_stamps_have_cosmic_rays_and_have_no_flux_before(tmp_path):
    def each_has_its_own(field_type, tensors):
        image = np.stack([scene(seed) for seed in range(STAMPS + 1)])
        labels = np.zeros(image.shape, dtype=np.uint8)
        for label, image_, (row, column) in zip(labels, image, STARS, strict=True):
            label[row, column + 2], image_[row, column + 2] = 1, 5000
        tensors.update(image=image, cosmic_rays=labels, ignore=np.zeros_like(labels))

    dataset = write_dataset(tmp_path, recipe_of(), (FIELD,), each_has_its_own)
    given = dataset.stamps("test")
    parts = [range(first, first + STAMPS) for first in range(0, len(given), STAMPS)]  # one per exposure
    added = np.concatenate([masks_of_others(part, given, SEED) for part in parts])
    hit = sum(bool((mask & (stamp.cosmic_rays == 0)).any()) for mask, stamp in zip(added, given, strict=True))

    def wrong_at_own_cosmic_rays(image, mask):
        return np.where(image == 5000, np.float32(1e6), image)

    found = judge({"one": wrong_at_own_cosmic_rays}, dataset)
    assert [row.method for row in found] == ["one", "one"]
    (row,) = [row for row in found if row.kind == "star"]
    assert hit > 0
    assert (row.sources, row.error) == (hit, 0)


def test_rows_over_no_sources_have_no_figures():
    (row,) = rows({("median", "star"): np.empty(0)}, "all")
    assert (row.sources, row.bias, row.error, row.within_5_percent) == (0, None, None, None)


def test_rows_are_medians_of_the_ratios():
    (row,) = rows({("median", "galaxy"): np.array([0.9, 1.01, 1.02, 1.2])}, "all")
    assert row.bias == pytest.approx(0.015)
    assert row.error == pytest.approx(0.06)
    assert row.within_5_percent == 0.5


def test_the_description_names_apertures_and_truth():
    for part in ("within 3 pixels", "within 4 pixels", "6 to 9 pixels", "10 sigma", "no flux before"):
        assert part in describe()
