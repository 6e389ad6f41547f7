"""Proxies and certificates that the environment names, for messages about a host that cannot be used."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

PROXY_REFUSAL = 407
"""Status with which a proxy, not the host, refuses a request (RFC 9110, section 15.5.8)."""

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


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
    """Return a text without user names and passwords in addresses."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def _proxies() -> Iterator[str]:
    """Yield each proxy of the environment as NAME=ADDRESS; clients read both spellings."""
    for name in (spelled for proxy in PROXIES for spelled in (proxy, proxy.lower())):
        if address := os.environ.get(name):
            yield f"{name}={without_passwords(address)}"
