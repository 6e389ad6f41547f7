"""A ``deepcr-zoo`` and a ``python`` to put on PATH that start at once, forked from a process with all packages imported.

Each command is a process of its own that imports deepcr_zoo itself, from where PYTHONPATH says, and reads its settings anew.
Whoever signals it or tests its start uses the real one. Run as a script, this file is the process that forks.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

PACKAGES = (
    "torch._dynamo",  # Adam imports it
    "astropy.coordinates",
    "astropy.io.fits",
    "astropy.stats",
    "astropy.table",
    "astropy.wcs",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pydantic",
    "safetensors.torch",
    "scipy.fft",
    "scipy.ndimage",
    "scipy.signal",
    "scipy.spatial",
    "scipy.special",
    "typer",
    "yaml",
)
"""Imported before a command starts; not huggingface_hub, which reads its settings when it is imported."""

CLIENT = """#!{python} -SEI
import array, json, os, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    order = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    server.sendmsg([len(order).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    server.sendall(order)
    status = int(server.recv(16) or b"-9")
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@cache
def programs(packages: tuple[str, ...] = PACKAGES) -> Path:
    """Return the folder of the programs, which work until this process ends, and begin with these packages imported."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    address = str(folder / "socket")
    for program in (folder / "deepcr-zoo", folder / "python"):
        program.write_text(CLIENT.format(python=sys.executable, address=address))
        program.chmod(0o755)
    command = [sys.executable, __file__, address, *packages]
    server = subprocess.Popen(command, env=os.environ | {"MPLBACKEND": "Agg"}, stdout=subprocess.PIPE)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.kill)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return folder


def path() -> str:
    """Return a PATH on which they come first, before the programs of this environment."""
    return os.pathsep.join([str(programs()), str(Path(sys.executable).parent), os.environ["PATH"]])


def serve(address: str, packages: list[str]) -> None:
    """Fork a process for each connection, in which this returns when its command may begin."""
    _keep_to_one_processor()
    with warnings.catch_warnings(action="ignore"):
        for package in packages:
            importlib.import_module(package)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection:
        size, (rights,), *_ = connection.recvmsg(8, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        with connection.makefile("rb") as order:
            arguments, cwd, environment = json.loads(order.read(int.from_bytes(size, "big")))
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            connection.sendall(str(status).encode())
            os._exit(0)
    for number, received in enumerate(array.array("i", rights[2])):
        os.dup2(received, number)
        os.close(received)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # TMPDIR decides
    sys.path[:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))  # in place of the folder of this file
    sys.argv = arguments


def _keep_to_one_processor() -> None:
    """Keep this process and its children to one processor: tests run on the others, and pools of processes start slowly."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        ours = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {ours[int(worker.removeprefix("gw")) % len(ours)]})


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
    match [Path(sys.argv[0]).name, *sys.argv[1:]]:
        case ["python", "-c", code, *rest]:
            sys.argv = ["-c", *rest]
            exec(code, {"__name__": "__main__"})
        case ["python", "-m", module, *_]:
            del sys.argv[0:2]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["deepcr-zoo", *_]:
            from deepcr_zoo.cli.main import main

            main()
        case unknown:
            sys.exit(f"{unknown}: expected deepcr-zoo, python -c or python -m")
