"""Metadata block at the top of a README.md for the Hub: licence, tags, evaluation results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LICENCES = ("apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "gpl-3.0", "lgpl-3.0", "mit", "mpl-2.0")
"""The Hub's licence identifiers that cards may have: SPDX identifiers in lower case."""


@dataclass(frozen=True)
class Evaluation:
    """A figure that the Hub shows; `metric` is its identifier there, `source` is None for our own measurements."""

    data: str
    part: str
    metric: str
    metric_name: str
    value: float
    source: str | None = None
    source_url: str | None = None


def front_matter(
    *, name: str, spdx: str, tags: Sequence[str], pipeline: str, base_model: str | None, evaluations: Sequence[Evaluation]
) -> str:
    """Return the block with its lines of dashes; `base_model` is the repository of the model it was fine-tuned from."""
    from huggingface_hub import EvalResult, ModelCardData

    known = spdx.lower() in LICENCES
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=_slug(one.data),
            dataset_name=one.data,
            dataset_config=one.part,
            metric_type=one.metric,
            metric_name=one.metric_name,
            metric_value=one.value,
            source_name=one.source,
            source_url=one.source_url,
        )
        for one in evaluations
    ]
    data = ModelCardData(
        license=spdx.lower() if known else "other",
        license_name=None if known else spdx.lower(),
        license_link=None if known else "LICENSE",
        library_name="deepcr-zoo",
        pipeline_tag=pipeline,
        tags=list(tags),
        base_model=base_model,
        model_name=name,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _slug(text: str) -> str:
    words = re.findall("[a-z0-9]+", text.lower())
    return "-".join(words)[:64].strip("-") or "data"
