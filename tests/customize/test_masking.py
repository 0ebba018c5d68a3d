"""The net under the acrobat: whatever a command does to a secret, it is not shown."""

import base64
import json
import shlex
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.customize.capture import HEAD, TAIL, Capture
from midwife.customize.masking import SHORTEST, Masker

PASSWORD = "pa$$ 'word\"/&ü+"
PEM = "-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ\nq83vEjRWeJq83vEjRWeJq8\n-----END KEY-----\n"


def masker_for(secret: str) -> Masker:
    masker = Masker()
    masker.add("root", secret)
    return masker


@pytest.mark.parametrize(
    "shown",
    [
        PASSWORD,
        shlex.quote(PASSWORD),
        json.dumps({"password": PASSWORD}),
        urllib.parse.quote(PASSWORD, safe=""),
        urllib.parse.quote_plus(PASSWORD),
        urllib.parse.quote(PASSWORD, safe="").lower(),
        base64.b64encode(PASSWORD.encode()).decode(),
        base64.urlsafe_b64encode(PASSWORD.encode()).decode(),
        PASSWORD.encode().hex(),
        "+ echo 'pa$$ '\\''word\"/&ü+'",
    ],
)
def test_a_password_in_any_dress_is_not_shown(shown: str) -> None:
    masked = masker_for(PASSWORD).mask(f"before {shown} after")
    assert "<secret root>" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert "word" not in masked.replace("password", "")


@pytest.mark.parametrize("user", ["a", "ab", "abc", "root"])
def test_basic_authentication_is_masked_in_every_phase_of_base64(user: str) -> None:
    header = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
    masked = masker_for(PASSWORD).mask(f"Authorization: Basic {header}")
    shown = masked.removeprefix("Authorization: Basic ").split("<secret root>")
    assert len(shown) == 2
    # What is left around it decodes to the user name, and to no piece of the password.
    assert len(shown[0]) <= (len(user) + 2) * 4 // 3 + 1
    assert len(shown[1]) <= 4


def test_a_key_is_masked_line_by_line_and_wrapped() -> None:
    masker = masker_for(PEM)
    assert "q83vEjRW" not in masker.mask("> q83vEjRWeJq83vEjRWeJq8 <")
    wrapped = base64.encodebytes((PEM * 3).encode()).decode()
    long = masker_for(PEM * 3)
    for line in wrapped.splitlines():
        if len(line) >= SHORTEST:
            assert line not in long.mask(wrapped)


def test_too_short_to_hide() -> None:
    with pytest.raises(ValueError, match="shorter than 4"):
        Masker().add("pin", "abc")


@given(st.text(min_size=SHORTEST, max_size=60), st.text(max_size=40), st.text(max_size=40))
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    masked = masker_for(secret).mask(before + secret + after)
    label = "<secret root>"
    pieces = masked.split(label)
    assert len(pieces) >= 2
    assert all(secret not in piece for piece in pieces)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_output_is_bounded_printable_text_whatever_the_bytes(chunk: bytes, times: int) -> None:
    capture = Capture()
    for _ in range(times):
        capture.add(chunk)
    text = capture.text(Masker())
    assert len(text.encode()) <= 3 * (HEAD + TAIL) + 100
    assert all(c >= " " or c in "\n\t" for c in text)


@pytest.mark.parametrize("shift", range(40))
def test_a_secret_on_the_edge_of_the_gap_is_not_shown_by_halves(shift: int) -> None:
    secret = "S3cretS3cret-abcdefghijklmnop"
    flood = b"." * (HEAD - shift) + secret.encode() + b"." * 100_000
    flood += b"." * 100 + secret.encode() + b"." * (TAIL - shift)
    capture = Capture()
    capture.add(flood)
    text = capture.text(masker_for(secret))
    assert "bytes left out" in text
    assert not [c for c in text.replace("<secret root>", "").replace("<secret>", "").replace(
        f"[… {len(flood) - HEAD - TAIL} bytes left out …]", "") if c not in ".\n"]  # fmt: skip
