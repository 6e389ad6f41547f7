"""Command line: one thin function for each command.

The only room that prints.

Imports: every other room. No other room imports it.
Promise: results go to stdout, messages to stderr; exit codes are 0 done, 1 some inputs failed, 2 wrong usage.
"""

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"console": ["TerminalReporter"]})

if TYPE_CHECKING:
    from deepcr_zoo.cli.console import TerminalReporter as TerminalReporter
