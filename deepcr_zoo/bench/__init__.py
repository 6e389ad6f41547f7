"""Bench: judge models on the test stamps of a training set, and read the folders of runs.

Holds the measures (`measures`), the report for people (`report`), gates, results and runs.

Imports dataset, exposures, models, zoo and flat files; training, publishing and cli import it.
Promises that all methods see the same pixels, and that no model is judged on sky it was trained on.
"""

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"judging": ["Extent", "benchmark"], "results": ["BenchmarkResults", "read_results"], "runs": ["Run"]},
)

if TYPE_CHECKING:
    from deepcr_zoo.bench.judging import Extent as Extent
    from deepcr_zoo.bench.judging import benchmark as benchmark
    from deepcr_zoo.bench.results import BenchmarkResults as BenchmarkResults
    from deepcr_zoo.bench.results import read_results as read_results
    from deepcr_zoo.bench.runs import Run as Run
