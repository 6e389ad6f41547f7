"""Optional dependencies: there, or one sentence that says what to install."""

from __future__ import annotations

import importlib.util

from deepcr_zoo.errors import MissingExtraError


def require(module: str, need: str, extra: str) -> None:
    """Make sure that a module of an extra can be imported, without importing it.

    Parameters
    ----------
    module : str
    need : str
        Who needs what, as the error says it.
    extra : str
        Extra of this package that has it.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(f"{need}: run pip install 'deepcr-zoo[{extra}]'")
