"""Positions of pixels on the sky, and the gaps between them."""

import numpy as np
import pytest
from astropy.wcs import WCS, Sip
from hypothesis import given
from hypothesis import strategies as st

from deepcr_zoo.dataset import footprints
from deepcr_zoo.dataset.coverage import GoodPixels, seen_by_others


def wcs(ra=10.0, dec=80.0, roll=20.0, size=(100, 200), sip=0.0):
    made = WCS(naxis=2)
    made.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"] if sip else ["RA---TAN", "DEC--TAN"]
    made.wcs.crval = [ra, dec]
    made.wcs.crpix = [size[1] / 2 + 0.5, size[0] / 2 + 0.5]
    angle, scale = np.radians(roll), 0.05 / 3600
    made.wcs.cd = scale * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if sip:
        terms = np.zeros((3, 3))
        terms[2, 0] = sip
        made.sip = Sip(terms, terms, None, None, made.wcs.crpix)
    made.wcs.set()
    return made


SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 6.3), st.booleans(), st.booleans())
def test_the_gap_between_polygons_is_never_more_than_their_distance(x, y, angle, turn, swap):
    turned = (SQUARE - 0.5) @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) + [x, y]
    one, other = (SQUARE[::-1] if turn else SQUARE)[None], turned[None]
    gap = footprints.gap_arcsec(other, one)[0] if swap else footprints.gap_arcsec(one, other)[0]
    along = np.linspace(0, 1, 30)[:, None, None]
    edges = [(p[0] * (1 - along) + np.roll(p[0], -1, axis=0) * along).reshape(-1, 2) for p in (one, other)]
    distance = np.linalg.norm(edges[0][:, None] - edges[1], axis=-1).min()
    assert gap <= distance + 1e-9
    if gap < -0.05:  # they overlap: a corner, an edge or the centre of one lies within the other, even if they are equal
        points = [np.vstack([edge, edge.mean(axis=0)]) for edge in edges]
        inside = [_inside(points[0], other[0]).any(), _inside(points[1], one[0]).any()]
        assert any(inside)
    elif gap > 0:
        assert not _inside(edges[0], other[0]).any()


def _inside(points, polygon):
    edges = np.roll(polygon, -1, axis=0) - polygon
    offsets = points[:, None] - polygon
    cross = edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0]
    return (cross > 0).all(axis=1) | (cross < 0).all(axis=1)


def test_gaps_between_edges_are_exact():
    others = SQUARE + np.array([[[3, 0]], [[0.4, 0]], [[0, -1.5]]])
    np.testing.assert_allclose(footprints.gap_arcsec(SQUARE[None].repeat(3, axis=0), others), [2, -0.6, 0.5])


@pytest.mark.parametrize("dec", [0.0, -45.0, 89.9])
@pytest.mark.parametrize("ra", [0.001, 180.0, 359.999])
def test_the_plane_keeps_distances_anywhere_on_the_sky(ra, dec):
    corners = footprints.corners(wcs(ra, dec), np.array([[0, 0]], dtype=np.int32), 100)[0]
    plane = footprints.in_plane(corners, footprints.centre(corners))
    np.testing.assert_allclose(np.linalg.norm(plane - np.roll(plane, 1, axis=0), axis=1), 5.0, rtol=1e-4)
    np.testing.assert_allclose(footprints.distance_arcsec(corners, np.roll(corners, 1, axis=0)), 5.0, rtol=1e-4)


def test_the_hull_of_an_outline_holds_the_pixels_of_a_distorted_chip():
    shape = (100, 200)
    hull = footprints.hull(footprints.outline(wcs(sip=1e-5), shape))
    rows, columns = np.mgrid[0 : shape[0] : 9, 0 : shape[1] : 9]
    inside = np.stack(wcs(sip=1e-5).all_pix2world(columns.ravel(), rows.ravel(), 0), axis=-1)
    assert all(footprints.holds(hull, position) for position in inside)
    outside = np.stack(wcs(sip=1e-5).all_pix2world([-5, 205, 100, 100], [50, 50, -5, 105], 0), axis=-1)
    assert not any(footprints.holds(hull, position) for position in outside)
    assert not footprints.holds(hull, np.array([190.0, -80.0]))


def test_outlines_overlap_within_the_error_of_pointings():
    def chip(dx):
        return [footprints.hull(footprints.outline(wcs(dec=0.0, ra=10 + dx / 3600, roll=0), (100, 200)))]

    assert footprints.overlap(chip(0), chip(10.9))
    assert not footprints.overlap(chip(0), chip(11.1))
    assert not footprints.overlap(chip(0), chip(180 * 3600))


def test_pixels_are_seen_where_another_exposure_has_a_good_one():
    rng = np.random.default_rng(1)
    own = GoodPixels(np.ones((150, 230), dtype=bool), wcs(size=(150, 230), sip=2e-5))
    others = [
        GoodPixels(rng.random((150, 230)) > 0.3, wcs(10.0002, 80.0005, 25.0, (150, 230), 2e-5)),
        GoodPixels(rng.random((60, 90)) > 0.3, wcs(10.003, 80.0001, 20.0, (60, 90))),
        GoodPixels(np.ones((60, 90), dtype=bool), wcs(40.0, 80.0, 20.0, (60, 90))),
    ]
    rows, columns = np.indices(own.good.shape)
    expected = np.zeros(own.good.shape, dtype=bool)
    for other in others:
        x, y = other.wcs.all_world2pix(*own.wcs.all_pix2world(columns, rows, 0), 0, quiet=True)
        row, column = np.rint(y).astype(int), np.rint(x).astype(int)
        inside = (row >= 0) & (row < other.good.shape[0]) & (column >= 0) & (column < other.good.shape[1])
        expected[inside] |= other.good[row[inside], column[inside]]
    found = seen_by_others(own, others)
    assert 0.5 < expected.mean() < 0.95
    # only where a centre falls on the edge between two pixels may the interpolation decide otherwise
    assert (found != expected).mean() < 0.005
    assert not seen_by_others(own, []).any()


def test_all_overlapping_groups_are_neighbours():
    rng = np.random.default_rng(0)

    def square(ra, dec, half):
        return np.array([[ra - half, dec - half], [ra + half, dec - half], [ra + half, dec + half], [ra - half, dec + half]])

    places = zip(rng.uniform(359.8, 360.3, 60) % 360, rng.uniform(-0.3, 0.3, 60), rng.uniform(0.01, 0.04, 60), strict=True)
    groups = [[square(*place)] for place in places]
    overlapping = [
        (one, other) for one in range(60) for other in range(one + 1, 60) if footprints.overlap(groups[one], groups[other])
    ]
    near = footprints.neighbours(groups)
    assert len(overlapping) > 20
    assert set(overlapping) <= set(near)
    assert len(near) < 60 * 59 / 4
    assert footprints.neighbours(groups[:1]) == footprints.neighbours([]) == []
    assert footprints.neighbours([[square(10, 0, 0.1)], [square(190, 0, 0.1)]]) == []
