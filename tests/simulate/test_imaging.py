import numpy as np
import pytest

from deepcr_zoo.simulate import imaging
from deepcr_zoo.simulate.imaging import PointSpreadTransforms, render
from deepcr_zoo.simulate.optics import point_spread
from deepcr_zoo.simulate.scenes import SceneSources
from tests.simulate.visits import instrument


@pytest.fixture(scope="module")
def kernel():
    return point_spread(instrument(), 0.0)


def sources(stars, electrons, blobs=(), blob_electrons=(), sigma=1.0):
    return SceneSources(
        stars=np.array(stars, dtype=float).reshape(-1, 2),
        star_light=np.array(electrons, dtype=float),
        blobs=np.array(blobs, dtype=float).reshape(-1, 2),
        blob_light=np.array(blob_electrons, dtype=float),
        blob_covariances=np.stack([np.eye(2) * sigma**2] * len(blobs)) if len(blobs) else np.zeros((0, 2, 2)),
    )


def centroid(image):
    y, x = np.indices(image.shape)
    return float((image * x).sum() / image.sum()), float((image * y).sum() / image.sum())


@pytest.mark.parametrize("place", [(80.0, 90.0), (80.3, 90.8), (79.55, 90.1)])
def test_a_star_stands_where_it_should_and_keeps_its_light(kernel, place):
    image = render(sources([place], [1e4]), PointSpreadTransforms(kernel, (170, 160)), (170, 160))
    assert image.sum() == pytest.approx(1e4, rel=5e-3)
    core = image[70:111, 60:101]
    np.testing.assert_allclose(np.add(centroid(core), (60, 70)), place, atol=0.15)  # the aberrations shift it a little
    assert image.min() >= 0


def test_galaxies_compact_and_extended_keep_their_light(kernel):
    for sigma in (0.5, 1.4, 1.6, 5.0):
        blob = sources([], [], [(80.2, 79.7)], [1e4], sigma)
        image = render(blob, PointSpreadTransforms(kernel, (160, 160)), (160, 160))
        assert image.sum() == pytest.approx(1e4, rel=0.01)
        np.testing.assert_allclose(centroid(image[40:121, 40:121]), (40.2, 39.7), atol=0.15)


def test_tiles_leave_no_seam(kernel, monkeypatch):
    rng = np.random.default_rng(1)
    field = sources(rng.uniform(-40, 240, (400, 2)), rng.pareto(1.0, 400) * 1000)
    whole = render(field, PointSpreadTransforms(kernel, (200, 180)), (200, 180))
    monkeypatch.setattr(imaging, "TILE", 64)
    tiled = render(field, PointSpreadTransforms(kernel, (200, 180)), (200, 180))
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * whole.max())
