"""Everything that is wrong with a VIB, told at once; VIBs by a writer that shares no code with ours."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.vib.container import VibFile
from midwife.images.vib.signing.trust import Anchor, Anchors
from midwife.images.vib.verify import verify_vib
from tests.peers.esximage import Content, Pki
from tests.peers.vibmaker import make_payload, make_vib

from .opensslpki import MemoryVib, descriptor

TREE = {"opt/agent/run.sh": b"#!/bin/sh\n" * 50, "etc/init.d/agent": b"echo\n"}


def opened(data: bytes) -> VibFile:
    return VibFile.from_stream(io.BytesIO(data), "agent.vib")


def problems(data: bytes, **how: bool) -> tuple[str, ...]:
    with opened(data) as vib:
        return verify_vib(vib, **how)


def anchors_of(pki: Pki) -> Anchors:
    return Anchors(
        tuple(
            Anchor(fingerprint, level, (AcceptanceLevel.parse(level),))
            if level == "certified"
            else Anchor(fingerprint, level, (AcceptanceLevel.ACCEPTED, AcceptanceLevel.PARTNER))
            for level, found in pki.fingerprints.items()
            for fingerprint in found
        )
    )


def test_a_whole_esxi(esxi: Content, pki: Pki) -> None:
    """Signed by stand-ins at three levels, with boot files that have a trailer, and every payload type."""
    anchors = anchors_of(pki)
    levels = set()
    for made in esxi.vibs:
        with opened(made.data) as vib:
            assert verify_vib(vib, every=True, anchors=anchors) == (), made.id
            levels.add(vib.package.acceptance_level)
    assert AcceptanceLevel.CERTIFIED in levels


def test_nobody_believes_stand_ins_for_vmware(esxi: Content) -> None:
    base = next(made for made in esxi.vibs if made.name == "esx-base")
    (problem,) = problems(base.data)
    assert problem.startswith("it claims to be VMwareCertified, but its signature (CN=Look-alike")
    assert problems(base.data, signature=False) == ()


@pytest.mark.parametrize("type_", ["vgz", "tgz", "vzstd"])
def test_a_community_vib(type_: str) -> None:
    vib = make_vib("agent", "1-1", payloads=[make_payload("agent", TREE, type_)], acceptance="community")
    assert problems(vib, every=True) == ()


def test_all_problems_in_a_stable_order() -> None:
    """Two payloads, one of them changed; a file in a forbidden place; a level that nobody proves."""
    good, bad = make_payload("good", TREE), make_payload("bad", {"bin/evil": b"x" * 999})
    vib = make_vib(
        "agent",
        "1-1",
        payloads=[good, bad],
        acceptance="partner",
        swap=lambda name, data: data[:-9] + b"?" + data[-8:] if name == "bad" else data,
    )
    told = problems(vib)
    assert told == problems(vib)
    assert told[0] == "it claims to be PartnerSupported, but it is not signed"
    assert told[1].startswith("payload bad: sha-256 is ")
    assert told[2:] == ("bin/evil: a partner VIB must not put files there",)


def unlisted(xml: bytes) -> bytes:
    return xml.replace(b"<file>opt/agent/run.sh</file>", b"<file>opt/agent/gone</file>")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (unlisted, "its payloads bring opt/agent/run.sh, which its file list does not have"),
        (unlisted, "its file list has opt/agent/gone, which no payload brings"),
        (lambda xml: xml.replace(b'verify-process="gunzip"', b'verify-process="x"'), ""),
        (lambda xml: xml.replace(b"sha-256", b"sha-999").replace(b"sha-1", b"x"), "has no checksum"),
        (lambda xml: xml.replace(b"<overlay>false", b"<overlay>true"), "must not overlay"),
    ],
)
def test_what_a_descriptor_hides(edit: Callable[[bytes], bytes], told: str) -> None:
    vib = make_vib("agent", "1-1", payloads=[make_payload("agent", TREE)], acceptance="community", edit=edit)
    found = problems(vib)
    assert any(told in problem for problem in found) if told else not found


def test_only_every_checksum_finds_a_wrong_inner_sum() -> None:
    payload = make_payload("agent", TREE)
    assert payload.unpacked
    liar = replace(payload, unpacked=payload.unpacked + b"x")
    vib = make_vib("agent", "1-1", payloads=[liar], acceptance="community")
    assert problems(vib) == ()
    (problem,) = problems(vib, every=True)
    assert "(gunzip) is " in problem


def test_the_list_of_vmwares_own_vibs_is_not_compared() -> None:
    """Their files may be anywhere, so an incomplete list hides nothing; the signature is what counts."""
    vib = make_vib("agent", "1-1", payloads=[make_payload("agent", TREE)], edit=unlisted)
    assert problems(vib, signature=False) == ()


def test_an_archive_that_is_none() -> None:
    vib = make_vib(
        "agent", "1-1", payloads=[make_payload("agent", b"not an archive", "vgz")], acceptance="community"
    )
    assert len(problems(vib)) == 1


def test_a_depot_that_lies_about_a_community_vib() -> None:
    text = descriptor("community", files=())
    other = MemoryVib(descriptor("community", files=("opt/x",))).package
    told = verify_vib(MemoryVib(text, said=other))
    assert told[0] == "its depot says something else of it than its descriptor (files)"


def test_progress_counts_stored_bytes() -> None:
    calls: list[tuple[int, int]] = []
    payloads = [make_payload("a", TREE), make_payload("b", {"opt/b": b"b"})]
    sizes = [len(payload.data) for payload in payloads]
    with opened(make_vib("agent", "1-1", payloads=payloads, acceptance="community")) as vib:
        verify_vib(vib, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(sizes[0], sum(sizes)), (sum(sizes), sum(sizes))]
