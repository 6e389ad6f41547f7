"""The block of metadata at the top of a README.md, which the Hub reads: licence, tags, evaluation results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LIBRARY = "deepcr-zoo"

LICENCES = ("apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "gpl-3.0", "lgpl-3.0", "mit", "mpl-2.0")
"""Those of the Hub's identifiers that cards may have; they are SPDX identifiers in lower case."""


@dataclass(frozen=True)
class Evaluation:
    """A figure that the Hub shows.

    Attributes
    ----------
    data : str
        What it was measured on, in words.
    part : str
        Field type.
    metric : str
        Identifier of the Hub: ``recall``, ``mse``.
    metric_name : str
        For people.
    value : float
    source, source_url : str or None
        Where it stands; None if it was measured by this project.
    """

    data: str
    part: str
    metric: str
    metric_name: str
    value: float
    source: str | None = None
    source_url: str | None = None


def front_matter(
    *,
    name: str,
    spdx: str,
    tags: Sequence[str],
    pipeline: str,
    base_model: str | None,
    evaluations: Sequence[Evaluation],
) -> str:
    """The block, with its lines of dashes.

    Parameters
    ----------
    name : str
        Of the model.
    spdx : str
        Identifier of the licence.
    tags : sequence of str
    pipeline : str
        The Hub's word for the task.
    base_model : str or None
        Repository of the model that it was fine-tuned from.
    evaluations : sequence of Evaluation
    """
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
        library_name=LIBRARY,
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
