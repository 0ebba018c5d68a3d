"""Certificates and signatures as vendors make them, by openssl(1); and VIBs that need no file."""

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from midwife.images.flow import BLOCK
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.package import SoftwarePackage
from midwife.images.vib.descriptor import parse_descriptor
from midwife.images.vib.signing.trust import Anchor, Anchors

CONFIG = """\
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[last_ca]
basicConstraints = critical, CA:TRUE, pathlen:0
[leaf]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
subjectKeyIdentifier = hash
[crl]
default_ca = list
[list]
database = index.txt
crlnumber = number
default_md = sha256
default_crl_days = 1
"""


def openssl(*words: str | Path, directory: Path, data: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *map(str, words)], cwd=directory, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass(frozen=True)
class Pki:
    """A folder of NAME.key and NAME.pem."""

    root: Path

    def make(
        self,
        name: str,
        subject: str,
        issuer: str = "",
        kind: str = "leaf",
        key: str = "rsa:2048",
        days: str = "3650",
        digest: str = "sha256",
    ) -> None:
        """A certificate; with an issuer signed by it, else by itself. Negative ``days``: expired."""
        where = self.root
        curve = ("-pkeyopt", "ec_paramgen_curve:P-256") if key == "ec" else ()
        self.run("req", "-new", "-newkey", key, *curve, "-nodes", "-keyout", f"{name}.key", "-subj", subject,
                 "-out", f"{name}.csr", "-config", "pki.cnf")  # fmt: skip
        signer = (
            ("-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key") if issuer else ("-signkey", f"{name}.key")
        )
        serial = str(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
        self.run("x509", "-req", "-in", f"{name}.csr", *signer, f"-{digest}", "-days", days, "-set_serial", serial,
                 "-extfile", "pki.cnf", "-extensions", kind, "-out", f"{name}.pem")  # fmt: skip
        assert (where / f"{name}.pem").exists()

    def run(self, *words: str | Path, data: bytes = b"") -> bytes:
        return openssl(*words, directory=self.root, data=data)

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.root / f"{name}.pem").read_bytes())

    def anchor(self, name: str, *levels: AcceptanceLevel) -> Anchor:
        der = self.certificate(name).public_bytes(Encoding.DER)
        return Anchor(hashlib.sha256(der).hexdigest().upper(), name, levels)

    def sign(
        self, data: bytes, signer: str, *with_: str, more: tuple[str, ...] = (), tool: str = "smime"
    ) -> bytes:
        """A detached signature, PEM unless ``more`` says otherwise, with these certificates in it as well."""
        bundle = self.root / "extra.pem"
        bundle.write_bytes(b"".join((self.root / f"{name}.pem").read_bytes() for name in with_))
        extra = ("-certfile", bundle) if with_ else ()
        form = () if "-outform" in more else ("-outform", "PEM")
        return self.run(tool, "-sign", "-binary", "-signer", f"{signer}.pem", "-inkey", f"{signer}.key",
                        *extra, *form, *more, data=data)  # fmt: skip

    def openssl_accepts(self, descriptor: bytes, signature: bytes, *anchors: str) -> bool:
        """What openssl(1) says, dates and purposes ignored as ESXi ignores them."""
        (self.root / "content").write_bytes(descriptor)
        (self.root / "anchors.pem").write_bytes(
            b"".join((self.root / f"{name}.pem").read_bytes() for name in anchors)
        )
        done = subprocess.run(
            ["openssl", "smime", "-verify", "-binary", "-inform", "PEM", "-content", "content", "-CAfile",
             "anchors.pem", "-no_check_time", "-purpose", "any", "-out", "verified"],
            cwd=self.root, input=signature, capture_output=True,
        )  # fmt: skip
        return done.returncode == 0


def new_pki(root: Path) -> Pki:
    """Certified signer by itself; an accepted and a partner signer below one root; and a stranger's."""
    (root / "pki.cnf").write_text(CONFIG)
    pki = Pki(root)
    pki.make("certified", "/CN=VMware Certified VIB Signing", kind="ca")
    pki.make("root", "/O=VMware, Inc./CN=VMware Root CA", kind="ca")
    pki.make(
        "accepted", "/O=VMware Inc/OU=Acceptance Signing/CN=VMware Accepted VIB Signing", "root", days="-1"
    )
    pki.make("middle", "/O=Partners/CN=Partner CA", "root", kind="last_ca", key="ec")
    pki.make("partner", "/O=Nics & Sons/CN=VIB Signing", "middle", key="ec")
    pki.make("stranger", "/O=VMware, Inc./CN=VMware Root CA", kind="ca", key="ec")
    pki.make(
        "impostor", "/O=VMware Inc/OU=Acceptance Signing/CN=VMware Accepted VIB Signing", "stranger", key="ec"
    )
    pki.make(
        "upstart", "/O=VMware Inc/OU=Acceptance Signing/CN=VMware Accepted VIB Signing", "partner", key="ec"
    )  # a partner has made its own signer
    pki.make(
        "deep", "/O=Partners/CN=Partner of partner CA", "middle", kind="ca", key="ec"
    )  # middle has pathlen 0
    pki.make("deeper", "/O=Partners of partners/CN=VIB Signing", "deep", key="ec")
    pki.make("curve", "/O=Curves/CN=VIB Signing", "root", key="ec")
    return pki


def anchors_of(pki: Pki) -> Anchors:
    """As VMware's: one anchor for certified, one for accepted and partner."""
    return Anchors(
        (
            pki.anchor("certified", AcceptanceLevel.CERTIFIED),
            pki.anchor("root", AcceptanceLevel.ACCEPTED, AcceptanceLevel.PARTNER),
        )
    )


@dataclass(frozen=True)
class MemoryVib:
    """A VIB without a file."""

    descriptor: bytes
    signature: bytes = b""
    bodies: dict[str, bytes] = field(default_factory=dict)
    exact: bool = True
    headers: tuple[bytes, ...] = ()
    said: SoftwarePackage | None = None

    @property
    def package(self) -> SoftwarePackage:
        return self.said or parse_descriptor(self.descriptor).package

    def chunks(self, payload: str, block: int = BLOCK) -> Iterator[bytes]:
        yield self.bodies[payload]

    def path(self, payload: str) -> Path | None:
        return None

    def but(self, **changes: object) -> "MemoryVib":
        return replace(self, **changes)  # type: ignore[arg-type]


def descriptor(level: str, files: tuple[str, ...] = ("opt/nic/nic.sh",), payloads: str = "") -> bytes:
    """A small descriptor of a VIB that claims this level."""
    listed = "".join(f"<file>{path}</file>" for path in files)
    return (
        '<vib version="5.0"><type>bootbank</type><name>nic</name><version>1.0-1</version>'
        "<vendor>Nics</vendor><summary>A NIC</summary><description>A NIC</description>"
        f"<file-list>{listed}</file-list><acceptance-level>{level}</acceptance-level>"
        f"<payloads>{payloads}</payloads></vib>"
    ).encode()
