"""Shared pieces of the benchmarks of masks and inpainting: findings, resampled sky, and pairs to compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from typing import TypeVar

import numpy as np

from deepcr_zoo.bench.measures.blocks import SkyBlocks, sky_blocks
from deepcr_zoo.bench.measures.bootstrap import Values, resample
from deepcr_zoo.bench.measures.judgedpixels import field_types_of
from deepcr_zoo.bench.results import AddedMasks, Comparison, MethodResult, Photometry
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.zoo.recipe import BenchmarkBlock, FieldType
from deepcr_zoo.zoo.records import POOLED

T = TypeVar("T")


@dataclass(frozen=True)
class Findings:
    """Figures of the networks, in the given order, and then of the baselines; comparisons of the first networks with all."""

    methods: list[MethodResult]
    comparisons: list[Comparison]
    cautions: list[str]
    added: AddedMasks | None = None
    photometry: Photometry | None = None


def resampled_sky(dataset: Dataset, settings: BenchmarkBlock) -> tuple[dict[FieldType, SkyBlocks], dict[str, Values]]:
    """Resample the sky of the test stamps, field type by field type.

    Returns its blocks by field type, and by field type and pooled how often each counts in each resampling, shape (R, B).
    """
    blocks = {name: sky_blocks(dataset, name) for name in field_types_of(dataset)}
    weights = {str(name): resample(one, settings.bootstrap_blocks, settings.seed) for name, one in blocks.items()}
    return blocks, {**weights, POOLED: np.concatenate([*weights.values()], axis=1)}


def pairs(methods: Sequence[T], compared: int) -> Iterator[tuple[T, T]]:
    """Pair each of the first `compared` methods with every other one."""
    return islice(permutations(methods, 2), compared * (len(methods) - 1))
