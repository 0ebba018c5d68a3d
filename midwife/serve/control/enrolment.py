"""Fits the rows of observed state to the site when it is read: its hosts are shown before they were ever seen, a
stranger that got a host file takes its history along, a host that lost its file is a stranger again.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from midwife.core.decide import Action, Answer, facts_of, find_host
from midwife.core.facts import Facts
from midwife.core.lifecycle import UNDER_WAY, State
from midwife.serve.attempts import Attempts
from midwife.site.model import Host, Site
from midwife.store.records import HostRow
from midwife.store.store import Store
from midwife.wire.identity import is_mac

__all__ = ["enroll"]

_EXPECTED = {Action.BOOT: State.ARMED, Action.ASK: State.ARMED, Action.LOCAL: State.LOCAL}


def enroll(site: Site, store: Store, attempts: Attempts, decide: Callable[[Facts], Answer]) -> None:
    """Desired state is the site; this changes rows and nothing else."""
    named = {host.name for host in site.hosts}
    for row in store.hosts():
        if row.known and row.id not in named:
            _release(row, store, attempts, decide)
    for row in store.hosts():
        if row.id not in named and (host := _claimant(row, site)):
            attempts.rename(row.id, host.name)
    rows = {row.id: row for row in store.hosts()}
    fitted = [_fitted(host, rows.get(host.name), decide) for host in site.hosts]
    store.save_host(*(row for row in fitted if row != rows.get(row.id)))
    attempts.recount()


def _release(row: HostRow, store: Store, attempts: Attempts, decide: Callable[[Facts], Answer]) -> None:
    """Its host file is gone. What never asked for anything is forgotten; the rest is called by its MAC address."""
    if not row.attempt and not row.note:
        store.remove_host(row.id)
        return
    name = row.facts.mac or row.id
    if name != row.id:
        attempts.rename(row.id, name)
    renamed = store.host(name) or replace(row, id=name)
    store.save_host(_resting(replace(renamed, known=False), decide(row.facts)))


def _claimant(row: HostRow, site: Site) -> Host | None:
    """The host file for a machine that was a stranger. Further MAC addresses of a stranger are mere claims."""
    macs = (row.id,) if is_mac(row.id) else ()
    return find_host(Facts(macs=macs, uuid=row.facts.uuid, serial=row.facts.serial), site)[0]


def _fitted(host: Host, known: HostRow | None, decide: Callable[[Facts], Answer]) -> HostRow:
    told = facts_of(host)
    if known is None:
        known = HostRow(host.name, True, told, State.DISCOVERED, time.time(), "", "", "")
    facts = told.merged(known.facts)
    answer = decide(facts)
    if answer.host is None:  # what was heard of it contradicts other host files
        answer = decide(told)
    return _resting(replace(known, known=True, facts=facts), answer)


def _resting(row: HostRow, answer: Answer) -> HostRow:
    """The row as the site wants it, unless a boot attempt says how the host is."""
    if row.attempt or row.state in UNDER_WAY:
        return row
    state = _EXPECTED.get(answer.action, State.DISCOVERED)
    since = row.since if row.state is state else time.time()
    return replace(row, state=state, since=since, image="" if state is State.LOCAL else answer.image)
