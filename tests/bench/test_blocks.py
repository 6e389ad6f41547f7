from dataclasses import replace

import numpy as np
import pytest

from deepcr_zoo.bench.measures.blocks import STAMPS_A_SIDE, key, sky_blocks
from tests.bench.stamps import SIDE, placed, recipe_of, write_dataset

PIXEL_DEG = 0.05 / 3600
FIELD_TYPES = ("extragalactic", "globular_cluster")


def corners(rows, columns, dither, angle_deg, position):
    """Return corners of adjacent stamps, turned and dithered by pixels, at RA and declination; the guard's come first."""
    first = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 1, 2) * SIDE
    pixels = (first + SIDE * np.array([[0, 0], [0, 1], [1, 1], [1, 0]]) + dither) @ turned(angle_deg)
    ra = position[0] + pixels[..., 1] * PIXEL_DEG / np.cos(np.radians(position[1]))
    sky = np.stack([ra % 360, position[1] + pixels[..., 0] * PIXEL_DEG], axis=-1)
    return np.concatenate([sky[:1], sky])


def turned(angle_deg):
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return np.array([[cosine, sine], [-sine, cosine]])


def a_dataset(folder, rows, columns, dithers, angle_deg, position=(359.999, -72.0)):
    left = [(field_type, dither) for field_type in FIELD_TYPES for dither in dithers]

    def change(field_type, tensors):
        expected, dither = left.pop(0)
        assert expected == field_type
        count = rows * columns + 1
        layers = {name: np.resize(tensors[name], (count, SIDE, SIDE)) for name in ("image", "cosmic_rays", "ignore")}
        seen = corners(rows, columns, np.array(dither), angle_deg, position)
        tensors.update({**layers, **placed(count, SIDE), "corners": seen})

    dataset = write_dataset(folder, recipe_of(), FIELD_TYPES, change)
    stamps = [{"guard": [0], "test": list(range(1, rows * columns + 1))} for _ in dithers]
    visits = [visit.model_copy(update={"stamps": stamps}) for visit in dataset.manifest.visits]
    return replace(dataset, manifest=dataset.manifest.model_copy(update={"visits": visits}))


@pytest.mark.parametrize(("rows", "columns"), [(8, 6), (7, 5)])
@pytest.mark.parametrize("angle_deg", [0.0, 33.0, 200.0])
def test_a_block_of_sky_holds_all_exposures_of_it(tmp_path, rows, columns, angle_deg):
    dataset = a_dataset(tmp_path, rows, columns, [(0, 0), (20, -25)], angle_deg)
    blocks = sky_blocks(dataset, "extragalactic")
    one, other = blocks.of_stamps.values()
    np.testing.assert_array_equal(one, other)
    assert blocks.count == -(-rows // 2) * -(-columns // 2)
    assert np.bincount(one).max() == STAMPS_A_SIDE**2
    neighbours = one.reshape(rows, columns)
    assert (neighbours[0:6:2] == neighbours[1:7:2]).all()
    assert (neighbours[:, 0] == neighbours[:, 1]).all()
    assert (neighbours[:, 1] != neighbours[:, 2]).all()


def test_a_stamp_that_shows_the_sky_of_another_block_belongs_to_that(tmp_path):
    dataset = a_dataset(tmp_path, 8, 6, [(0, 0), (2 * SIDE, 0)], 20.0)
    one, other = (blocks.reshape(8, 6) for blocks in sky_blocks(dataset, "extragalactic").of_stamps.values())
    np.testing.assert_array_equal(other[:-2], one[2:])
    assert not np.isin(other[-2:], one).any()


def test_visits_share_no_block_and_each_block_knows_its_own(tmp_path):
    dataset = a_dataset(tmp_path, 4, 4, [(0, 0), (5, 5)], 10.0)
    each = [sky_blocks(dataset, field_type) for field_type in FIELD_TYPES]
    assert [blocks.visits.tolist() for blocks in each] == [[0] * 4, [0] * 4]
    both = dataset.manifest.visits
    together = [
        visit.model_copy(update={"record": visit.record.model_copy(update={"field_type": "extragalactic"})})
        for visit in both
    ]
    joint = sky_blocks(replace(dataset, manifest=dataset.manifest.model_copy(update={"visits": together})), "extragalactic")
    assert joint.visits.tolist() == [0] * 4 + [1] * 4
    by_visit = {}
    for (visit, _), numbers in joint.of_stamps.items():
        by_visit.setdefault(visit, set()).update(numbers.tolist())
    assert list(by_visit.values()) == [{0, 1, 2, 3}, {4, 5, 6, 7}]


def test_blocks_are_found_by_visit_and_exposure_in_the_order_of_the_stamps(tmp_path):
    dataset = a_dataset(tmp_path, 4, 2, [(0, 0), (5, 5)], 0.0)
    blocks = sky_blocks(dataset, "globular_cluster")
    for group in dataset.exposures("test", "globular_cluster"):
        assert blocks.of_stamps[key(group)].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(blocks.of_stamps) == 2


def test_a_field_type_without_test_stamps_has_no_block(tmp_path):
    blocks = sky_blocks(a_dataset(tmp_path, 4, 4, [(0, 0), (0, 0)], 0.0), "resolved_galaxy")
    assert blocks.count == 0
    assert blocks.of_stamps == {}
