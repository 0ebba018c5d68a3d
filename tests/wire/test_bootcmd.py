"""Boot command lines as they reach us: raw, wrapped by a tool, quoted in a log, and hostile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.wire import bootcmd
from midwife.wire.bootcmd import (
    BootCommandError,
    Endpoint,
    check_length,
    find_pbhost,
    find_token,
    find_word,
    kernel_words,
)


@pytest.mark.parametrize(
    ("line", "host", "port"),
    [
        ("b.b00 PBHOST=192.0.2.7:3500 BOOTIF=01-52-54-00-12-34-56", "192.0.2.7", 3500),
        ("vmkernel.gz PBHOST=midwife.lab.example:80", "midwife.lab.example", 80),
        ("quiet PBHOST=[2001:db8::7]:3500 ro", "2001:db8::7", 3500),
        ("quiet PBHOST=[fe80::1%vmk0]:3500 ro", "fe80::1%vmk0", 3500),
        # a log line quotes the whole command line
        ("sysboot: Executing 'esx/b.b00 runweasel PBHOST=192.0.2.7:3500'", "192.0.2.7", 3500),
        ('"PBHOST=192.0.2.7:3500"', "192.0.2.7", 3500),
        ("a\tPBHOST='192.0.2.7:3500'\r\n", "192.0.2.7", 3500),
    ],
)
def test_pbhost_is_found_whatever_stands_around_it(line: str, host: str, port: int) -> None:
    assert find_pbhost(line) == Endpoint(host, port)


def test_a_word_that_only_ends_in_pbhost_is_another_word() -> None:
    assert find_pbhost("OLDPBHOST=192.0.2.7:3500 x:PBHOST=192.0.2.8:3500") is None


def test_the_last_one_wins_as_in_the_kernel() -> None:
    line = "PBHOST=192.0.2.1:1 PBTOKEN=old PBHOST=192.0.2.2:2 PBTOKEN=new"

    assert find_pbhost(line) == Endpoint("192.0.2.2", 2)
    assert find_token(line) == "new"


def test_a_malformed_one_is_passed_over() -> None:
    assert find_pbhost("PBHOST=192.0.2.1:1 PBHOST=192.0.2.2") == Endpoint("192.0.2.1", 1)


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":3500",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.256:1",
        "1.2.3:4",
        "2001:db8::1:3500",
        "[192.0.2.1]:3500",
        "[]:1",
        "[::1]",
        "-h:1",
        "a b:1",
        "a/b:1",
        "a;reboot:1",
        "h:１",
    ],
)
def test_what_is_no_endpoint_is_refused_with_the_accepted_forms(value: str) -> None:
    with pytest.raises(BootCommandError, match=r"\[2001:db8::1\]:3500"):
        Endpoint.parse(value)


def test_the_log_line_of_a_real_host_names_no_endpoint() -> None:
    """ESXi 3.5 U4 and 4 log that they look for PBHOST, without its value."""
    line = "Apr 23 05:33:16 vmkernel: sysboot: Getting 'PBHOST' parameter from kernel boot line"

    assert find_pbhost(line) is None


def test_kernel_words_are_found_again() -> None:
    for host in ("192.0.2.7", "midwife", "2001:db8::7"):
        line = "ro " + kernel_words(Endpoint(host, 3500), "t0k_en-~.") + " quiet"
        assert find_pbhost(line) == Endpoint(host, 3500)
        assert find_token(line) == "t0k_en-~."
    assert kernel_words(Endpoint("192.0.2.7", 1)) == "PBHOST=192.0.2.7:1"


@pytest.mark.parametrize("token", ["a b", "a\nkernel=x", "ä", "a,b", "x" * 129])
def test_a_token_that_would_be_taken_apart_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(BootCommandError) as caught:
        kernel_words(Endpoint("192.0.2.7", 1), token)
    assert token not in str(caught.value)


def test_a_host_with_blanks_never_reaches_the_kernel_line() -> None:
    with pytest.raises(BootCommandError):
        kernel_words(Endpoint("192.0.2.7 init=/bin/sh", 1), "t")


def test_a_line_too_long_names_its_longest_words_and_keeps_their_values() -> None:
    line = "ks=http://" + "k" * 900 + " PBTOKEN=" + "s3cret" * 20 + " ro quiet"

    with pytest.raises(BootCommandError) as caught:
        check_length(line)

    text = str(caught.value)
    assert "ESXi takes 1024" in text
    assert f"{len(line)} bytes" in text
    assert "ks (910), PBTOKEN (128), quiet (5)" in text
    assert "s3cret" not in text
    check_length(line, bootcmd.LINUX)


def test_the_limit_itself_still_fits() -> None:
    check_length("x" * 1024)
    with pytest.raises(BootCommandError):
        check_length("x" * 1023 + "é")  # bytes are counted, not characters


@given(st.text())
def test_any_text_gives_an_endpoint_that_can_be_written_or_none(text: str) -> None:
    find_word(text, "BOOTIF")
    for candidate in (text, "PBHOST=" + text):
        found = find_pbhost(candidate)
        if found is not None:
            assert find_pbhost(kernel_words(found, find_token(text))) == found


@given(st.from_regex(r"(\[[0-9a-f:]{2,20}\]|[a-z0-9.-]{1,20}):[0-9]{1,6}", fullmatch=True))
def test_every_endpoint_survives_writing_and_reading(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except BootCommandError:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint
