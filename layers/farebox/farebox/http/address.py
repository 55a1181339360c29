"""The caller's address: the socket's peer, unless that is a hop whose forwarding header the operator believes."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from farebox.http.asgi import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = Iterable[tuple[bytes, bytes]]
AddressOf = Callable[[Scope], str]
"""Who calls."""
UNKNOWN = "0.0.0.0"  # noqa: S104 - not a bind address: the bucket of those without one (a Unix socket's peers)


def caller_address(peer: str | None, headers: Headers, trusted: tuple[Network, ...]) -> str:
    """The rightmost address of `X-Forwarded-For` that is not itself a trusted hop; the peer where none is trusted."""
    address = peer or UNKNOWN
    if not trusted or not _trusted(address, trusted):
        return address
    forwarded = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    for hop in reversed(forwarded.decode("latin-1").split(",")):
        if not _is_address(hop.strip()):
            return address  # what stands left of nonsense is nonsense
        address = hop.strip()
        if not _trusted(address, trusted):
            return address
    return address


def peer_address(trusted: tuple[Network, ...]) -> AddressOf:
    """Who calls, from the socket and the hops that the operator trusts."""

    def address_of(scope: Scope) -> str:
        client = scope.get("client")
        return caller_address(client[0] if client else None, scope["headers"], trusted)

    return address_of


def networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _trusted(address: str, trusted: tuple[Network, ...]) -> bool:
    if not _is_address(address):
        return False
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # an IPv4 hop, as a dual-stack socket names it
    return any(parsed in network for network in trusted)
