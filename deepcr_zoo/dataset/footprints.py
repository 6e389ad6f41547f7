"""Positions of pixels on the sky: outlines of chips, corners of stamps, and the gaps between them.

Positions are (..., 2) arrays of right ascension and declination in degrees. Neighbours are compared in a tangent plane,
where great circles are straight lines, in arcseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.coordinates import angular_separation
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, cKDTree

Positions = NDArray[np.float64]

EDGE_POINTS = 9  # points along each edge of a chip, whose distorted edges are curved
POINTING_ARCSEC = 1.0  # offset between visits with different guide stars (Guide Star Catalog 1.1)
_ARCSEC = 3600 * 180 / np.pi


def outline(wcs: WCS, shape: tuple[int, int]) -> Positions:
    """Return positions along the edges of a chip of `shape`, including the outer corners of its pixels, shape (K, 2)."""
    height, width = shape
    along = np.linspace(0, 1, EDGE_POINTS)[:-1]
    x = np.concatenate([along, np.ones_like(along), 1 - along, np.zeros_like(along)]) * width - 0.5
    y = np.concatenate([np.zeros_like(along), along, np.ones_like(along), 1 - along]) * height - 0.5
    return np.stack(wcs.all_pix2world(x, y, 0), axis=-1)


def corners(wcs: WCS, positions: NDArray[np.int32], size: int) -> Positions:
    """Return corners of square stamps, shape (N, 4, 2); `positions` are row and column of their first pixels, from 0."""
    offsets = np.array([[0, 0], [0, size], [size, size], [size, 0]]) - 0.5
    pixels = positions[:, None, :] + offsets
    return np.stack(wcs.all_pix2world(pixels[..., 1], pixels[..., 0], 0), axis=-1)


def centre(positions: Positions) -> Positions:
    """Return the mean direction of positions, shape (2,)."""
    ra, dec = np.radians(np.asarray(positions, dtype=np.float64).reshape(-1, 2)).T
    x, y, z = (np.cos(dec) * np.cos(ra)).mean(), (np.cos(dec) * np.sin(ra)).mean(), np.sin(dec).mean()
    return np.degrees([np.arctan2(y, x) % (2 * np.pi), np.arctan2(z, np.hypot(x, y))])


def distance_arcsec(one: Positions, other: Positions) -> NDArray[np.float64]:
    """Return angular distances."""
    (ra1, dec1), (ra2, dec2) = np.radians(one).T, np.radians(other).T
    return np.asarray(angular_separation(ra1, dec1, ra2, dec2) * _ARCSEC)


def in_plane(positions: Positions, origin: Positions) -> Positions:
    """Project positions about `origin`, arcsec (gnomonic; Calabretta & Greisen 2002, 5.1.3); NaN in the other hemisphere."""
    ra, dec = np.radians(positions[..., 0]), np.radians(positions[..., 1])
    ra0, dec0 = np.radians(origin)
    depth = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0)
    depth = np.where(depth > 0, depth, np.nan)
    xi = np.cos(dec) * np.sin(ra - ra0) / depth
    eta = (np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0)) / depth
    return np.stack([xi, eta], axis=-1) * _ARCSEC


def hull(positions: Positions) -> Positions:
    """Return the convex hull of positions, shape (K, 2), counter-clockwise in the tangent plane."""
    flat = np.asarray(positions, dtype=np.float64).reshape(-1, 2)
    vertices: NDArray[np.intp] = ConvexHull(in_plane(flat, centre(flat))).vertices
    return flat[vertices]


def gap_arcsec(ones: Positions, others: Positions) -> NDArray[np.float64]:
    """Return lower bounds of the gaps between pairs of convex polygons, shape (P,); negative where they overlap.

    `ones` (P, K, 2) and `others` (P, L, 2) lie in a plane, arcsec; a single point is a polygon of one corner. The largest
    gap along the normals of the edges (separating axes) is exact between edges and up to 30 % too small between corners.
    """
    gap = _gap_along_edges(ones, others)
    return gap if others.shape[1] == 1 else np.maximum(gap, _gap_along_edges(others, ones))


def overlap(ones: Sequence[Positions], others: Sequence[Positions]) -> bool:
    """True if a polygon of the first group may overlap one of the second, within the error of pointings."""
    (middle, radius), (other_middle, other_radius) = _circle(ones), _circle(others)
    if not distance_arcsec(middle, other_middle) < radius + other_radius + POINTING_ARCSEC:
        return False
    origin = centre(np.concatenate([*ones]))
    planes = [[in_plane(polygon, origin) for polygon in polygons] for polygons in (ones, others)]
    pairs = ((one, other) for one in planes[0] for other in planes[1] if np.isfinite(other).all())
    return any(gap_arcsec(one[None], other[None])[0] < POINTING_ARCSEC for one, other in pairs)


def neighbours(groups: Sequence[Sequence[Positions]]) -> list[tuple[int, int]]:
    """Return pairs of groups of polygons whose circumscribed circles overlap, each once, in order."""
    if len(groups) < 2:
        return []
    middles, radii = map(np.array, zip(*map(_circle, groups), strict=True))
    # a tree, since there may be thousands of visits; chords are shorter than arcs, so no near pair is missed
    pairs = cKDTree(directions(middles)).query_pairs((2 * radii.max() + POINTING_ARCSEC) / _ARCSEC, output_type="ndarray")
    near = distance_arcsec(middles[pairs[:, 0]], middles[pairs[:, 1]]) < radii[pairs].sum(axis=1) + POINTING_ARCSEC
    return sorted((int(one), int(other)) for one, other in pairs[near])


def directions(positions: Positions) -> NDArray[np.float64]:
    """Return unit vectors, shape (..., 3)."""
    ra, dec = np.radians(positions[..., 0]), np.radians(positions[..., 1])
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def holds(polygon: Positions, position: Positions) -> bool:
    """True if a convex polygon on the sky holds a position."""
    origin = centre(polygon)
    point = in_plane(np.asarray(position), origin)
    if not np.isfinite(point).all():
        return False
    return bool(gap_arcsec(in_plane(polygon, origin)[None], point[None, None])[0] < 0)


def _circle(polygons: Sequence[Positions]) -> tuple[Positions, float]:
    """Return the centre of some polygons, and their largest distance from it, arcsec."""
    every = np.concatenate([*polygons])
    middle = centre(every)
    return middle, float(distance_arcsec(every, middle).max())


def _gap_along_edges(ones: Positions, others: Positions) -> NDArray[np.float64]:
    edges = np.roll(ones, -1, axis=1) - ones
    # outwards, for either orientation of the polygon
    turn = np.sign(np.sum(edges[..., 0] * (ones + np.roll(ones, -1, axis=1))[..., 1], axis=1))
    normals = np.stack([edges[..., 1], -edges[..., 0]], axis=-1) * -turn[:, None, None]
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = normals / np.where(length > 0, length, 1)
    reach = np.einsum("pek,pvk->pev", normals, ones).max(axis=2)
    nearest = np.einsum("pek,pvk->pev", normals, others).min(axis=2)
    return np.asarray((nearest - reach).max(axis=1))
