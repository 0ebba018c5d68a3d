"""The token on the kernel line: what it proves, and that nothing else does."""

from hypothesis import given
from hypothesis import strategies as st

from midwife.core.token import attempt_of, mint, verify
from midwife.wire.bootcmd import Endpoint, find_token, kernel_words

SECRET, OTHER = b"s" * 32, b"t" * 32
ATTEMPTS = st.text("0123456789abcdef", min_size=8, max_size=8)
ADDRESSES = st.sampled_from(["192.0.2.7", "192.0.2.8", "192.0.2.70", "2001:db8::7"])


@given(ATTEMPTS, ADDRESSES)
def test_it_is_good_for_its_attempt_and_address(attempt: str, address: str) -> None:
    token = mint(SECRET, attempt, address)
    assert verify(SECRET, token, attempt, address)
    assert attempt_of(token) == attempt
    assert token == mint(SECRET, attempt, address), "computed, not stored: the same after a restart"


@given(ATTEMPTS, ATTEMPTS, ADDRESSES, ADDRESSES)
def test_it_is_worthless_for_any_other(one: str, two: str, here: str, there: str) -> None:
    good = (one, here) == (two, there)
    assert verify(SECRET, mint(SECRET, one, here), two, there) is good
    assert not verify(OTHER, mint(SECRET, one, here), one, here)


@given(ATTEMPTS, ADDRESSES)
def test_its_length_is_constant(attempt: str, address: str) -> None:
    assert len(mint(SECRET, attempt, address)) == 8 + 1 + 26


@given(ATTEMPTS, st.integers(0, 34))
def test_cut_or_changed_it_fails(attempt: str, at: int) -> None:
    token = mint(SECRET, attempt, "192.0.2.7")
    changed = token[:at] + ("a" if token[at] != "a" else "b") + token[at + 1 :]
    for forged in (token[:at], changed, token + "a", token.upper(), token + "\n", " " + token):
        assert not verify(SECRET, forged, attempt, "192.0.2.7")


@given(st.text(max_size=60), ATTEMPTS)
def test_any_text_is_a_token_or_none(text: str, attempt: str) -> None:
    found = attempt_of(text)
    assert found == "" or text.startswith(f"{found}.")
    assert not verify(SECRET, text, attempt, "192.0.2.7")
    assert not verify(SECRET, "\ud800" + text, attempt, "192.0.2.7")


@given(ATTEMPTS, ADDRESSES)
def test_it_survives_a_kernel_line(attempt: str, address: str) -> None:
    token = mint(SECRET, attempt, address)
    assert find_token(f"quiet {kernel_words(Endpoint('192.0.2.2', 3500), token)} ro") == token
