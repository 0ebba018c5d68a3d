"""Downloads against a real web server: resumed, bounded, checked; and what happens when it misbehaves."""

import hashlib
import ipaddress
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.depot.sources.asking import Patience
from midwife.images.depot.sources.fetch import Expected, Fetcher
from midwife.images.depot.sources.urls import check_url, exact_url, shown_url
from midwife.images.errors import FormatError, ImageError
from tests.peers.depotserver import DepotServer, Fault, serving

BODY = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BODY).hexdigest()
WHOLE = Expected(limit=len(BODY), size=len(BODY), sha256=SHA256)
LARGE = Expected(limit=1 << 30)
HASTY = Patience(connect=5, headers=5, silence=5, pause=0)


@pytest.fixture
def server() -> Iterator[DepotServer]:
    with serving({"a.vib": BODY}) as running:
        yield running


@pytest.fixture
def fetcher(tmp_path: Path) -> Fetcher:
    return Fetcher(tmp_path / "parts", HASTY)


def left(fetcher: Fetcher) -> list[str]:
    return sorted(path.suffix for path in fetcher.parts.iterdir())


def test_a_file_comes_whole_and_leaves_no_part(server: DepotServer, fetcher: Fetcher, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fetcher.progress = lambda done, total: seen.append((done, total))
    fetcher.download(f"{server.url}/a.vib", tmp_path / "x", WHOLE)
    assert (tmp_path / "x").read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert left(fetcher) == []


def test_a_broken_connection_is_resumed_where_it_broke(
    server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    """
    >> GET               << 200, 300,000 bytes, the connection breaks
    >> GET, from 300,000 << 206, the rest
    """
    server.faults["a.vib"] = Fault(cut=300_000)
    fetcher.download(f"{server.url}/a.vib", tmp_path / "x", WHOLE)
    assert (tmp_path / "x").read_bytes() == BODY
    assert [one.range for one in server.asked] == ["", "bytes=300000-"]


def test_another_run_goes_on_from_what_is_there(
    server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    server.faults["a.vib"] = Fault(times=1, cut=500_000)
    once = Fetcher(fetcher.parts, Patience(pause=0, fruitless=1))
    server.faults["a.vib"].times = 1
    server.before = lambda _: server.faults.__setitem__(
        "a.vib", Fault(cut=500_000) if len(server.asked) == 1 else Fault(status=503)
    )
    with pytest.raises(ImageError, match="500000 bytes are kept"):
        once.download(f"{server.url}/a.vib", tmp_path / "x", WHOLE)
    server.before, server.faults = lambda _: None, {}
    server.asked.clear()
    fetcher.download(f"{server.url}/a.vib", tmp_path / "x", WHOLE)
    assert [one.range for one in server.asked] == ["bytes=500000-"]
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_file_that_changed_meanwhile_is_fetched_anew(
    server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    """If-Range: the rest of another version is of no use."""

    def change(_: str) -> None:
        if len(server.asked) == 2:
            server.files["a.vib"] = b"new" * 1000

    server.before = change
    server.faults["a.vib"] = Fault(cut=1000)
    fetcher.download(f"{server.url}/a.vib", tmp_path / "x", LARGE)
    assert (tmp_path / "x").read_bytes() == b"new" * 1000


def test_a_server_without_ranges_starts_again(server: DepotServer, fetcher: Fetcher, tmp_path: Path) -> None:
    server.faults["a.vib"] = Fault(cut=1000)
    server.before = lambda _: (
        server.faults.__setitem__("a.vib", Fault(no_range=True)) if len(server.asked) == 2 else None
    )
    fetcher.download(f"{server.url}/a.vib", tmp_path / "x", WHOLE)
    assert (tmp_path / "x").read_bytes() == BODY
    assert [one.range for one in server.asked] == ["", "bytes=1000-"]


def test_without_a_validator_the_checksum_decides(
    server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    """A part of an old version, the rest of a new one: the whole is wrong, so it is fetched from the start."""
    server.faults["a.vib"] = Fault(times=-1, no_validator=True, cut=1000)
    old, server.files["a.vib"] = server.files["a.vib"], bytes(len(BODY))

    def mend(_: str) -> None:
        if len(server.asked) == 2:
            server.files["a.vib"] = old
            server.faults["a.vib"] = Fault(times=-1, no_validator=True)

    server.before = mend
    fetcher.download(f"{server.url}/a.vib", tmp_path / "x", WHOLE)
    assert (tmp_path / "x").read_bytes() == BODY
    assert [one.range for one in server.asked] == ["", "bytes=1000-", ""]


def test_a_range_from_another_place_is_not_believed(
    server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    server.faults["a.vib"] = Fault(cut=1000)
    server.before = lambda _: (
        server.faults.__setitem__("a.vib", Fault(content_range="bytes 5-9/10"))
        if len(server.asked) == 2
        else None
    )
    fetcher.download(f"{server.url}/a.vib", tmp_path / "x", WHOLE)
    assert (tmp_path / "x").read_bytes() == BODY
    assert [one.range for one in server.asked] == ["", "bytes=1000-", ""]


def test_a_busy_server_is_asked_again(server: DepotServer, fetcher: Fetcher, tmp_path: Path) -> None:
    server.faults["a.vib"] = Fault(times=2, status=503)
    fetcher.download(f"{server.url}/a.vib", tmp_path / "x", WHOLE)
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("fault", "expected", "told"),
    [
        (
            Fault(-1, status=404),
            WHOLE,
            "404 Not Found: the address is wrong, or the depot does not have what",
        ),
        (Fault(-1, status=401), WHOLE, "401 Unauthorized: the address lacks a user, password or token"),
        (Fault(-1, status=403), WHOLE, "403 Forbidden: the address lacks a user, password or token"),
        (Fault(-1, status=407), WHOLE, "the proxy wants a user and password; name them in http_proxy"),
        (Fault(-1, status=500), WHOLE, "the server answers 500"),
        (Fault(-1, coding="gzip"), WHOLE, r"the server packs it \(gzip\)"),
        (Fault(-1, length=10, cut=10), WHOLE, "has 10 bytes; its depot says 1024000"),
        (Fault(-1, length=2 * len(BODY)), LARGE, "the server contradicts itself"),
        (Fault(-1), Expected(limit=1000), "has more than 1000 bytes"),
        (Fault(-1), Expected(len(BODY), len(BODY), "0" * 64), "is not what its depot says"),
        (
            Fault(-1, status=302, location="ftp://elsewhere/x"),
            WHOLE,
            "a.vib leads elsewhere: ftp://elsewhere/x",
        ),
        (
            Fault(-1, status=302, location="file:///etc/passwd"),
            WHOLE,
            "a.vib leads elsewhere: file:///etc/passwd",
        ),
        (Fault(-1, status=302, location="/a.vib"), WHOLE, "leads from one address to the next"),
        (Fault(-1, status=302, location="http://["), WHOLE, "is not an address|no usable address"),
        (Fault(-1, cut=0), WHOLE, "the connection broke"),
    ],
)
def test_what_goes_wrong_is_told_and_leaves_no_file(
    fault: Fault, expected: Expected, told: str, server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    server.faults["a.vib"] = fault
    with pytest.raises(ImageError, match=told):
        fetcher.download(f"{server.url}/a.vib", tmp_path / "x", expected)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html><html>Log in", b"\xef\xbb\xbf\n <HTML><body>", b"<html/>" + bytes(1 << 20)]
)
def test_a_login_page_in_place_of_the_file(
    body: bytes, server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    """Portals send it with status 200 to whoever has no token, or one that ran out."""
    server.files["a.vib"] = body
    with pytest.raises(FormatError, match="a web page, perhaps a login; is the address complete"):
        fetcher.download(f"{server.url}/a.vib", tmp_path / "x", Expected(2 << 20))
    assert not (tmp_path / "x").exists()


def test_nothing_useless_stays_of_a_failure(server: DepotServer, fetcher: Fetcher, tmp_path: Path) -> None:
    for fault in (
        Fault(-1, status=404),
        Fault(-1, status=503),
        Fault(-1, status=302, location="/a.vib"),
        Fault(-1, cut=0),
        Fault(-1, cut=1000, no_validator=True),
    ):
        server.faults["a.vib"] = fault
        with pytest.raises(ImageError) as raised:
            fetcher.download(f"{server.url}/a.vib", tmp_path / "x", LARGE)
        assert "are kept" not in str(raised.value)
        assert list(fetcher.parts.iterdir()) == []


def test_https_where_the_server_speaks_http(server: DepotServer, fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no TLS with this server.*; is it http://"):
        fetcher.download(f"{server.url.replace('http:', 'https:')}/a.vib", tmp_path / "x", WHOLE)


def test_progress_without_a_length_claims_no_total(
    server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    fetcher.progress = lambda done, total: told.append((done, total))
    server.faults["a.vib"] = Fault(no_length=True)
    fetcher.download(f"{server.url}/a.vib", tmp_path / "x", Expected(1 << 30))
    assert told[-1] == (len(BODY), 0)


def test_a_wrong_file_is_thrown_away(server: DepotServer, fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="thrown away"):
        fetcher.download(f"{server.url}/a.vib", tmp_path / "x", Expected(1 << 30, None, "0" * 64))
    assert left(fetcher) == []


@pytest.mark.parametrize("fault", [Fault(-1, silent=True), Fault(-1, drip=0.02)])
def test_a_server_that_never_ends_is_left(
    fault: Fault, server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    fetcher.patience = Patience(0.1, 0.1, 0.1, window=0.1, slowest=1000, pause=0, fruitless=1)
    server.faults["a.vib"] = fault
    with pytest.raises(ImageError, match=r"too long to answer|next to nothing"):
        fetcher.download(f"{server.url}/a.vib", tmp_path / "x", Expected(1 << 30))


def test_a_document_is_asked_for_only_if_it_changed(
    server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    url = f"{server.url}/a.vib"
    assert fetcher.document(url, tmp_path / "x", LARGE) is True
    assert fetcher.document(url, tmp_path / "x", LARGE) is False
    server.files["a.vib"] = b"new"
    assert fetcher.document(url, tmp_path / "x", LARGE) is True
    assert (tmp_path / "x").read_bytes() == b"new"


def test_redirects_are_followed(server: DepotServer, fetcher: Fetcher, tmp_path: Path) -> None:
    server.faults["moved"] = Fault(status=302, location="/a.vib?signed=1")
    fetcher.download(f"{server.url}/moved", tmp_path / "x", WHOLE)
    assert server.paths() == ["moved", "a.vib"]


def test_the_password_of_an_address_is_sent_and_never_told(
    server: DepotServer, fetcher: Fetcher, tmp_path: Path
) -> None:
    url = server.url.replace("//", "//lab:s3cret@")
    fetcher.download(f"{url}/a.vib", tmp_path / "x", WHOLE)
    assert server.asked[0].headers["Authorization"] == "Basic bGFiOnMzY3JldA=="
    with pytest.raises(ImageError) as raised:
        fetcher.download(f"{url}/gone?token=t0ken", tmp_path / "y", WHOLE)
    assert "s3cret" not in str(raised.value)
    assert "t0ken" not in str(raised.value)


def test_two_downloads_of_the_same_file_do_not_mix(fetcher: Fetcher, tmp_path: Path) -> None:
    with serving({"a.vib": BODY}) as server:
        url = f"{server.url}/a.vib"
        told: list[str] = []

        def second(_: str) -> None:
            server.before = lambda _: None
            try:
                Fetcher(fetcher.parts, HASTY).download(url, tmp_path / "y", WHOLE)
            except ImageError as error:
                told.append(str(error))

        server.before = second
        fetcher.download(url, tmp_path / "x", WHOLE)
    assert (tmp_path / "x").read_bytes() == BODY
    assert len(told) == 1
    assert "another midwife is downloading" in told[0]


def test_nobody_there(fetcher: Fetcher, tmp_path: Path) -> None:
    with serving({}) as server:
        pass
    with pytest.raises(ImageError, match="no connection"):
        fetcher.download(f"{server.url}/a.vib", tmp_path / "x", WHOLE)


def _certificate(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def test_https_believes_the_cas_of_the_system_only(
    fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = _certificate(tmp_path)
    with serving({"a.vib": BODY}, tls) as server, serving({"a.vib": BODY}) as plain:
        url = f"{server.url}/a.vib"
        with pytest.raises(ImageError, match=r"certificate is not trusted.*SSL_CERT_FILE"):
            fetcher.download(url, tmp_path / "x", WHOLE)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        fetcher.download(url, tmp_path / "x", WHOLE)
        server.faults["down"] = Fault(-1, status=301, location=f"{plain.url}/a.vib")
        with pytest.raises(ImageError, match="from https to plain http"):
            fetcher.download(f"{server.url}/down", tmp_path / "y", WHOLE)
    assert (tmp_path / "x").read_bytes() == BODY
    assert plain.asked == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a/index.xml", "https://h/a/index.xml"),
        ("https://u:p@h:8443/i.xml?k=v#f", "https://***@h:8443/i.xml?***"),
        (
            "https://dl.broadcom.com/Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8/PROD/COMP/ESX_HOST/main/vmw-depot-index.xml",
            "https://dl.broadcom.com/***/PROD/COMP/ESX_HOST/main/vmw-depot-index.xml",
        ),
        (
            "http://h/vib20/esx-base/VMware_bootbank_esx-base_8.0.3-0.35.24280767.vib",
            "http://h/vib20/esx-base/VMware_bootbank_esx-base_8.0.3-0.35.24280767.vib",
        ),
        ("http://[::1", "***"),
    ],
)
def test_addresses_are_shown_without_their_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "url", ["ftp://h/x", "file:///etc/passwd", "http://", "http://h/a b", "http://h:0/", "x"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ImageError):
        check_url(url)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_an_address_or_one_error(text: str) -> None:
    for url in (text, f"http://{text}", f"https://h/{text}"):
        shown_url(url)
        try:
            assert exact_url(check_url(url)).isascii()
        except ImageError:
            continue
