"""Addresses, passwords, proxies and certificates that the environment names."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from deepcr_zoo.errors import DeepcrZooError, HubUnreachableError

PROXY_REFUSAL = 407
"""Status with which a proxy, not the host, refuses a request (RFC 9110, section 15.5.8)."""

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
ENDPOINT = "HF_ENDPOINT"
PUBLIC_HUB = "https://huggingface.co"
MAST = "DEEPCR_ZOO_MAST"
WITH_PASSWORDS = (ENDPOINT, MAST, *PROXIES)
"""Variables whose addresses may hold a name and a password."""

SHORTEST_SECRET = 4
"""A shorter password is a part of too many words to be taken out wherever it stands."""


_BEHIND_PATH = re.compile(r"""(/[^\s?#"'<>]*)[?#][^\s"'<>]*""")
"""Queries and fragments of addresses, with a host or without: signatures and tokens stand there."""


@dataclass(frozen=True)
class Address:
    """An address without name and password, and the header (RFC 7617) that sends these; None if there are none."""

    url: str
    basic: str | None = None

    def may_lead_to(self, scheme: str) -> bool:
        """True unless a redirect to such an address would leave https."""
        return scheme == "https" or self.url.startswith(f"{scheme}://")


def address_of(text: str) -> Address:
    """Take name and password out of an address, so that no client shows them in a log or an error."""
    scheme, separator, rest = text.strip().rstrip("/").partition("://")
    scheme = scheme.lower() if separator else scheme
    login, at, host = rest.rpartition("@")
    if not at:
        return Address(f"{scheme}{separator}{rest}")
    return Address(f"{scheme}{separator}{host}", f"Basic {_encoded(login)}")


def _encoded(login: str) -> str:
    """Return USER:PASSWORD of an address as a header has it."""
    user, _, password = login.partition(":")
    return base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


def hub_endpoint() -> Address:
    """Return the address of the Hub, from ``HF_ENDPOINT``; what is no address raises `HubUnreachableError`."""
    return host_address(ENDPOINT, os.environ.get(ENDPOINT) or PUBLIC_HUB, HubUnreachableError)


def host_address(name: str, text: str, kind: type[DeepcrZooError]) -> Address:
    """Return the address in a setting, to which paths are added; anything else raises `kind`, and shows no secret."""
    if re.search("[?#]", text):  # what follows may be a part of a password, or a token
        raise kind(f"{name} has a ? or a #: expected an address alone, https://HOST; in a password write %3F and %23")
    address = address_of(text)
    try:
        parts = urlsplit(address.url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that no address has
        is_address = False
    if not is_address:
        raise kind(f"{name} is {address.url.rpartition('@')[2][:80]!r}: expected an address, https://HOST")
    return address


def check_proxies(kind: type[DeepcrZooError]) -> None:
    """Raise `kind`, which shows no secret, if a client would take a part of a proxy's password for its host and show it."""
    for name, address in _addresses(PROXIES):
        if re.search(r"[/?#\\\[\]\s]", _login(address) or ""):
            raise kind(f"{name}: its name or password has a letter that no address has: write / as %2F, ? as %3F, # as %23")


def with_settings(reason: str, certificates: Sequence[str]) -> str:
    """Return the reason of a failure with the settings of the environment that may be at fault, without passwords.

    `certificates` are the variables from which the client takes certificates.
    """
    for name in certificates:
        path = os.environ.get(name)
        if path and not os.path.exists(path):
            return f"{reason}; {name} names {path}, which does not exist: correct it, or unset it"
    found = [*_proxies()]
    if re.search("certificate|SSL|TLS", reason):
        found += [f"{name}={os.environ[name]}" for name in certificates if os.environ.get(name)]
    return f"{reason} (with {', '.join(found)} in the environment)" if found else reason


def socks_advice(package: str) -> str:
    """Return the reason why a SOCKS proxy cannot be used without a package, and the way out."""
    proxies = ", ".join(one for one in _proxies() if "=socks" in one) or "the SOCKS proxy of this system"
    return f"{proxies} needs the package {package}: run pip install {package}, or unset the proxy"


def without_passwords(text: str) -> str:
    """Return a text without names, passwords, queries and fragments of addresses, and without those of the environment."""
    for login in _logins():
        text = text.replace(f"{login}@", "")
        password = login.partition(":")[2]
        plain = unquote(password)
        in_python = {repr(plain)[1:-1], repr(plain.encode())[2:-1]}  # as clients log what they send to a proxy
        for spelled in {password, plain, *in_python, _encoded(login) if password else ""}:
            if len(spelled) >= SHORTEST_SECRET:
                text = text.replace(spelled, "...")
    return _BEHIND_PATH.sub(r"\1", re.sub(r"(?<=://)[^/@\s]*@", "", text))


def _logins() -> Iterator[str]:
    for _, address in _addresses(WITH_PASSWORDS):
        if (login := _login(address)) is not None:
            yield login


def _login(address: str) -> str | None:
    """Return USER:PASSWORD of an address, if it has one; that of a proxy may come without a scheme."""
    login, at, _ = (address.partition("://")[2] or address).rpartition("@")
    return login if at else None


def _proxies() -> Iterator[str]:
    """Yield each proxy of the environment as NAME=ADDRESS."""
    for name, address in _addresses(PROXIES):
        yield f"{name}={without_passwords(address)}"


def _addresses(variables: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the variables of the environment that are set, with their addresses; clients read both spellings."""
    for name in (spelled for variable in variables for spelled in (variable, variable.lower())):
        if address := os.environ.get(name):
            yield name, address
