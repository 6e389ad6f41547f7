"""A confined process changes files below its folder alone."""

import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT


def run(code, folder):
    start = "import pathlib\nfrom deepcr_zoo.dataset.confinement import confine\nrefused = confine(pathlib.Path.cwd())\n"
    return subprocess.run(
        [sys.executable, "-B", "-c", start + code],
        cwd=folder,
        env={"PYTHONPATH": str(CHECKOUT), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.fits").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.fits").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to("../mine.fits")
    (tmp_path / "inside" / "own").write_text("own")
    return tmp_path / "inside"


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.remove('../mine.fits')",
        "open('../mine.fits', 'w')",
        "open('../mine.fits', 'r+')",
        "open(b'../new.fits', 'ab')",
        "open('link', 'w')",
        "import os; os.open('../mine.fits', os.O_WRONLY | os.O_TRUNC)",
        "import os; os.rename('own', '../mine.fits')",
        "import os; os.replace('../mine.fits', 'here')",
        "import os; os.link('../mine.fits', 'here')",
        "import os; os.symlink('own', '../new.fits')",
        "import os; os.mkdir('../new')",
        "import os; os.rmdir('../empty')",
        "import os; os.chmod('../mine.fits', 0)",
        "import os; os.utime('../mine.fits', (0, 0))",
        "import shutil; shutil.rmtree('../full')",
        "import shutil; shutil.copy('own', '../mine.fits')",
        "from astropy.io import fits; fits.PrimaryHDU().writeto('../mine.fits', overwrite=True)",
        "import numpy; numpy.memmap('../mine.fits', mode='r+', shape=4, dtype='u1')[:] = 0",
        "import os; os.system('rm ../mine.fits')",
        "import subprocess; subprocess.run(['rm', '../mine.fits'])",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
    ],
)
def test_what_leads_out_of_the_folder_is_refused_and_remembered(code, folder):
    before = sorted(folder.parent.rglob("*"))
    done = run(f"try:\n    {code}\nexcept OSError as error:\n    print(type(error).__name__, len(refused()) > 0)", folder)
    assert done.stdout in ("PermissionError True\n", "URLError True\n"), done.stderr
    assert (folder.parent / "mine.fits").read_text() == "mine"
    assert sorted(folder.parent.rglob("*")) == before


def test_work_within_the_folder_goes_on(folder):
    code = """
import os, shutil, tempfile
from astropy.io import fits
fits.PrimaryHDU().writeto("a.fits")
fits.setval("a.fits", "B", value=1)
os.replace("a.fits", "b.fits")
os.makedirs("deep/er")
shutil.copy("b.fits", "deep/er")
shutil.rmtree("deep")
open(os.devnull, "w").write("x")
open("../mine.fits").read()
os.remove("link")
print(refused(), sorted(os.listdir()))
"""
    done = run(code, folder)
    assert done.stdout == "[] ['b.fits', 'own']\n", done.stderr
