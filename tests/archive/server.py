"""A small archive that speaks the protocol of MAST as astroquery uses it, and fails as archives do."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from astropy.io import fits

OBSERVATION_FIELDS = {
    "obsid": "string",
    "obs_id": "string",
    "obs_collection": "string",
    "dataproduct_type": "string",
    "instrument_name": "string",
    "proposal_id": "string",
    "target_name": "string",
    "filters": "string",
    "t_exptime": "float",
    "dataRights": "string",
}
PRODUCT_FIELDS = {
    "obsID": "string",
    "obs_collection": "string",
    "obs_id": "string",
    "description": "string",
    "dataURI": "string",
    "productFilename": "string",
    "productSubGroupDescription": "string",
    "project": "string",
    "prvversion": "string",
    "size": "int",
    "parent_obsid": "string",
    "dataRights": "string",
}
COLUMNS = {name: {"text": name, "vot.datatype": "char"} for name in OBSERVATION_FIELDS | PRODUCT_FIELDS}
COLUMNS["t_exptime"]["vot.datatype"] = "double"
COLUMNS["filters"]["separator"] = ";"

CHUNK = 1 << 15


@dataclass
class Served:
    """A file that can be downloaded."""

    data: bytes
    validators: tuple[str, ...] = ("ETag", "Last-Modified")
    takes_ranges: bool = True
    heeds_conditions: bool = True
    confirms: bool = True
    """Whether the rest of a file comes with its validators."""
    breaks_after: deque[int] = field(default_factory=deque)
    """Bytes after which the connection is cut, once each."""
    chunk_delay_s: float = 0.0
    status: int = 200

    @property
    def headers(self) -> dict[str, str]:
        """Validators of this content."""
        digest = hashlib.sha256(self.data).hexdigest()
        known = {"ETag": f'"{digest[:16]}"', "Last-Modified": formatdate(int(digest[:7], 16), usegmt=True)}
        return {name: known[name] for name in self.validators}


@dataclass(frozen=True)
class RequestedDownload:
    """A requested download and the bytes that were sent."""

    name: str
    range: str | None
    status: int
    sent: int
    begun_at: float


class ArchiveServer:
    """The content of the archive, its failures, and the requests it got."""

    def __init__(self) -> None:
        self.observations: list[dict[str, Any]] = []
        self.products: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.files: dict[str, Served] = {}
        self.searches: list[dict[str, Any]] = []
        self.downloads: list[RequestedDownload] = []
        self.most_at_once = 0
        self.refusals: deque[tuple[int, str | None]] = deque()
        """Answers to the next requests of any kind: status and Retry-After."""
        self.refused_at: list[float] = []
        self.polls_before_results = 0
        self.other_answers: deque[Any] = deque()
        """Answers instead of the results of the next searches."""
        self.instead: Callable[[BaseHTTPRequestHandler], bool] | None = None
        """Answers a request in another way, if it returns true."""
        self.delay_s = 0.0
        self.begun = threading.Event()
        self.url = ""
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add_visit(self, paths: Sequence[Path], together: bool = True, rights: str = "PUBLIC") -> list[str]:
        """List exposures, as one observation or each as its own, with what else MAST lists beside them."""
        groups = [list(paths)] if together else [[path] for path in paths]
        for group in groups:
            headers = [fits.getheader(path) for path in group]
            root = headers[0]["ROOTNAME"]
            name = f"{root[:6]}010" if together else root
            facts = {
                "proposal_id": str(headers[0]["PROPOSID"]),
                "target_name": headers[0]["TARGNAME"],
                "filters": ";".join(headers[0][key] for key in ("FILTER1", "FILTER2")),
                "t_exptime": sum(header["EXPTIME"] for header in headers),
            }
            observation = self.add_observation(name.upper(), rights=rights, **facts)
            self.add_product(observation, f"{name}_drc.fits", b"a drizzled image", rights)
            # products of another pipeline, which are listed under the same proposal and filter
            again = self.add_observation(f"hst_{root[1:4]}_{root[4:6]}_acs_wfc_f606w_{root[:6]}", rights=rights, **facts)
            for path in group:
                for suffix in ("raw", "flt", "asn"):
                    self.add_product(observation, path.name.replace("flc", suffix), b"something else", rights)
                self.add_product(observation, path.name, path.read_bytes(), rights)
                self.add_product(again, path.name, path.read_bytes(), rights)
                self.add_product(again, f"hst_{root[1:4]}_{path.name}", b"the same, aligned otherwise", rights)
        return [path.name for path in paths]

    def add_observation(self, name: str, rights: str = "PUBLIC", **facts: Any) -> str:
        """List an observation and return its number."""
        number = str(24_000_000 + len(self.observations))
        self.observations.append(
            {
                "obsid": number,
                "obs_id": name,
                "obs_collection": "HST",
                "dataproduct_type": "image",
                "instrument_name": "ACS/WFC",
                "dataRights": rights,
            }
            | facts
        )
        return number

    def add_product(self, observation: str, name: str, data: bytes, rights: str = "PUBLIC", **facts: Any) -> None:
        """List a product under an observation, and serve it."""
        uri = f"mast:HST/product/{name}"
        self.files.setdefault(name, Served(data))
        self.products[observation].append(
            {
                "obsID": "1" + observation,
                "obs_collection": "HST",
                "obs_id": name[:9].upper(),
                "description": "DADS FLC file",
                "dataURI": uri,
                "productFilename": name,
                "productSubGroupDescription": name[10:13].upper(),
                "project": "CALACS",
                "prvversion": "10.3.5",
                "size": len(data),
                "parent_obsid": observation,
                "dataRights": rights,
            }
            | facts
        )

    def listed(self, name: str) -> Iterator[dict[str, Any]]:
        """All entries of a product, to be changed."""
        return (row for rows in self.products.values() for row in rows if row["productFilename"] == name)

    def replace(self, name: str, data: bytes, version: str = "10.4.0") -> None:
        """Process a product anew."""
        self.files[name].data = data
        for row in self.listed(name):
            row |= {"size": len(data), "prvversion": version}

    def sent(self, name: str) -> int:
        """Bytes of a product that were sent."""
        return sum(one.sent for one in self.downloads if one.name == name)

    # -- for the handlers

    def refusal(self) -> tuple[int, str | None] | None:
        with self._lock:
            if not self.refusals:
                return None
            self.refused_at.append(time.monotonic())
            return self.refusals.popleft()

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._open["now"] += 1
            self.most_at_once = max(self.most_at_once, self._open["now"])
        try:
            yield
        finally:
            with self._lock:
                self._open["now"] -= 1

    def answer(self, request: dict[str, Any]) -> Any:
        """Return the answer of ``/api/v0/invoke``."""
        self.searches.append(request)
        time.sleep(self.delay_s)
        if self.other_answers:
            return self.other_answers.popleft()
        if self.polls_before_results:
            self.polls_before_results -= 1
            return {"status": "EXECUTING", "data": []}
        service, params = request["service"], request["params"]
        if service == "Mast.Caom.Filtered":
            rows = [row for row in self.observations if all(_passes(row, one) for one in params["filters"])]
            fields = OBSERVATION_FIELDS
        elif service == "Mast.Caom.Products":
            rows = [row for number in params["obsid"].split(",") for row in self.products[number]]
            fields = PRODUCT_FIELDS
        else:
            return {"status": "ERROR", "msg": f"unknown service {service}"}
        page, size = request["page"], request["pagesize"]
        pages = max(1, -(-len(rows) // size))
        return {
            "status": "COMPLETE",
            "msg": "",
            "data": rows[(page - 1) * size : page * size],
            "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
            "paging": {"page": page, "pageSize": size, "pagesFiltered": pages, "rows": len(rows)},
        }


def _passes(row: dict[str, Any], wanted: dict[str, Any]) -> bool:
    found = str(row[wanted["paramName"]])
    parts = found.split(wanted["separator"]) if "separator" in wanted else [found]
    pattern = wanted.get("freeText", "").replace("%", "*").upper()
    return not {found, *parts}.isdisjoint(wanted["values"]) or (pattern != "" and fnmatchcase(found.upper(), pattern))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archive: ArchiveServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self._refused() or (self.archive.instead and self.archive.instead(self)):
            return
        if self.path == "/portal/Mashup/Mashup.asmx/columnsconfig":
            self._json(COLUMNS if form["colConfigId"][0] in ("Mast.Caom.Cone", "Mast.Caom.Products") else {})
        elif self.path == "/api/v0/invoke":
            self._json(self.archive.answer(json.loads(form["request"][0])))
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        if self._refused() or (self.archive.instead and self.archive.instead(self)):
            return
        address = urlsplit(self.path)
        uri = parse_qs(address.query).get("uri", [""])[0]
        name = uri.rpartition("/")[2]
        if address.path != "/api/v0.1/Download/file" or name not in self.archive.files:
            self.send_error(404)
            return
        with self.archive.counted():
            self._send_file(name, self.archive.files[name])

    def _refused(self) -> bool:
        refusal = self.archive.refusal()
        if refusal is None:
            return False
        self.send_response(refusal[0])
        if refusal[1] is not None:
            self.send_header("Retry-After", refusal[1])
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def _json(self, content: Any) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_file(self, name: str, served: Served) -> None:
        if served.status != 200:
            self.send_error(served.status)
            return
        begun = time.monotonic()
        data, asked = served.data, self.headers.get("Range")
        condition = self.headers.get("If-Range")
        found = re.fullmatch(r"bytes=(\d+)-", asked or "")
        start = 0
        if found and served.takes_ranges and (condition in (None, *served.headers.values()) or not served.heeds_conditions):
            start = int(found[1])
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        for header, text in served.headers.items() if start == 0 or served.confirms else ():
            self.send_header(header, text)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        end = served.breaks_after.popleft() if served.breaks_after else len(data)
        sent = 0
        try:
            for place in range(start, min(end, len(data)), CHUNK):
                piece = data[place : min(place + CHUNK, end)]
                self.wfile.write(piece)
                sent += len(piece)
                self.archive.begun.set()
                time.sleep(served.chunk_delay_s)
        except OSError:  # the client was killed
            pass
        self.archive.downloads.append(RequestedDownload(name, asked, 206 if start else 200, sent, begun))
        if start + sent < len(data):
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that were killed or have hung up."""


@contextmanager
def serve() -> Iterator[ArchiveServer]:
    """An archive at an address of its own."""
    archive = ArchiveServer()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"archive": archive}))
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield archive
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
