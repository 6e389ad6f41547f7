"""Commands that show masks."""

import subprocess
import sys

from tests.conftest import CHECKOUT

WAITS = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
ENDS = f"""
from deepcr_zoo.cli.viewing import _noted_interrupts
with _noted_interrupts():
    exec({WAITS!r})
"""


def test_ctrl_c_ends_a_viewer_in_peace_also_within_code_that_a_library_compiles():
    assert subprocess.run([sys.executable, "-c", ENDS], cwd=CHECKOUT, timeout=50).returncode == 0
