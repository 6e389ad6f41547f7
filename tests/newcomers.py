"""A folder in which a newcomer types commands, with settings, data and caches of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from tests import warm
from tests.conftest import CHECKOUT


class Newcomer:
    """Types commands; `folder` has nothing but settings at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = folder / "settings" / "config.yaml"
        settings.parent.mkdir()
        settings.write_text("{}\n")
        own = {"PATH": warm.path(), "PYTHONPATH": str(CHECKOUT), "DEEPCR_ZOO_CONFIG": str(settings)}
        self._environment = os.environ | own | {"DEEPCR_ZOO_DATA": str(folder / "data")}
        self._environment["DEEPCR_ZOO_CACHE"] = str(folder / "cache")

    def type_line(self, command: str) -> str:
        """Type a line as a shell reads it, and return what it printed."""
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def type(self, *words: str) -> str:
        """Type a command of deepcr-zoo, and return what it printed."""
        return self.type_line(shlex.join(["deepcr-zoo", *words]))
