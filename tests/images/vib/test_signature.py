"""Signatures of VIBs, made by openssl(1) and judged by it too: our verdict is never milder than its."""

import base64
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.errors import FormatError, SignatureError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.vib.signing.cms import parse_signature
from midwife.images.vib.signing.signature import Anchors, prove
from midwife.images.vib.signing.trust import VMWARE, site_anchors

from .opensslpki import MemoryVib, Pki, anchors_of, descriptor, new_pki

PARTNER, ACCEPTED, CERTIFIED = AcceptanceLevel.PARTNER, AcceptanceLevel.ACCEPTED, AcceptanceLevel.CERTIFIED


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return new_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def anchors(pki: Pki) -> Anchors:
    return anchors_of(pki)


def signed(pki: Pki, level: str, signer: str, *with_: str, **more: object) -> MemoryVib:
    text = descriptor(level)
    return MemoryVib(text, pki.sign(text, signer, *with_, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("level", "signer", "with_"),
    [
        ("certified", "certified", ()),
        ("accepted", "accepted", ("root",)),
        ("partner", "partner", ("root", "middle")),
        ("partner", "curve", ("root",)),
    ],
)
def test_who_may_vouch_for_what(
    pki: Pki, anchors: Anchors, level: str, signer: str, with_: tuple[str, ...]
) -> None:
    """The accepted signer's certificate has expired, as VMware's own has."""
    vib = signed(pki, level, signer, *with_)
    proof = prove(vib, anchors)
    assert (proof.reason, proof.level) == ("", AcceptanceLevel.parse(level))
    assert proof.signer == pki.certificate(signer).subject.rfc4514_string()
    assert pki.openssl_accepts(vib.descriptor, vib.signature, "certified", "root")


@pytest.mark.parametrize(
    ("level", "signer", "with_", "reason"),
    [
        ("accepted", "certified", (), "vouches for certified, not for accepted"),
        ("partner", "certified", (), "vouches for certified, not for partner"),
        ("certified", "partner", ("root", "middle"), "vouches for accepted and partner, not for certified"),
        ("accepted", "partner", ("root", "middle"), "a partner (CN=VIB Signing,O=Nics & Sons)"),
        ("partner", "accepted", ("root",), "an acceptance signer of VMware's"),
        ("accepted", "impostor", ("stranger",), "does not lead to a certificate that is believed"),
        ("accepted", "impostor", ("stranger", "root"), "does not lead to a certificate that is believed"),
        ("accepted", "upstart", ("partner", "middle", "root"), "does not lead to a certificate"),
        ("partner", "deeper", ("deep", "middle", "root"), "does not lead to a certificate"),
        ("partner", "partner", ("middle",), "issued by CN=VMware Root CA,O=VMware\\, Inc."),
    ],
)
def test_who_may_not(
    pki: Pki, anchors: Anchors, level: str, signer: str, with_: tuple[str, ...], reason: str
) -> None:
    vib = signed(pki, level, signer, *with_)
    proof = prove(vib, anchors)
    assert reason in proof.reason
    assert proof.level is AcceptanceLevel.COMMUNITY


def test_openssl_refuses_the_same_chains(pki: Pki) -> None:
    for signer, with_ in (
        ("impostor", ("stranger", "root")),
        ("upstart", ("partner", "middle", "root")),
        ("deeper", ("deep", "middle", "root")),
        ("partner", ()),
    ):
        vib = signed(pki, "partner", signer, *with_)
        assert not pki.openssl_accepts(vib.descriptor, vib.signature, "certified", "root")


def test_a_changed_descriptor(pki: Pki, anchors: Anchors) -> None:
    good = signed(pki, "certified", "certified")
    bad = good.but(descriptor=good.descriptor.replace(b"opt/nic/nic.sh", b"opt/nic/evil.s"))
    assert prove(bad, anchors).reason == "its descriptor is not the one that was signed"
    assert not pki.openssl_accepts(bad.descriptor, bad.signature, "certified")


def test_a_changed_signature(pki: Pki, anchors: Anchors) -> None:
    """Another signing time, and another signature value."""
    good = signed(pki, "certified", "certified")
    der = base64.b64decode(b"".join(good.signature.split(b"\n")[1:-2]))
    attributes = parse_signature(der).signers[0].attributes[4:]
    moment = re.search(rb"\d{12}Z", attributes)
    assert moment
    for at in (der.rindex(moment[0]) + 11, len(der) - 20):  # a certificate may be of the same second
        changed = der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]
        bad = good.but(signature=changed)
        assert prove(bad, anchors).reason == "its signature is broken: the signer's key does not fit it"
        pem = b"-----BEGIN PKCS7-----\n%s-----END PKCS7-----\n" % base64.encodebytes(changed)
        assert not pki.openssl_accepts(bad.descriptor, pem, "certified")


@pytest.mark.parametrize(
    ("tool", "more", "note"),
    [
        ("smime", ("-outform", "DER"), ""),
        ("smime", ("-noattr",), ""),
        ("smime", ("-md", "sha512"), ""),
        ("smime", ("-md", "sha1"), "the signature uses SHA-1"),
        ("cms", ("-stream",), ""),
        ("cms", ("-outform", "DER", "-stream"), ""),
        ("cms", ("-keyid",), ""),
        ("cms", ("-keyopt", "rsa_padding_mode:pss"), ""),
        ("cms", ("-nodetach",), ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_the_forms_that_signatures_have(
    pki: Pki, anchors: Anchors, tool: str, more: tuple[str, ...], note: str
) -> None:
    vib = signed(pki, "certified", "certified", tool=tool, more=more)
    proof = prove(vib, anchors)
    assert proof.reason == ""
    assert proof.note in (note, "the signature uses SHA-512")
    evil = vib.but(descriptor=vib.descriptor.replace(b"A NIC", b"A nic"))
    assert prove(evil, anchors).reason


def test_md5_is_not_believed(pki: Pki, anchors: Anchors) -> None:
    vib = signed(pki, "certified", "certified", more=("-md", "md5"))
    assert "a hash that is not believed" in prove(vib, anchors).reason


def test_what_is_no_signature(anchors: Anchors) -> None:
    text = descriptor("partner")
    reasons = {
        b"": "it is not signed",
        b"\n": "it is not signed",
        b"hello": "neither PEM",
        b"-----BEGIN PKCS7-----\n!!!\n-----END PKCS7-----": "neither PEM",
        b"-----BEGIN PKCS7-----\nabc\n-----END PKCS7-----": "not base64",
        b"0\x80" * 20: "an impossible length",
        b"0" * 300_000: "has 300000 bytes",
    }
    for signature, reason in reasons.items():
        assert reason in prove(MemoryVib(text, signature), anchors).reason


def test_community_is_not_checked(anchors: Anchors) -> None:
    proof = prove(MemoryVib(descriptor("community"), b"whatever"), anchors)
    assert (proof.proven, proof.level) == (True, AcceptanceLevel.COMMUNITY)
    assert "not checked" in proof.note


def test_a_descriptor_that_was_written_anew(pki: Pki, anchors: Anchors) -> None:
    vib = signed(pki, "certified", "certified").but(exact=False)
    assert prove(vib, anchors).reason == "the signed bytes of its descriptor are not in the image database"


def test_a_depot_that_says_more_than_was_signed(pki: Pki, anchors: Anchors) -> None:
    vib = signed(pki, "certified", "certified")
    other = MemoryVib(descriptor("certified", files=("bin/sh",))).package
    assert "says something else" in prove(vib.but(said=other), anchors).reason


def test_a_revoked_certificate(pki: Pki, anchors: Anchors, tmp_path: Path) -> None:
    serial = f"{pki.certificate('middle').serial_number:X}"
    serial = serial.zfill(len(serial) + len(serial) % 2)
    (pki.root / "index.txt").write_text(f"R\t400101000000Z\t200101000000Z\t{serial}\tunknown\t/CN=x\n")
    (pki.root / "number").write_text("01\n")
    for name in ("root", "stranger"):
        pki.run("ca", "-gencrl", "-config", "pki.cnf", "-name", "list", "-keyfile", f"{name}.key", "-cert",
                f"{name}.pem", "-out", tmp_path / f"{name}.crl")  # fmt: skip
    partner = signed(pki, "partner", "partner", "root", "middle")
    accepted = signed(pki, "accepted", "accepted", "root")

    watched = anchors.with_file(tmp_path / "root.crl")
    assert "was revoked by its issuer" in prove(partner, watched).reason
    assert prove(accepted, watched).proven

    foreign = anchors.with_file(tmp_path / "stranger.crl")  # of the same name
    assert "is not signed by it" in prove(accepted, foreign).reason


@pytest.mark.parametrize(("digest", "believed"), [("sha1", True), ("md5", False)])
def test_certificates_of_the_time_of_esxi_5(
    digest: str, believed: bool, pki: Pki, anchors: Anchors, tmp_path: Path
) -> None:
    """Signed with SHA-1, like the list of those that were revoked."""
    pki.make("old", "/O=Old Nics/CN=VIB Signing", "root", digest=digest)
    vib = signed(pki, "partner", "old", "root")
    assert prove(vib, anchors).proven is believed

    (pki.root / "index.txt").write_text("")
    (pki.root / "number").write_text("01\n")
    pki.run("ca", "-gencrl", "-config", "pki.cnf", "-name", "list", "-keyfile", "root.key", "-cert", "root.pem",
            "-md", digest, "-out", tmp_path / "old.crl")  # fmt: skip
    assert prove(vib, anchors.with_file(tmp_path / "old.crl")).proven is believed


def test_the_site_fills_a_gap_and_adds_anchors(pki: Pki, anchors: Anchors, tmp_path: Path) -> None:
    """The root is often not in the signature; what lies in a folder is an anchor only if a level says so."""
    vib = signed(pki, "partner", "partner", "middle")
    assert site_anchors(tmp_path, anchors) == anchors
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "README").write_text("not looked at")
    (trust / "vmware.pem").write_bytes((pki.root / "root.pem").read_bytes())
    assert not prove(vib, anchors).proven
    assert prove(vib, site_anchors(tmp_path, anchors)).proven

    other = signed(pki, "partner", "impostor")
    (trust / "own.pem").write_bytes((pki.root / "stranger.pem").read_bytes())
    with pytest.raises(SignatureError, match=r"own\.pem: this certificate is not one of VMware's"):
        site_anchors(tmp_path, anchors)
    (trust / "partner").mkdir()
    (trust / "own.pem").rename(trust / "partner" / "own.pem")
    assert prove(other, site_anchors(tmp_path, anchors)).proven

    (trust / "broken.crt").write_bytes(b"\x30\x03abc")
    with pytest.raises(SignatureError, match=r"broken\.crt is not a readable certificate"):
        site_anchors(tmp_path, anchors)


def test_vmwares_anchors_are_pinned() -> None:
    assert all(re.fullmatch("[0-9A-F]{64}", anchor.fingerprint) for anchor in VMWARE.pinned)
    assert {level for anchor in VMWARE.pinned for level in anchor.levels} == {PARTNER, ACCEPTED, CERTIFIED}


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda data: b"0\x80" + data))
def test_any_bytes_are_a_reason(data: bytes) -> None:
    assert prove(MemoryVib(descriptor("partner"), data)).reason
    with suppress(FormatError):
        parse_signature(data)


@pytest.fixture(scope="module")
def real(pki: Pki) -> tuple[bytes, bytes]:
    """A descriptor and its signature with a chain, as DER."""
    vib = signed(pki, "partner", "partner", "root", "middle", more=("-outform", "DER"))
    return vib.descriptor, vib.signature


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_mutation_proves_another_descriptor(
    real: tuple[bytes, bytes], anchors: Anchors, data: st.DataObject
) -> None:
    """Nor does any raise, neither with the descriptor that was signed."""
    text, signature = real
    raw = bytearray(signature)
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(raw)) | st.integers(0, len(raw)))
    mutated = bytes(raw[:cut])
    prove(MemoryVib(text, mutated), anchors)
    evil = text.replace(b"opt/nic/nic.sh", b"bin/sh")
    assert prove(MemoryVib(evil, mutated), anchors).reason
