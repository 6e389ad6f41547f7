"""Files that are not FITS are named for what they are, each with a way out."""

import gzip
import io
import json
import lzma
import os
import socket
import tarfile
import zipfile

import numpy as np
import pytest
from matplotlib.image import imsave

from deepcr_zoo import clean_file
from deepcr_zoo.errors import InvalidFileError
from deepcr_zoo.exposures.reading import read_exposure
from tests.fitsfiles import ACS, scene, science, write

TEXT = b"# name ra dec\n1 150.1 2.2\n"


def zipped(name="x.fits"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, TEXT)
    return file.getvalue()


def tarred(mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        entry = tarfile.TarInfo("x.fits")
        entry.size = len(TEXT)
        archive.addfile(entry, io.BytesIO(TEXT))
    return file.getvalue()


def picture(form):
    file = io.BytesIO()
    imsave(file, np.zeros((8, 8)), format=form)
    return file.getvalue()


def array():
    file = io.BytesIO()
    np.save(file, np.zeros((8, 8)))
    return file.getvalue()


KINDS = {
    "compress": (b"\x1f\x9d\x90\x53", r"is packed with compress \(.Z\), which is not read: unpack it with gzip -d"),
    "zstd": (b"\x28\xb5\x2f\xfd\0\0", "is packed with zstd, which is not read: unpack it with zstd -d"),
    "lzma": (lzma.compress(b"SIMPLE", format=lzma.FORMAT_ALONE), "is packed with lzma, which is not read: unpack it with"),
    "zip": (zipped(), "is a zip archive: unpack it, and give the FITS files in it"),
    "tar": (tarred(), "is a tar archive: unpack it, and give the FITS files in it"),
    "packed tar": (tarred("w:gz"), "is packed with gzip, and its content is a tar archive: unpack it"),
    "rar": (b"Rar!\x1a\x07\x01\0", "is a RAR archive: unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7-Zip archive: unpack it"),
    "HDF5": (b"\x89HDF\r\n\x1a\n\0", "is an HDF5 file: save its image as FITS"),
    "ASDF": (b"#ASDF 1.0.0\n", "is an ASDF file: save its image as FITS"),
    "numpy": (array(), "is an array of numpy: give it to deepcr_zoo.clean in Python"),
    "PNG": (picture("png"), "is a PNG picture: give the FITS file that it was made from"),
    "JPEG": (picture("jpg"), "is a JPEG picture: give the FITS file"),
    "TIFF": (picture("tiff"), "is a TIFF picture or the raw file of a photo camera: save"),
    "login page": (b"\n<!DOCTYPE html><html><form>", "is a web page, perhaps of a login: log in and get it again"),
    "page without doctype": (b"<!-- portal -->\n<HTML lang='es'>", "is a web page, perhaps of a login"),
    "XML": (b"<?xml version='1.0'?><VOTABLE/>", "is an XML document, perhaps the answer of an archive: read it"),
    "JSON": (json.dumps({"status": "ERROR"}).encode(), "is a JSON document, perhaps the answer of an archive: read it"),
    "text": (TEXT, "is a text, not a FITS file: expected SIMPLE"),
    "text that is cut in a character": (b"a" * 65_535 + "é".encode(), "is a text"),
    "git-lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid",
        "is a pointer of git-lfs, not the file: run git lfs pull",
    ),
    "git-annex": (b"/annex/objects/SHA256E-s1", "is a pointer of git-annex, not the file: run git annex get"),
    "AppleDouble": (b"\0\x05\x16\x07\0\2", "holds what macOS keeps beside a file"),
    "empty": (b"", "is empty: get it again"),
    "packed and empty": (gzip.compress(b""), "is packed with gzip, and its content is empty: get it again"),
    "packed twice": (
        gzip.compress(gzip.compress(TEXT)),
        "is packed with gzip, and its content is packed with gzip: unpack it once",
    ),
    "zeros": (bytes(4000), "begins with zeros alone, as unfinished downloads do: get it again"),
    "lone extension": (b"XTENSION= 'IMAGE   '", "begins with an extension, its primary header is missing: get it again"),
    "header of a web server": (
        b"HTTP/1.1 200 OK\r\n\r\nSIMPLE  = ",
        "has 19 bytes before its first keyword, SIMPLE: remove them",
    ),
    "other bytes": (b"\xff\0\1\2", "is not a FITS file: expected SIMPLE as its first keyword"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_fits_is_named_for_what_it_is(kind, tmp_path):
    content, message = KINDS[kind]
    (tmp_path / "x.fits").write_bytes(content)
    with pytest.raises(InvalidFileError, match=f"x.fits: {message}") as refused:
        read_exposure(tmp_path / "x.fits")
    assert "\n" not in str(refused.value)


def test_a_pipe_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.fits")
    with pytest.raises(InvalidFileError, match=r"x.fits: is a pipe, not a file: save what it gives as a FITS file first"):
        clean_file(tmp_path / "x.fits")


def test_devices_and_sockets_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("x.fits")
        with pytest.raises(InvalidFileError, match=r"x.fits: is a socket, not a file"):
            clean_file("x.fits")
    with pytest.raises(InvalidFileError, match="/dev/zero: is a device, not a file"):
        clean_file("/dev/zero")


def test_an_extension_in_brackets_is_answered_in_python_too(tmp_path):
    path = write(tmp_path / "x.fits", science(scene()[0]), **ACS)
    with pytest.raises(InvalidFileError, match=r"x.fits\[1\]: give the file and extension=1"):
        clean_file(f"{path}[1]")
