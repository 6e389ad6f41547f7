"""The archive itself: MAST at STScI, by way of astroquery, which nothing else imports."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from deepcr_zoo.archive.listing import Asked, Product, Query
from deepcr_zoo.archive.pace import Pace
from deepcr_zoo.errors import ArchiveBusyError, ArchiveError, ArchiveUnreachableError, UsageError
from deepcr_zoo.machine import require
from deepcr_zoo.zoo.recipe import visit_code

CONNECT_S, READ_S = 10.0, 60.0
"""Seconds that the archive may be silent: astroquery itself would wait for ever."""

CHUNK_BYTES = 1 << 16

PROPOSALS_AT_ONCE, OBSERVATIONS_AT_ONCE = 50, 200
"""What one request of a search asks for at most."""

TELESCOPES = ("HST",)
"""Whose names of files are known here: ipppssoot."""

_BUSY = (429, 503)
_REFUSED = (401, 403)
_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError)
"""What astroquery raises when an answer is not as it expects."""


@dataclass(frozen=True)
class Part:
    """A product from some byte on.

    Attributes
    ----------
    start : int
        The first byte: the one that was asked for, or 0 if the archive sends the whole file.
    total : int or None
        Bytes of the whole file, if the archive announces them.
    validator : str or None
        What tells this file from another under the same name: ETag, else Last-Modified.
    chunks : iterator of bytes
    """

    start: int
    total: int | None
    validator: str | None
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Observation:
    """What the archive lists as one: a single exposure, or those of a visit that belong together."""

    id: str
    name: str
    camera: str
    proposal: int
    target: str
    filters: frozenset[str]
    exposure_time_s: float | None
    is_public: bool


class Archive:
    """A connection to the archive; `Archive.open` may be used by several threads at once.

    Parameters
    ----------
    pace : Pace
        Of all requests.

    Raises
    ------
    MissingExtraError
        If astroquery is not installed.
    UsageError
        If ``DEEPCR_ZOO_MAST`` is no address.
    """

    def __init__(self, pace: Pace) -> None:
        require("astroquery", "the archive is searched with astroquery, which is not installed", "mast")
        from astroquery.mast import ObservationsClass, conf

        self._pace = pace
        self._observations = ObservationsClass()
        portal = self._observations._portal_api_connection
        self.address = address() or conf.server.rstrip("/")
        # astroquery reads its setting once, when it is imported
        portal.MAST_REQUEST_URL = f"{self.address}/api/v0/invoke"
        portal.COLUMNS_CONFIG_URL = f"{self.address}/portal/Mashup/Mashup.asmx/columnsconfig"
        portal.MAST_DOWNLOAD_URL = f"{self.address}/api/v0.1/Download/file"
        self._download_address = portal.MAST_DOWNLOAD_URL
        self._session = self._observations._session
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _impatient_adapter())

    def search(self, query: Query) -> list[Product]:
        """The exposures that the archive has of a query, each once, in order of their names.

        Raises
        ------
        ArchiveUnreachableError
            If it does not answer.
        ArchiveError
            If it refuses, or answers something that cannot be understood.
        UsageError
            If the telescope is none of `TELESCOPES`.
        """
        if query.telescope not in TELESCOPES:
            raise UsageError(
                f"the archive is searched for {', '.join(TELESCOPES)} alone, not for {query.telescope}: "
                "supply the exposures with --data DIR"
            )
        observations = {one.id: one for one in self._observations_of(query) if _is_wanted(query, one)}
        rows = [row for part in _parts(sorted(observations), OBSERVATIONS_AT_ONCE) for row in self._rows_of_products(part)]
        return _products(query, observations, rows)

    @contextmanager
    def open(self, product: Product, start: int = 0, validator: str | None = None) -> Iterator[Part]:
        """Open a product for reading, from some byte on if it is still the same file.

        Parameters
        ----------
        product : Product
        start : int
            The first byte that is wanted.
        validator : str, optional
            `Part.validator` of what the bytes before belong to; without it the whole file is sent.

        Raises
        ------
        ArchiveUnreachableError
            If it does not answer, now or while the chunks are read.
        ArchiveError
            If it does not have the product, or does not give it to everybody.
        """
        start = start if validator else 0
        response = self._pace.ask(lambda: self._get(product, start, validator))
        try:
            if start and not _goes_on(response, start, validator):
                response.close()
                start = 0
                response = self._pace.ask(lambda: self._get(product, 0, None))
            first = start if response.status_code == 206 else 0
            yield Part(first, _total(response), _validator(response), self._chunks(product, response))
        finally:
            response.close()

    def _get(self, product: Product, start: int, validator: str | None) -> Any:
        headers = {"Accept-Encoding": "identity"}  # the bytes that are counted
        if start and validator:
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        with self._failures_are_told(product.name):
            where = f"{self._download_address}?uri={quote(product.uri, safe=':/')}"
            response = self._session.get(where, headers=headers, stream=True)
            if start == 0 or response.status_code != 416:  # nothing is left from there on: it is asked for as a whole
                response.raise_for_status()
            return response

    def _chunks(self, product: Product, response: Any) -> Iterator[bytes]:
        chunks = response.iter_content(CHUNK_BYTES)
        while True:
            with self._failures_are_told(product.name):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def _observations_of(self, query: Query) -> Iterator[Observation]:
        proposals = sorted({one.proposal for one in query.visits if one.proposal is not None})
        for part in _parts(proposals, PROPOSALS_AT_ONCE):
            # with and without the leading zeros of old proposals
            names = sorted({spelling for one in part for spelling in (str(one), f"{one:05d}")})
            yield from self._rows_of_observations(query, proposal_id=names)
        for target in sorted({one.target for one in query.visits if one.proposal is None and one.target is not None}):
            camera = f"{query.instrument}/{query.detector}"
            yield from self._rows_of_observations(query, target_name=_one_wildcard(target), instrument_name=camera)

    def _rows_of_observations(self, query: Query, **criteria: Any) -> Iterator[Observation]:
        criteria |= {"obs_collection": query.telescope, "dataproduct_type": query.kinds}
        for row in self._ask("query_criteria", **criteria):
            if observation := _observation(row):
                yield observation

    def _rows_of_products(self, observations: Sequence[str]) -> list[Mapping[str, Any]]:
        return self._ask("get_product_list", list(observations))

    def _ask(self, method: str, *arguments: Any, **criteria: Any) -> list[Mapping[str, Any]]:
        def ask() -> list[Mapping[str, Any]]:
            with self._failures_are_told("search for exposures"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that there are no results is told by those who asked
                table = getattr(self._observations, method)(*arguments, **criteria)
                return [dict(zip(table.colnames, row, strict=True)) for row in table.iterrows()]

        return self._pace.ask(ask)

    @contextmanager
    def _failures_are_told(self, what: str) -> Iterator[None]:
        """Turn whatever goes wrong in astroquery into one sentence."""
        import requests
        from astroquery import exceptions

        try:
            yield
        except requests.HTTPError as error:
            raise self._refused(what, error.response) from None
        except (requests.RequestException, OSError, exceptions.TimeoutError) as error:
            raise ArchiveUnreachableError(f"{what}: the archive at {self.address} {_failure(error)}") from None
        except (exceptions.RemoteServiceError, exceptions.InvalidQueryError, *_UNREADABLE) as error:
            told = " ".join(str(error).split()) or type(error).__name__
            raise ArchiveError(f"{what}: the archive at {self.address} answers what cannot be understood: {told}") from None

    def _refused(self, what: str, response: Any) -> ArchiveError:
        status, where = response.status_code, f"{what}: the archive at {self.address}"
        if status in _BUSY:
            wait = _seconds(response.headers.get("Retry-After"))
            when = "later" if wait is None else f"in {wait:.0f} s"
            return ArchiveBusyError(f"{where} is busy ({status}): come back {when}", wait)
        if status in _REFUSED:
            return ArchiveError(f"{where} does not give it to everybody ({status}): leave out its visit, or supply the file")
        if status == 404:
            return ArchiveError(f"{where} lists it and does not have it ({status}): supply the file, or ask the archive")
        kind = ArchiveUnreachableError if status >= 500 else ArchiveError
        return kind(f"{where} answers {status} {response.reason or ''}".rstrip())


def address() -> str | None:
    """Where the archive is by ``DEEPCR_ZOO_MAST``, if that is set.

    Raises
    ------
    UsageError
        If it is no address.
    """
    chosen = os.environ.get("DEEPCR_ZOO_MAST")
    if chosen and not re.match(r"https?://[^/]", chosen):
        raise UsageError(f"DEEPCR_ZOO_MAST is {chosen!r}: expected an address, https://HOST")
    return chosen.rstrip("/") if chosen else None


def _impatient_adapter() -> Any:
    from requests.adapters import HTTPAdapter

    class Impatient(HTTPAdapter):
        """Gives up on hosts that are silent."""

        def send(
            self,
            request: Any,
            stream: bool = False,
            timeout: Any = None,
            verify: Any = True,
            cert: Any = None,
            proxies: Any = None,
        ) -> Any:
            return super().send(request, stream, timeout or (CONNECT_S, READ_S), verify, cert, proxies)

    return Impatient()


def _observation(row: Mapping[str, Any]) -> Observation | None:
    """An observation, unless it is of products that were made afterwards from those of the pipeline (hst_*)."""
    name, proposal = _text(row, "obs_id"), _text(row, "proposal_id")
    if name.lower().startswith("hst_") or not proposal.isdigit():
        return None
    return Observation(
        id=_text(row, "obsid"),
        name=name,
        camera=_text(row, "instrument_name"),
        proposal=int(proposal),
        target=_text(row, "target_name"),
        filters=_filters(row),
        exposure_time_s=_number(row, "t_exptime"),
        is_public=_text(row, "dataRights").upper() in ("", "PUBLIC"),
    )


def _is_wanted(query: Query, observation: Observation) -> bool:
    camera = observation.camera.upper()
    if camera not in (query.instrument.upper(), f"{query.instrument}/{query.detector}".upper()):
        return False
    visit, filters = visit_code(observation.name[4:6]), set(observation.filters)
    return any(one.takes(observation.proposal, visit, observation.target, filters) for one in query.visits)


def _products(query: Query, observations: Mapping[str, Observation], rows: Iterable[Mapping[str, Any]]) -> list[Product]:
    """The standard products of the pipeline among all that belongs to the observations; several may list the same."""
    pattern = re.compile(rf"[a-z][a-z0-9]{{8}}_{re.escape(query.product.lower())}\.fits")
    listed: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        name = _text(row, "productFilename").lower()
        observation = _listed_under(observations, row)
        if observation is not None and pattern.fullmatch(name):
            listed.setdefault(observation, {}).setdefault(name, row)
    found: dict[str, Product] = {}
    for key in sorted(listed, key=lambda one: observations[one].name):
        for name, row in listed[key].items():
            product = _product(name, row, observations[key], query.visits, len(listed[key]))
            if product is not None:
                found.setdefault(name, product)
    return [found[name] for name in sorted(found)]


def _listed_under(observations: Mapping[str, Observation], row: Mapping[str, Any]) -> str | None:
    return next((key for key in (_text(row, "parent_obsid"), _text(row, "obsID")) if key in observations), None)


def _product(
    name: str, row: Mapping[str, Any], observation: Observation, visits: Sequence[Asked], exposures: int
) -> Product | None:
    visit, total = visit_code(name[4:6]), observation.exposure_time_s
    filters = _filters(row) or observation.filters
    if len(filters) != 1:  # a polariser beside it, say: that is another filter
        return None
    root = name.partition("_")[0]
    if not any(one.takes(observation.proposal, visit, observation.target, set(filters), root) for one in visits):
        return None
    size = _number(row, "size")
    return Product(
        name=name,
        uri=_text(row, "dataURI"),
        size=int(size) if size is not None and size > 0 else None,
        version=_text(row, "prvversion"),
        project=_text(row, "project"),
        observation=observation.name,
        proposal=observation.proposal,
        visit=visit,
        target=observation.target,
        filter_name=min(filters),
        exposure_time_s=None if total is None else round(total / exposures, 3),
        is_public=observation.is_public and _text(row, "dataRights").upper() in ("", "PUBLIC"),
    )


def _goes_on(response: Any, start: int, validator: str | None) -> bool:
    """Whether an answer can be used after a request for what follows: as a whole, or as the rest of the same file."""
    if response.status_code != 206:
        return bool(response.status_code == 200)
    begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return begins is not None and int(begins[1]) == start and _validator(response) in (None, validator)


def _validator(response: Any) -> str | None:
    tag, date = (response.headers.get(name) for name in ("ETag", "Last-Modified"))
    # a weak tag promises the same meaning, not the same bytes
    return str(tag) if tag and tag.startswith('"') else date and str(date)


def _total(response: Any) -> int | None:
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else None


def _seconds(retry_after: str | None) -> float | None:
    """How long to wait, from seconds or a date."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _failure(error: BaseException) -> str:
    """Why there is no answer, in a few words."""
    import requests

    if isinstance(error, (requests.Timeout, TimeoutError)):
        return "does not answer in time"
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return "answers what is no JSON: is there a login page in between?"
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    reasons = [one.strerror for one in chain if isinstance(one, OSError) and one.strerror]
    return f"cannot be reached: {reasons[-1]}" if reasons else "broke off"


def _filters(row: Mapping[str, Any]) -> frozenset[str]:
    """The filters that light went through: CLEAR1L;F814W is F814W."""
    names = (one.strip() for one in re.split("[;/]", _text(row, "filters")))
    return frozenset(one for one in names if one and not one.upper().startswith("CLEAR"))


def _one_wildcard(pattern: str) -> str:
    """A pattern that takes in at least the same: the archive knows ``*`` alone."""
    return re.sub(r"\?+", "*", pattern)


def _parts(items: Sequence[Any], length: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), length):
        yield items[start : start + length]


def _text(row: Mapping[str, Any], name: str) -> str:
    found = row.get(name)
    return "" if found is None or _is_masked(found) else str(found).strip()


def _number(row: Mapping[str, Any], name: str) -> float | None:
    found = row.get(name)
    return None if found is None or _is_masked(found) else float(found)


def _is_masked(found: Any) -> bool:
    return bool(getattr(found, "mask", False))
