"""What hosts report of their images, in every form that esxcli has."""

import csv
import io
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.images.errors import FormatError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.profile.compare import compare
from midwife.images.profile.hostvibs import parse_vib_list
from tests.images.profile.miniature import base, package, resolved, tools

TABLE_90 = """\
[root@esx-01:~] esxcli software vib list
Name         Version                               Vendor  Acceptance Level  Install Date  Platforms
-----------  ------------------------------------  ------  ----------------  ------------  ---------
lpfc         900.14.4.390.14-36vmw.900.0.24755229  VMW     VMwareCertified   2025-12-06    host
esx-base     9.0.0-0.24755229                      VMware  VMwareCertified   2025-12-06    host
esx-xserver  9.0.0-0.24755229                      VMware  VMwareCertified   2025-12-06    host
tools-light  13.0.0.24696409-24755229              VMware  VMwareCertified   2025-12-06    host
[root@esx-01:~]
"""
TABLE_60 = """\
Name         Version             Vendor           Acceptance Level    Install Date
-----------  ------------------  ---------------  ------------------  ------------
tools-light  6.0.0-1.26.3380124  VMware           VMwareCertified     2016-01-16
hp-ams       600.10.1.0-31       Hewlett Packard  PartnerSupported    -
net55-r8168  8.045a-napi         Realtek          CommunitySupported  2018-04-16
"""
VIB_GET = """\
Realtek_bootbank_net55-r8168_8.045a-napi
   Name: net55-r8168
   Version: 8.045a-napi
   Type: bootbank
   Vendor: Realtek
   Acceptance Level: CommunitySupported
   Summary: Driver for Realtek 8111/8168
   Description: Recent driver.
      Name: not another one
   ReferenceURLs: kb|https://example.com/wiki
   Depends: vmkapi_2_2_0_0, com.vmware.driverAPI-9.2.2.0
   Payloads: net55-r8
VMware_locker_tools-light_6.0.0-1.26.3380124
   Name: tools-light
   Version: 6.0.0-1.26.3380124
   Type: locker
   Vendor: VMware
   Acceptance Level: VMwareCertified
"""
RECORDS = [
    {
        "AcceptanceLevel": "VMwareCertified",
        "CreationDate": "2024-07-30",
        "ID": "VMware_bootbank_esx-base_8.0.3-0.35.24280767",
        "InstallDate": "2024-12-21",
        "Name": "esx-base",
        "Platforms": ["host"],
        "Status": "",
        "Vendor": "VMware",
        "Version": "8.0.3-0.35.24280767",
    },
    {
        "AcceptanceLevel": "VMwareCertified",
        "CreationDate": "2024-07-30",
        "ID": "VMware_locker_tools-light_12.4.0-24280767",
        "InstallDate": "2024-12-21",
        "Name": "tools-light",
        "Platforms": ["host"],
        "Status": "",
        "Vendor": "VMware",
        "Version": "12.4.0-24280767",
    },
]


def as_json() -> str:
    return json.dumps(RECORDS).replace("/", "\\/")


def as_csv() -> str:
    """A comma ends each line, and each list in it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=",\n")
    writer.writerow(RECORDS[0])
    for record in RECORDS:
        writer.writerow(
            "".join(f"{one}," for one in cell) if isinstance(cell, list) else cell for cell in record.values()
        )
    return out.getvalue()


def as_xml() -> str:
    def field(name: str, value: object) -> str:
        if isinstance(value, list):
            inner = '<list type="string">' + "".join(f"<string>{one}</string>" for one in value) + "</list>"
        else:
            inner = f"<string>{value}</string>"
        return f'<field name="{name}">{inner}</field>'

    structures = "".join(
        f'<structure typeName="VIBExt">{"".join(field(*item) for item in record.items())}</structure>'
        for record in RECORDS
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<output xmlns="http://www.vmware.com/Products/ESX/5.0/esxcli">'
        f'<root><list type="structure">{structures}</list></root></output>\n'
    )


def as_keyvalue() -> str:
    return "\n".join(
        f"structure[{number}].VIBExt.{key}.string={value if isinstance(value, str) else ','.join(value)}"
        for number, record in enumerate(RECORDS)
        for key, value in record.items()
    )


def test_the_table_of_90_with_the_prompts_around_it() -> None:
    host = parse_vib_list(TABLE_90, name="esx-01")
    assert sorted(one.name for one in host.packages.values()) == [
        "esx-base",
        "esx-xserver",
        "lpfc",
        "tools-light",
    ]
    lpfc = next(one for one in host.packages.values() if one.name == "lpfc")
    assert (lpfc.version, lpfc.vendor, lpfc.acceptance_level) == (
        "900.14.4.390.14-36vmw.900.0.24755229",
        "VMW",
        AcceptanceLevel.CERTIFIED,
    )
    assert host.profile.name == "esx-01"


def test_the_table_of_60_with_blanks_in_a_vendors_name() -> None:
    host = parse_vib_list(TABLE_60)
    assert {one.vendor for one in host.packages.values()} == {"VMware", "Hewlett Packard", "Realtek"}
    assert host.profile.acceptance_level is AcceptanceLevel.COMMUNITY
    assert (
        parse_vib_list(TABLE_60, level=AcceptanceLevel.PARTNER).profile.acceptance_level
        is AcceptanceLevel.PARTNER
    )


def test_a_table_that_moved_when_it_was_copied() -> None:
    moved = TABLE_60.replace("tools-light  6", "   tools-light  6").replace(
        "\nhp-ams       6", "\n hp-ams  6"
    )
    assert parse_vib_list(moved).packages == parse_vib_list(TABLE_60).packages


def test_a_list_copied_from_a_terminal_with_carriage_returns() -> None:
    assert parse_vib_list(TABLE_90.replace("\n", "\r\n")).packages == parse_vib_list(TABLE_90).packages


@pytest.mark.parametrize("form", [as_json, as_csv, as_xml, as_keyvalue])
def test_the_formatters_tell_the_whole_id(form: Callable[[], str]) -> None:
    assert list(parse_vib_list(form()).packages) == [record["ID"] for record in RECORDS]


def test_vib_get_tells_the_type() -> None:
    assert list(parse_vib_list(VIB_GET).packages) == [
        "Realtek_bootbank_net55-r8168_8.045a-napi",
        "VMware_locker_tools-light_6.0.0-1.26.3380124",
    ]


def test_a_host_that_runs_the_profile_is_equal_to_it() -> None:
    """The table has no types: the locker VIB finds its own by name."""
    lines = TABLE_60.splitlines()[:2]
    for one in (base(), tools(), package("nvmxnet3")):
        lines.append(
            f"{one.name:<11}  {one.version:<18}  {one.vendor:<15}  {'VMwareCertified':<18}  2024-01-01"
        )
    host = parse_vib_list("\n".join(lines), level=AcceptanceLevel.PARTNER)
    diff = compare(resolved([base(), tools(), package("nvmxnet3")]), host)
    assert diff.equal, diff
    assert compare(host, resolved([base(), tools(), package("nvmxnet3")])).equal
    older = resolved([base("8.0.2-1"), tools(), package("nvmxnet3"), package("extra")])
    diff = compare(older, host)
    assert diff.upgrade_from_ref == (base().id,)
    assert diff.only_in_ref == (package("extra").id,)


def test_what_is_listed_for_dpus_only_is_not_on_the_host() -> None:
    text = TABLE_90.replace("2025-12-06    host\nesx-xs", "2025-12-06    vmdpu0\nesx-xs")
    assert "esx-base" not in {one.name for one in parse_vib_list(text).packages.values()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no list that esxcli prints"),
        ("Error: Unable to find requested formatter: json", "no list that esxcli prints"),
        ("[]", "no VIBs in it"),
        ("[1]", "a list of objects was expected"),
        ('[{"Name": "x"}]', "VIB 1 of the list has no usable version"),
        ("[" * 100_000, "json of esxcli"),
        ("<output><oops></output>", "xml of esxcli"),
        (TABLE_60.replace("6.0.0-1.26.3380124", "6.0.0-1-3380124   "), "one dash at most"),
        (TABLE_60.replace("  Install Date\n", "\n"), "5 columns of dashes under 4 heads"),
        (TABLE_60.replace("hp-ams  ", "hp\x1bams  "), "has no usable name"),
    ],
)
def test_what_is_no_list(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_vib_list(text)


@given(
    st.one_of(st.text(), st.sampled_from([TABLE_90, VIB_GET, as_json(), as_csv(), as_xml(), as_keyvalue()])),
    st.data(),
)
def test_any_text_gives_a_profile_or_an_error(text: str, data: st.DataObject) -> None:
    if text:
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 8)))
        text = text[:start] + data.draw(st.text(max_size=4)) + text[end:]
    try:
        host = parse_vib_list(text)
    except FormatError:
        return
    assert compare(host, host).equal
