"""Names of files that are not FITS, from their first bytes, each with the way out."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 1 << 16
"""Bytes from which a kind is recognised."""

FIRST_KEYWORD = b"SIMPLE  ="

_FROM_THE_PICTURE = "give the FITS file that it was made from"
_FROM_THE_ARCHIVE = "unpack it, and give the FITS files in it"
_AS_FITS = "save its image as FITS, with BUNIT and EXPTIME"
_GET_AGAIN = "get it again"


@dataclass(frozen=True)
class _Kind:
    """A kind of file that has these bytes at this place."""

    magic: bytes
    what: str
    way_out: str
    offset: int = 0

    def fits(self, head: bytes) -> bool:
        return head.startswith(self.magic, self.offset)


# signatures as in the database of file(1); of HDF5, ASDF and XISF as in their specifications
_KINDS = (
    _Kind(b"\x1f\x8b", "is packed with gzip", "unpack it once more"),
    _Kind(b"BZh", "is packed with bzip2", "unpack it once more"),
    _Kind(b"\xfd7zXZ\0", "is packed with xz", "unpack it once more"),
    _Kind(b"\x5d\0\0", "is packed with lzma, which is not read", "unpack it with unlzma"),
    _Kind(b"\x1f\x9d", "is packed with compress (.Z), which is not read", "unpack it with gzip -d"),
    _Kind(b"\x28\xb5\x2f\xfd", "is packed with zstd, which is not read", "unpack it with zstd -d"),
    _Kind(b"\x04\x22\x4d\x18", "is packed with lz4, which is not read", "unpack it with lz4 -d"),
    _Kind(b"LZIP", "is packed with lzip, which is not read", "unpack it with lzip -d"),
    _Kind(b"PK\x03\x04", "is a zip archive", _FROM_THE_ARCHIVE),
    _Kind(b"PK\x05\x06", "is an empty zip archive", _GET_AGAIN),
    _Kind(b"ustar", "is a tar archive", _FROM_THE_ARCHIVE, offset=257),
    _Kind(b"Rar!\x1a\x07", "is a RAR archive", _FROM_THE_ARCHIVE),
    _Kind(b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive", _FROM_THE_ARCHIVE),
    _Kind(b"\x89HDF\r\n\x1a\n", "is an HDF5 file", _AS_FITS),
    _Kind(b"#ASDF", "is an ASDF file", _AS_FITS),
    _Kind(b"XISF0100", "is an XISF file", _AS_FITS),
    _Kind(b"\x93NUMPY", "is an array of numpy", "give it to deepcr_zoo.clean in Python, or save it as FITS"),
    _Kind(b"\x89PNG\r\n\x1a\n", "is a PNG picture", _FROM_THE_PICTURE),
    _Kind(b"\xff\xd8\xff", "is a JPEG picture", _FROM_THE_PICTURE),
    _Kind(b"GIF8", "is a GIF picture", _FROM_THE_PICTURE),
    _Kind(b"II*\0", "is a TIFF picture or the raw file of a photo camera", _AS_FITS),
    _Kind(b"MM\0*", "is a TIFF picture or the raw file of a photo camera", _AS_FITS),
    _Kind(b"%PDF", "is a PDF document", _FROM_THE_PICTURE),
    _Kind(b"SQLite format 3\0", "is an SQLite database", "give a FITS file"),
    _Kind(b"\0\x05\x16\x07", "holds what macOS keeps beside a file (._NAME)", "give the file itself"),
    _Kind(b"version https://git-lfs.github.com/spec/", "is a pointer of git-lfs, not the file", "run git lfs pull"),
    _Kind(b"/annex/objects/", "is a pointer of git-annex, not the file", "run git annex get"),
    _Kind(b"XTENSION=", "begins with an extension, its primary header is missing", _GET_AGAIN),
)


def not_fits(head: bytes) -> str:
    """Return what a file that does not begin as a FITS file is, and what to do; `head` is its first `HEAD_BYTES`."""
    if not head:
        return f"is empty: {_GET_AGAIN}"
    if known := next((kind for kind in _KINDS if kind.fits(head)), None):
        return f"{known.what}: {known.way_out}"
    if not head.strip(b"\0"):
        return f"begins with zeros alone, as unfinished downloads do: {_GET_AGAIN}"
    if (place := head.find(FIRST_KEYWORD)) > 0 and head.find(b"\0") < 0 and b"<" not in head[:place]:
        return f"has {place} bytes before its first keyword, SIMPLE: remove them, or {_GET_AGAIN}"
    return _text(head) or "is not a FITS file: expected SIMPLE as its first keyword"


def _text(head: bytes) -> str:
    """Return what a text is; empty for other bytes."""
    try:
        text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="strict")
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < len(head) - 4:  # else a character is cut in two at the end
            return ""
        text = head[: error.start].decode("utf-8-sig")
    if any(character < " " and character not in "\t\n\r\f" for character in text):
        return ""
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")) or "<html" in start[:2000]:
        return f"is a web page, perhaps of a login: log in and {_GET_AGAIN}"
    if start.startswith("<"):
        return f"is an XML document, perhaps the answer of an archive: read it, and {_GET_AGAIN}"
    if start.startswith(("{", "[")):
        return f"is a JSON document, perhaps the answer of an archive: read it, and {_GET_AGAIN}"
    # its words are not repeated: in a folder of others it may be a link to a file of the user, with a token
    return "is a text, not a FITS file: expected SIMPLE as its first keyword"
