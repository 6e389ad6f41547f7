"""Upstream's releases, fetched by pip, which runs code of theirs: only for releases that the zoo's own cards pin."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from deepcr_zoo.publishing.sdists import archive_name
from deepcr_zoo.zoo.cards import UpstreamFile


def fetch(upstream: UpstreamFile, folder: Path) -> None:
    """Fetch the source distribution of a release into a folder, by its pinned hash, if it is not there."""
    if (folder / archive_name(upstream)).exists():
        return
    requirement = f"{upstream.package}=={upstream.release} --hash=sha256:{upstream.sdist_sha256}\n"
    with tempfile.TemporaryDirectory() as scratch:
        listing = Path(scratch, "requirements.txt")
        listing.write_text(requirement)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--require-hashes", "-r", str(listing), "-d", str(folder)], check=True)
