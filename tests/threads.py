"""Work done by several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any


def at_once(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """What `work` gives for each item, a thread for each."""
    found: list[Any] = [None] * len(items)

    def one(index: int) -> None:
        found[index] = work(items[index])

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(items))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
