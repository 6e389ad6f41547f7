"""What the clients of hosts log, shown without passwords, signatures and control characters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deepcr_zoo.errors import printable


@contextmanager
def shown_safely(clients: tuple[str, ...], without_secrets: Callable[[str], str]) -> Iterator[None]:
    """Let the loggers whose names begin with these show a text as `without_secrets` returns it, on one line."""
    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith(clients)]
    shown = _Shown(without_secrets)
    for logger in loggers:  # a filter of a logger does not see what its children log
        logger.addFilter(shown)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(shown)


class _Shown(logging.Filter):
    def __init__(self, without_secrets: Callable[[str], str]) -> None:
        super().__init__()
        self._without_secrets = without_secrets

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(self._without_secrets(record.getMessage())), None
        record.exc_info = record.exc_text = record.stack_info = None  # it repeats what came from outside
        return True
