"""The callback line and its HTTP form: what a host may say, what it is told, and what bad bytes come to."""

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midwife.wire.callback import (
    MAX_SIZE,
    CallbackError,
    CallbackMessage,
    HostKey,
    Phase,
    Reply,
    Verdict,
    encode_message,
    encode_reply,
    parse_message,
    parse_reply,
)
from midwife.wire.callback_http import HttpError, HttpHead, encode_response, is_http, parse_head

ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIIAAHKE6HWv5TeXIx9GhDq1dLiFiBFFKniybqlwRJY78"


def test_the_line_of_the_reference_manual() -> None:
    line = (
        b"MIDWIFE/1 token=k3-v9 phase=booted uuid=4c4c4544-0042-4610-8053-b3c04f345433 serial=3BFS4T3"
        b" macs=52:54:00:12:34:56,52:54:00:12:34:57 version=VMware%20ESXi%208.0.3%20build-24022510"
        b" hostkeys=ssh-ed25519:" + ED25519.encode() + b" hostname=esx-01 vendor=Dell%20Inc. model=R750xs\n"
    )

    message = parse_message(line)

    assert message == CallbackMessage(
        token="k3-v9",
        uuid="4c4c4544-0042-4610-8053-b3c04f345433",
        serial="3BFS4T3",
        macs=("52:54:00:12:34:56", "52:54:00:12:34:57"),
        version="VMware ESXi 8.0.3 build-24022510",
        hostkeys=(HostKey.parse("ssh-ed25519:" + ED25519),),
        hostname="esx-01",
        vendor="Dell Inc.",
        model="R750xs",
    )
    assert encode_message(message) == line


def test_the_shortest_message_says_nothing_and_is_a_booted_call() -> None:
    for line in (b"MIDWIFE/1", b"MIDWIFE/1\n", b"MIDWIFE/1 \r\n", b"MIDWIFE/1  token=  phase=\n"):
        assert parse_message(line) == CallbackMessage(phase=Phase.BOOTED)


def test_unknown_keys_are_kept_in_order() -> None:
    message = parse_message(b"MIDWIFE/1 zeta=1 serial=S alpha-2=%C3%A9\n")

    assert message.extra == (("zeta", "1"), ("alpha-2", "é"))
    assert parse_message(encode_message(message)) == message


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "does not start with MIDWIFE/1"),
        (b"hello 192.0.2.1\n", "does not start with MIDWIFE/1"),
        (b"MIDWIFE/2 token=x\n", "version 2 of the protocol"),
        (b"MIDWIFE/1 ok\n", "word 2 is not key=value"),
        (b"MIDWIFE/1 a=b Serial=x\n", "word 3 is not key=value"),
        (b"MIDWIFE/1 =x\n", "word 2 is not key=value"),
        (b"MIDWIFE/1 serial=1 serial=1\n", "serial: given twice"),
        (b"MIDWIFE/1 serial=100%\n", "serial: a % that no two"),
        (b"MIDWIFE/1 serial=%2\n", "serial: a % that no two"),
        (b"MIDWIFE/1 serial=%G0\n", "serial: a % that no two"),
        (b"MIDWIFE/1 serial=%FF\n", "serial: the value is not UTF-8"),
        (b"MIDWIFE/1 serial=%1B[2J\n", "serial: the value has control characters"),
        (b"MIDWIFE/1 serial=%C2%9B2J\n", "serial: the value has control characters"),
        (b"MIDWIFE/1 serial=%0A\n", "serial: the value has control characters"),
        (b"MIDWIFE/1 serial=\xc3\xa9\n", "bytes above 127"),
        (b"MIDWIFE/1 a=1\nb=2\n", "more than one line"),
        (b"MIDWIFE/1\ta=1\n", "does not start|more than one line"),
        (b"MIDWIFE/1 phase=bootet\n", "phase: not one of booted, pre, post, installed"),
        (b"MIDWIFE/1 hostkeys=SHA256:short\n", "hostkeys: each is SHA256"),
        (b"MIDWIFE/1 hostkeys=ssh-ed25519:!!!!\n", "hostkeys: each is SHA256"),
        (b"MIDWIFE/1 hostkeys=ssh-rsa:" + ED25519.encode(), "hostkeys: each is SHA256"),
        (b"MIDWIFE/1 a=" + b"x" * MAX_SIZE, "longer than 8192 bytes"),
    ],
)
def test_a_malformed_line_is_refused_with_its_reason(line: bytes, reason: str) -> None:
    with pytest.raises(CallbackError, match=reason):
        parse_message(line)


def test_neither_reasons_nor_representations_show_the_token() -> None:
    with pytest.raises(CallbackError) as caught:
        parse_message(b"MIDWIFE/1 token=s3cret%zz\n")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(parse_message(b"MIDWIFE/1 token=s3cret\n"))


def test_fingerprints_are_those_of_openssh(tmp_path: Path) -> None:
    """The counterpart: ssh-keygen makes the keys and prints the fingerprints."""
    for kind in ("ed25519", "ecdsa", "rsa"):
        file = tmp_path / kind
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file], check=True)
        listing = subprocess.run(["ssh-keygen", "-lf", file], check=True, capture_output=True, text=True)
        name, key, *_ = file.with_suffix(".pub").read_text().split()

        parsed = HostKey.parse(f"{name}:{key}")

        assert parsed.fingerprint == listing.stdout.split()[1]
        assert (parsed.type, parsed.key) == (name, key)
        assert HostKey.parse(parsed.fingerprint) == HostKey(parsed.fingerprint)


def test_a_private_key_is_no_host_key() -> None:
    blob = base64.b64encode(b"openssh-key-v1\0" + hashlib.sha256(b"").digest()).decode()
    with pytest.raises(CallbackError):
        HostKey.parse("openssh-key-v1:" + blob)


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (Reply(Verdict.OK), b"MIDWIFE/1 ok\n"),
        (Reply(Verdict.OK, attempt="k3v9", state="ready"), b"MIDWIFE/1 ok attempt=k3v9 state=ready\n"),
        (
            Reply(Verdict.LATER, seconds=5, reason="starting up"),
            b"MIDWIFE/1 later seconds=5 reason=starting%20up\n",
        ),
        (Reply(Verdict.REFUSED, reason="tokén"), b"MIDWIFE/1 refused reason=tok%C3%A9n\n"),
    ],
)
def test_replies_on_the_wire(reply: Reply, line: bytes) -> None:
    assert encode_reply(reply) == line
    assert parse_reply(line) == reply


def test_later_always_says_when() -> None:
    assert encode_reply(Reply(Verdict.LATER)) == b"MIDWIFE/1 later seconds=30\n"


@pytest.mark.parametrize(
    "line", [b"", b"MIDWIFE/1\n", b"MIDWIFE/1 yes\n", b"MIDWIFE/1 later seconds=x\n", b"MIDWIFE/1 ok state\n"]
)
def test_what_is_no_reply_is_refused(line: bytes) -> None:
    with pytest.raises(CallbackError):
        parse_reply(line)


def test_an_http_head() -> None:
    assert parse_head(b"POST /x HTTP/1.0\r\nContent-Length: 12\r\n\r\n") == HttpHead(0, 12)
    assert parse_head(b"POST http://m/ HTTP/1.1\nHost: m\n\n") == HttpHead(1, None)
    asking = b"POST / HTTP/1.1\r\nEXPECT: 100-Continue\r\ncontent-length:5\r\n\r\n"
    assert parse_head(asking) == HttpHead(1, 5, expects_continue=True)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"POST /\r\n\r\n", 400),
        (b"POST / HTTP/2.0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 405),
        (b"HEAD / HTTP/1.0\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
    ],
)
def test_http_that_carries_no_callback(head: bytes, status: int) -> None:
    with pytest.raises(HttpError) as caught:
        parse_head(head)
    assert caught.value.status == status


def test_verdicts_as_http_statuses() -> None:
    ok = encode_response(Reply(Verdict.OK))
    assert ok.startswith(b"HTTP/1.1 200 OK\r\n")
    assert ok.endswith(b"\r\n\r\nMIDWIFE/1 ok\n")
    assert b"Content-Length: 13\r\n" in ok
    later = encode_response(Reply(Verdict.LATER, seconds=7))
    assert later.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 7\r\n" in later
    refused = encode_response(Reply(Verdict.REFUSED, reason="no"), 405, with_body=False)
    assert b"\r\nAllow: POST\r\n" in refused
    assert refused.endswith(b"\r\n\r\n")


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=30)
items = st.text("0123456789abcdef:.", min_size=1, max_size=20)


@given(
    st.builds(
        CallbackMessage,
        token=words,
        phase=st.sampled_from(Phase),
        uuid=words,
        serial=words,
        macs=st.lists(items, max_size=4).map(tuple),
        version=words,
        hostkeys=st.sampled_from(
            [(), (HostKey.parse("ssh-ed25519:" + ED25519), HostKey("SHA256:" + "A" * 43))]
        ),
        hostname=words,
        vendor=words,
        model=words,
        extra=st.dictionaries(st.sampled_from(["x", "y-9", "note"]), words).map(lambda d: tuple(d.items())),
    )
)
def test_every_message_survives_the_wire(message: CallbackMessage) -> None:
    assert parse_message(encode_message(message)) == message


line_soup = st.lists(
    st.sampled_from(
        [b"MIDWIFE/1", b" ", b"token=", b"phase=pre", b"macs=a,b", b"%", b"%41", b"%00", b"=", b"\n"]
    )
    | st.binary(max_size=4),
    max_size=12,
).map(b"".join)


@given(st.binary(max_size=200) | line_soup | line_soup.map(lambda tail: b"MIDWIFE/1 " + tail))
@example(b"MIDWIFE/" + b"9" * 5000)
def test_any_bytes_are_a_value_or_one_error(data: bytes) -> None:
    reasons = []
    for parse in (parse_message, parse_reply):
        try:
            parse(data)
        except CallbackError as error:  # any other exception fails the test
            reasons.append(error.reason)
    assert all(reasons)


head_soup = st.lists(
    st.sampled_from(
        [b"POST / HTTP/1.1", b"\r\n", b"\n", b"Content-Length: ", b"5", b":", b"\r", b"Expect: 100"]
    )
    | st.binary(max_size=4),
    max_size=12,
).map(b"".join)


@given(st.binary(max_size=200) | head_soup | head_soup.map(lambda tail: b"POST / HTTP/1.0\r\n" + tail))
def test_any_bytes_are_a_head_or_one_error(data: bytes) -> None:
    try:
        head = parse_head(data)
    except HttpError as error:
        status = error.status  # any other exception fails the test
        assert status in (400, 405, 411, 431)
    else:
        assert is_http(data.split(b"\n")[0])
        assert head.minor in (0, 1)


@given(st.sampled_from(Verdict), st.text(max_size=600), st.integers())
def test_every_reply_can_be_sent_and_read(verdict: Verdict, text: str, seconds: int) -> None:
    clean = text.encode(errors="ignore").decode()

    reply = parse_reply(encode_reply(Reply(verdict, attempt="a1", seconds=seconds, reason=clean)))

    assert reply.verdict is verdict
    assert reply.attempt == "a1"
    assert len(reply.reason) <= 400
