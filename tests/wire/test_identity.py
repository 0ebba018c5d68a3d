"""Names of machines: every usual notation, both byte orders, and the values that name nobody."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.wire.identity import (
    InvalidIdentity,
    clean_hostname,
    clean_serial,
    dashed_mac,
    is_mac,
    parse_mac,
    parse_uuid,
    swap_uuid,
)

MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))


@pytest.mark.parametrize(
    "text",
    [
        "52:54:00:12:34:56",
        "52-54-00-12-34-56",
        "5254.0012.3456",
        "525400123456",
        " 52:54:00:12:34:56\n",
        "01-52-54-00-12-34-56",
        "52:54:00:AB:CD:EF",
    ],
)
def test_mac_addresses_in_every_usual_notation(text: str) -> None:
    assert parse_mac(text) in ("52:54:00:12:34:56", "52:54:00:ab:cd:ef")


def test_the_hardware_type_is_not_taken_for_a_byte() -> None:
    assert parse_mac("01-00-5e-00-00-01") == "01:00:5e:00:00:01"
    assert parse_mac("01-01-00-5e-00-00-01") == "01:00:5e:00:00:01"


@given(MACS)
def test_the_name_of_a_file_leads_back_to_the_card(mac: str) -> None:
    assert parse_mac(dashed_mac(mac)) == parse_mac(mac.upper()) == mac


@given(st.text(max_size=30))
def test_any_text_is_a_mac_address_or_refused_with_the_form(text: str) -> None:
    assert is_mac(text) is (parsed(parse_mac, text) is not None)
    if not is_mac(text):
        with pytest.raises(InvalidIdentity, match="write it as 52:54:00:12:34:56"):
            parse_mac(text)


def parsed(parse, text: str) -> str | None:
    with contextlib.suppress(InvalidIdentity):
        return str(parse(text))
    return None


@given(st.text(max_size=45) | st.text("0123456789abcdefABCDEF-{}_ \u0664", min_size=30, max_size=40))
def test_any_text_is_a_uuid_a_dummy_or_refused(text: str) -> None:
    value = parsed(parse_uuid, text)
    if value:
        assert parse_uuid(value) == value
        assert value.replace("-", "") == text.strip().strip("{}").replace("-", "").lower()


@given(st.uuids())
def test_the_other_byte_order_is_its_own_inverse(uuid) -> None:
    assert swap_uuid(swap_uuid(str(uuid))) == str(uuid)
    assert swap_uuid("") == ""


def test_byte_orders_as_seen() -> None:
    """PXELINUX 6.04 asked for the second name on a machine whose dmidecode printed the first."""
    assert swap_uuid("11223344-5566-7788-99aa-bbccddeeff00") == "44332211-6655-8877-99aa-bbccddeeff00"
    assert parse_uuid("{11223344-5566-7788-99AA-BBCCDDEEFF00}") == "11223344-5566-7788-99aa-bbccddeeff00"
    for junk in ("1_122334455667788_99aabbccddeeff00", "11223344-5566-7788-99aa-bbccddeeff0\u0660"):
        with pytest.raises(InvalidIdentity):
            parse_uuid(junk)


@pytest.mark.parametrize(
    "text",
    ["", "  ", "To Be Filled By O.E.M.", "Default string", "0000000000", "None", "System Serial Number",
     "........", "0 0 0", "XXXXXXXXXX", "Not  Specified", "123456789"],
)  # fmt: skip
def test_what_vendors_leave_in_place_of_a_serial_number_names_nobody(text: str) -> None:
    assert clean_serial(text) == ""


def test_serial_numbers_stay_as_they_are() -> None:
    assert clean_serial(" VMware-56 4d  12 ") == "VMware-56 4d 12"
    assert clean_serial("7XK0X0") == "7XK0X0"


@pytest.mark.parametrize(
    "text",
    [
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
    ],
)
def test_dummy_uuids_name_nobody(text: str) -> None:
    assert parse_uuid(text) == ""


@pytest.mark.parametrize(
    ("text", "name"),
    [("esx-01.lab.example", "esx-01.lab.example"), ("a", "a"), ("", ""), ("x; reboot", ""), ("$(id)", ""),
     ("a\nb", ""), ("-rf", ""), ("é", ""), ("a" * 300, "")],
)  # fmt: skip
def test_a_host_name_is_one_or_nothing(text: str, name: str) -> None:
    assert clean_hostname(text) == name
