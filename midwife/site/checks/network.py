"""Do the listeners get in each other's way, and can this machine be what midwife.yaml says it is?"""

import ipaddress
import socket
from collections.abc import Iterator

from midwife.site.draft import Draft
from midwife.site.model import Endpoint, Main
from midwife.site.problems import Problem
from midwife.site.yaml import Place

__all__ = ["check_network", "is_local"]


def check_network(draft: Draft) -> Iterator[Problem]:
    """Listeners that clash; proxyDHCP and addresses that this machine does not have."""
    if draft.main is None:
        return
    main, place = draft.main.value, draft.main.place
    yield from _clashes(main, place)
    yield from _check_address(main, place)
    yield from _check_proxydhcp(main, place)


def is_local(address: str) -> bool:
    """Whether one of this machine's interfaces has the address. Sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _listeners(main: Main, place: Place) -> Iterator[tuple[str, str, Endpoint, Place]]:
    """Protocol, name, endpoint, place. The callback listener takes TCP and UDP."""
    for name, protocols, listen in (
        ("tftp", ("UDP",), main.tftp.listen),
        ("http", ("TCP",), main.http.listen),
        ("callback", ("TCP", "UDP"), main.callback.listen),
    ):
        for index, endpoint in enumerate(listen):
            for protocol in protocols:
                yield protocol, name, endpoint, place.at(name, "listen", index)
    if main.proxydhcp.enabled:
        for port in (67, 4011):
            yield "UDP", "proxydhcp", Endpoint(host="*", port=port), place.at("proxydhcp")


def _clashes(main: Main, place: Place) -> Iterator[Problem]:
    seen: list[tuple[str, str, Endpoint]] = []
    told: set[tuple[str, str]] = set()
    for protocol, name, endpoint, spot in _listeners(main, place):
        for other_protocol, other, taken in seen:
            same = protocol == other_protocol and endpoint.port == taken.port != 0
            if same and _overlap(endpoint.host, taken.host) and (spot.name, other) not in told:
                told.add((spot.name, other))
                what = f"{spot.name}: {protocol} port {endpoint.port} is already that of {other} ({taken})"
                yield spot.problem(what, "give one of them another port")
        seen.append((protocol, name, endpoint))


def _overlap(one: str, other: str) -> bool:
    """The same address, or one of them is every address of its family (``*``: of both)."""
    if "*" in (one, other):
        return True
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    same_family = first.version == second.version
    return first == second or (same_family and (first.is_unspecified or second.is_unspecified))


def _check_address(main: Main, place: Place) -> Iterator[Problem]:
    address = main.server.address
    spot = place.at("server", "address")
    if ipaddress.ip_address(address).is_loopback:
        what = f"server.address: {address} is this machine's loopback; no other machine reaches it"
        yield spot.problem(what, "fine for a test, otherwise give the address hosts see", level="warning")


def _check_proxydhcp(main: Main, place: Place) -> Iterator[Problem]:
    if not main.proxydhcp.enabled:
        return
    present = {name for _, name in socket.if_nameindex()}
    for index, name in enumerate(main.proxydhcp.interfaces):
        if name not in present:
            spot = place.at("proxydhcp", "interfaces", index)
            what = f"{spot.name}: this machine has no interface {name!r}"
            yield spot.problem(what, f"it has {', '.join(sorted(present))}", level="warning")
    if not main.proxydhcp.interfaces and not is_local(main.server.address):
        what = f"proxydhcp: no interface of this machine has {main.server.address}, so it would hear nothing"
        hint = "set server.address to an address of this machine, or name the interfaces"
        yield place.at("proxydhcp").problem(what, hint, level="warning")
