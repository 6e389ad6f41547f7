"""Searches of MAST, the archive at STScI, and downloads from it, with astroquery, which only this module imports."""

from __future__ import annotations

import math
import os
import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any
from urllib.parse import quote, urlsplit

from deepcr_zoo.archive.listing import Product, Query, VisitRequest
from deepcr_zoo.archive.pace import Pace
from deepcr_zoo.documents import brief
from deepcr_zoo.errors import ArchiveBusyError, ArchiveError, ArchiveUnreachableError, IntegrityError, UsageError
from deepcr_zoo.machine import free_memory_bytes, require
from deepcr_zoo.zoo import incoming
from deepcr_zoo.zoo.networksettings import (
    MAST,
    PROXY_REFUSAL,
    Address,
    check_proxies,
    host_address,
    socks_advice,
    with_settings,
    without_passwords,
)
from deepcr_zoo.zoo.recipe import visit_code
from deepcr_zoo.zoo.safelogs import shown_safely

CONNECT_S, READ_S = 10.0, 60.0  # seconds that the archive may be silent; astroquery itself would wait for ever
HEAD_S = 120.0  # for the head of a download, redirects included
SEARCH_S, POLL_S = 600.0, 0.5  # for all answers of a question, and between two questions whether it is ready
LONGEST_SEARCH_S = 3600.0  # after which no further question is asked
MOST_ROWS = 100_000  # observations, or exposures of them, of one search; fifty proposals have a tenth
MEMORY_OF_AN_ANSWER = 50  # bytes of objects for each byte of an answer, 35 of which were measured
MOST_ANSWER_BYTES = 200_000_000  # all pages together; the visits of fifty proposals have a tenth
LARGEST_PRODUCT_BYTES = 10**11
CHUNK_BYTES = 1 << 16
SEARCH = "search for exposures"  # the activity in errors
MOST_STATUS_BYTES = 1000  # the status stands at the beginning
LOGGERS = ("urllib3",)  # logs each request at DEBUG
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables from which the client takes certificates."""

PROPOSALS_AT_ONCE, OBSERVATIONS_AT_ONCE = 50, 200  # most items in one request of a search
TELESCOPES = ("HST",)  # telescopes whose file names (ipppssoot) can be read here
# from astroquery where an answer lacks what it expects
_LACKING = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """The bytes of a product from `start` on; the validator (ETag, else Last-Modified) changes with the file."""

    start: int
    total: int | None
    validator: str | None
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Observation:
    """An entry of the archive: a single exposure, or an association of exposures of a visit."""

    id: str
    name: str
    camera: str
    proposal: int
    target: str
    filters: frozenset[str]
    exposure_time_s: float | None
    is_public: bool


class Archive:
    """A connection to the archive; several threads may use `Archive.open` at once."""

    def __init__(self, pace: Pace | None = None) -> None:
        require("astroquery", "the archive is searched with astroquery, which is not installed", "mast")
        self._pace = pace or Pace()
        self._observations, self._session, self.address = _connect(self._pace)

    def search(self, query: Query) -> list[Product]:
        """Return the exposures of a query, public or not, each once, in order of their names."""
        if query.telescope not in TELESCOPES:
            raise UsageError(
                f"the archive is searched for {', '.join(TELESCOPES)} alone, not for {query.telescope}: "
                "supply the exposures with --data DIR"
            )
        until = time.monotonic() + LONGEST_SEARCH_S
        observations: dict[str, Observation] = {}
        for search in _searches(query):
            rows = self._ask("query_criteria", **search)
            with self._reporting_failures(SEARCH):
                found = (one for one in map(_observation, rows) if one is not None)
                observations |= {one.id: one for one in found if _is_requested(query, one)}
            self._check_extent(len(observations), until)
        # the pipeline's standard products of the kind that is asked for
        names, exposures = re.compile(rf"[a-z][a-z0-9]{{8}}_{re.escape(query.product.lower())}\.fits"), list[Row]()
        for part in _parts(sorted(observations), OBSERVATIONS_AT_ONCE):
            rows = self._ask("get_product_list", list(part))
            with self._reporting_failures(SEARCH):
                exposures += [row for row in rows if names.fullmatch(_file_name(row))]
            self._check_extent(len(exposures), until)
        with self._reporting_failures(SEARCH):
            return _products(query, observations, exposures)

    def _check_extent(self, rows: int, until: float) -> None:
        where, way_out = f"{SEARCH}: the archive at {self.address}", "name fewer visits at a time"
        if rows > MOST_ROWS:
            raise ArchiveError(f"{where} finds more than {MOST_ROWS:,} entries: {way_out}")
        if time.monotonic() > until:
            raise ArchiveError(f"{where} takes more than {LONGEST_SEARCH_S:.0f} s: {way_out}")

    @contextmanager
    def open(self, product: Product, start: int = 0, validator: str | None = None) -> Iterator[Part]:
        """Open a product, from byte `start` on if the validator shows that it is still the same file, else as a whole."""
        start = start if validator else 0
        response = self._pace.ask(lambda: self._get(product, start, validator))
        try:
            if start and not _can_resume(response, start, validator):
                response.close()
                start = 0
                response = self._pace.ask(lambda: self._get(product, 0, None))
            first = start if response.status_code == 206 else 0
            yield Part(first, _total(response), _validator(response), self._chunks(product, response))
        finally:
            response.close()

    def _get(self, product: Product, start: int, validator: str | None) -> Any:
        headers = {"Range": f"bytes={start}-", "If-Range": validator} if start and validator else {}
        with self._reporting_failures(product.name):
            url = f"{self.address}/api/v0.1/Download/file?uri={quote(product.uri, safe=':/')}"
            ask = partial(self._session.get, url, headers=headers, stream=True)
            response = incoming.within(HEAD_S, ask)
            incoming.check_announced(response.headers, LARGEST_PRODUCT_BYTES, "its answer")
            if start == 0 or response.status_code != 416:  # 416: no bytes from there on, so the whole file is next
                response.raise_for_status()
            return response

    def _chunks(self, product: Product, response: Any) -> Iterator[bytes]:
        with self._reporting_failures(product.name):
            yield from _chunks(response)

    def _ask(self, method: str, *arguments: Any, **criteria: Any) -> list[Row]:
        def ask() -> list[Row]:
            with self._reporting_failures(SEARCH):
                return incoming.within(SEARCH_S, read, most_answer_bytes(), waiting)

        def read() -> list[Row]:
            table = getattr(self._observations, method)(*arguments, **criteria)
            return [dict(zip(table.colnames, row, strict=True)) for row in table.iterrows()]

        waiting = partial(self._pace.report, f"the archive at {self.address} works on the search")
        return self._pace.ask(ask)

    @contextmanager
    def _reporting_failures(self, activity: str) -> Iterator[None]:
        """Turn any failure of astroquery into one sentence."""
        import requests
        import urllib3
        from astroquery import exceptions

        where = f"{activity}: the archive at {self.address}"
        try:
            yield
        except requests.HTTPError as error:
            raise _refusal(where, error.response) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, exceptions.TimeoutError) as error:
            raise ArchiveUnreachableError(f"{where} {_failure(error)}") from None
        except IntegrityError as error:
            raise ArchiveError(f"{where} cannot be used: {error}") from None
        except (exceptions.RemoteServiceError, exceptions.InvalidQueryError, *_LACKING) as error:
            detail = _shown(error) or type(error).__name__
            raise ArchiveError(f"{where} sent an answer that cannot be understood: {detail}") from None


def _connect(pace: Pace) -> tuple[Any, Any, str]:
    """Return astroquery's interface to the chosen address, by default its own, with its session and that address.

    astroquery reads its setting once, at import, and has no public way to set the address or the timeouts of a session.
    Its private attributes are used here alone.
    """
    from astroquery.exceptions import NoResultsWarning
    from astroquery.mast import ObservationsClass, conf
    from requests.adapters import HTTPAdapter

    # for good: threads that clean would wait for whoever changes this for a search; callers report an empty result
    warnings.filterwarnings("ignore", category=NoResultsWarning)
    check_proxies(ArchiveUnreachableError)
    address = host_address(MAST, os.environ.get(MAST) or conf.server, UsageError)

    class GuardedAdapter(HTTPAdapter):
        """Requests with a timeout, and answers that are bounded and not packed."""

        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            incoming.check_time()
            pace.check()
            if not address.may_lead_to(urlsplit(request.url).scheme):
                raise IntegrityError("it leads to an address without https")
            request.headers["Accept-Encoding"] = "identity"  # sizes are compared with the bytes that arrive
            request.headers.pop("Authorization", None)  # requests has taken it from ~/.netrc for whatever host this is
            if address.basic is not None and _is_at(request.url, address):
                request.headers["Authorization"] = address.basic
            is_file = options.get("stream", False)
            options |= {"timeout": options.get("timeout") or (CONNECT_S, READ_S), "stream": True}
            with shown_safely(LOGGERS, without_passwords):
                response = super().send(request, *arguments, **options)
            return response if is_file else _read_whole(response, pace)

    observations = ObservationsClass()
    portal, session = observations._portal_api_connection, observations._session
    portal.MAST_REQUEST_URL = f"{address.url}/api/v0/invoke"
    portal.COLUMNS_CONFIG_URL = f"{address.url}/portal/Mashup/Mashup.asmx/columnsconfig"
    for scheme in ("https://", "http://"):
        session.mount(scheme, GuardedAdapter())
    return observations, session, address.url


def _is_at(url: str, address: Address) -> bool:
    asked, own = urlsplit(url), urlsplit(address.url)
    return (asked.scheme, asked.hostname, asked.port) == (own.scheme, own.hostname, own.port)


def _read_whole(response: Any, pace: Pace) -> Any:
    """Return a response with its body in memory; one that says that the search still runs comes with a pause."""
    try:
        body = incoming.whole(response.headers, _chunks(response), most_answer_bytes(), "its answer")
    finally:
        response.close()
    response.raw = BytesIO(body)
    if b'"EXECUTING"' in body[:MOST_STATUS_BYTES]:
        pace.wait(POLL_S)  # astroquery asks again at once
    return response


def most_answer_bytes() -> int:
    """Return the largest answer whose objects fit into the free memory."""
    free = free_memory_bytes()
    return MOST_ANSWER_BYTES if free is None else min(MOST_ANSWER_BYTES, free // MEMORY_OF_AN_ANSWER)


def _chunks(response: Any) -> Iterator[bytes]:
    """Yield bytes as they arrive: `iter_content` would wait for a whole chunk of a host that sends a byte a minute."""
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
        yield bytes(chunk)


def _searches(query: Query) -> Iterator[dict[str, Any]]:
    """Yield the criteria of the questions whose answers have all observations of a query."""
    kind = {"obs_collection": query.telescope, "dataproduct_type": query.kinds}
    proposals = sorted({one.proposal for one in query.visits if one.proposal is not None})
    for part in _parts(proposals, PROPOSALS_AT_ONCE):
        # old proposals are listed with or without their leading zeros
        yield kind | {"proposal_id": sorted({text for one in part for text in (str(one), f"{one:05d}")})}
    for target in sorted({one.target for one in query.visits if one.proposal is None and one.target is not None}):
        pattern = re.sub(r"\?+", "*", target)  # the archive has no other wildcard
        yield kind | {"target_name": pattern, "instrument_name": f"{query.instrument}/{query.detector}"}


def _observation(row: Row) -> Observation | None:
    """Return the observation of a row; None for high-level products (hst_*), made from those of the pipeline."""
    name, proposal = _text(row, "obs_id"), _text(row, "proposal_id")
    if name.lower().startswith("hst_") or not re.fullmatch("[0-9]{1,9}", proposal):
        return None
    return Observation(
        id=_text(row, "obsid"),
        name=name,
        camera=_text(row, "instrument_name"),
        proposal=int(proposal),
        target=_text(row, "target_name"),
        filters=_filters(row),
        exposure_time_s=_number(row, "t_exptime"),
        is_public=_is_public(row),
    )


def _is_requested(query: Query, observation: Observation) -> bool:
    if observation.camera.upper() not in (query.instrument.upper(), f"{query.instrument}/{query.detector}".upper()):
        return False
    visit, filters = visit_code(observation.name[4:6]), set(observation.filters)
    return any(one.matches(observation.proposal, visit, observation.target, filters) for one in query.visits)


def _file_name(row: Row) -> str:
    return _text(row, "productFilename").lower()


def _products(query: Query, observations: Mapping[str, Observation], rows: Iterable[Row]) -> list[Product]:
    """Return the exposures in these rows; several observations may list the same one."""
    listed: dict[str, dict[str, Row]] = {}
    for row in rows:
        parents = (_text(row, "parent_obsid"), _text(row, "obsID"))
        observation = next((key for key in parents if key in observations), None)
        if observation is not None:
            listed.setdefault(observation, {}).setdefault(_file_name(row), row)
    found: dict[str, Product] = {}
    for key in sorted(listed, key=lambda one: observations[one].name):
        for name, row in listed[key].items():
            product = _product(name, row, observations[key], query.visits, len(listed[key]))
            if product is not None:
                found.setdefault(name, product)
    return [found[name] for name in sorted(found)]


def _product(
    name: str, row: Row, observation: Observation, requests: Sequence[VisitRequest], exposures: int
) -> Product | None:
    visit, total = visit_code(name[4:6]), observation.exposure_time_s
    filters = _filters(row) or observation.filters
    if len(filters) != 1:  # with a polariser, for example, it counts as another filter
        return None
    root = name.partition("_")[0]
    if not any(one.matches(observation.proposal, visit, observation.target, set(filters), root) for one in requests):
        return None
    return Product(
        name=name,
        uri=_text(row, "dataURI"),
        size=_size(name, row),
        version=_text(row, "prvversion"),
        project=_text(row, "project"),
        observation=observation.name,
        proposal=observation.proposal,
        visit=visit,
        target=observation.target,
        filter_name=min(filters),
        exposure_time_s=None if total is None else round(total / exposures, 3),
        is_public=observation.is_public and _is_public(row),
    )


def _can_resume(response: Any, start: int, validator: str | None) -> bool:
    """True if a response to a request from `start` on is the whole file, or the rest of the same file."""
    if response.status_code != 206:
        return bool(response.status_code == 200)
    begins = re.match(r"bytes ([0-9]{1,15})-", response.headers.get("Content-Range", ""))
    return begins is not None and int(begins[1]) == start and _validator(response) == validator


def _validator(response: Any) -> str | None:
    tag, date = (response.headers.get(name) for name in ("ETag", "Last-Modified"))
    # a weak tag promises the same meaning, not the same bytes
    return str(tag) if tag and tag.startswith('"') else date and str(date)


def _total(response: Any) -> int | None:
    header = "Content-Range" if response.status_code == 206 else "Content-Length"
    return incoming.whole_number(response.headers.get(header, "").rpartition("/")[2])


def _refusal(where: str, response: Any) -> ArchiveError:
    status = response.status_code
    if status == PROXY_REFUSAL:
        reason = with_settings(f"the proxy requires a name and a password ({status})", CERTIFICATES)
        return ArchiveUnreachableError(f"{where} cannot be reached: {reason}")
    if status in (429, 503):
        wait = incoming.seconds_to_wait(response.headers.get("Retry-After"))
        when = "later" if wait is None else f"in {wait:.0f} s"
        return ArchiveBusyError(f"{where} is busy ({status}): come back {when}", wait)
    if status in (401, 403):
        return ArchiveError(f"{where} does not make it public ({status}): leave out its visit, or supply the file")
    if status == 404:
        return ArchiveError(f"{where} lists it but does not have it ({status}): supply the file, or ask the archive")
    kind = ArchiveUnreachableError if status >= 500 else ArchiveError
    return kind(f"{where} answers {status} {_shown(response.reason or '')}".rstrip())


def _failure(error: BaseException) -> str:
    """Return in a few words why there is no answer."""
    import requests
    import urllib3

    if isinstance(error, (requests.Timeout, TimeoutError, urllib3.exceptions.TimeoutError)):
        return "does not answer in time"
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return "did not answer with JSON: is there a login page in between?"
    if isinstance(error, requests.exceptions.InvalidSchema) and "SOCKS" in str(error):
        return f"cannot be reached: {socks_advice('pysocks')}"
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    reasons = [one.strerror for one in chain if isinstance(one, OSError) and one.strerror]
    of_settings = isinstance(error, (requests.exceptions.ProxyError, requests.exceptions.InvalidURL))
    if not reasons and (of_settings or type(error) is OSError):  # an OSError of requests is one of the certificates
        reasons = [without_passwords(" ".join(str(chain[-1]).split()))]
    if reasons:
        return f"cannot be reached: {with_settings(reasons[-1], CERTIFICATES)}"
    broken = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, ConnectionError)
    if isinstance(error, (*broken, urllib3.exceptions.HTTPError)):
        return "broke off"
    return f"cannot be used: {_shown(error) or type(error).__name__}"


def _shown(found: object) -> str:
    """Return what the archive or the client says, short and without secrets."""
    return brief(without_passwords(str(found)[:1000]))


def _filters(row: Row) -> frozenset[str]:
    """Return the filters in the light path: CLEAR1L;F814W is F814W."""
    names = (one.strip() for one in re.split("[;/]", _text(row, "filters")))
    return frozenset(one for one in names if one and not one.upper().startswith("CLEAR"))


def _is_public(row: Row) -> bool:
    return _text(row, "dataRights").upper() in ("", "PUBLIC")


def _parts(items: Sequence[Any], length: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), length):
        yield items[start : start + length]


def _text(row: Row, name: str) -> str:
    found = row.get(name)
    return "" if found is None or getattr(found, "mask", False) else str(found).strip()


def _number(row: Row, name: str) -> float | None:
    """Return a finite number of a row; None where the archive lists none, or one that cannot be."""
    found = row.get(name)
    number = math.nan if found is None or getattr(found, "mask", False) else float(found)
    return number if math.isfinite(number) else None


def _size(name: str, row: Row) -> int | None:
    """Return the size of a product; one that is infinite or absurd would be no bound for its download."""
    found = row.get("size")
    if found is None or getattr(found, "mask", False):
        return None
    if not float(found) <= LARGEST_PRODUCT_BYTES:
        raise ArchiveError(f"{name}: the archive lists a size of {brief(found)} bytes: supply the file with --data DIR")
    return int(found) if found > 0 else None
