"""Descriptors: real ones byte for byte, the oddities of other people's, and whatever hypothesis thinks of."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from midwife.images.errors import FormatError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import SoftwareConstraint
from midwife.images.objects.package import HardwarePlatform, Payload, SoftwarePackage, SoftwarePlatform
from midwife.images.objects.version import SoftwareVersion
from midwife.images.vib.descriptor import DepotFields, parse_date, parse_descriptor, write_descriptor
from tests.images.vib.given import DATA, mutations, packages

LEAST = "<name>agent</name><version>1.0-1</version><vendor>Lab</vendor>"


def read(inside: str = "", least: str = LEAST) -> SoftwarePackage:
    return parse_descriptor(f'<vib version="5.0">{least}{inside}</vib>'.encode()).package


def refused(inside: str, reason: str, least: str = LEAST) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        read(inside, least)
    assert str(caught.value).startswith("descriptor.xml: ")


def test_what_is_left_out_has_the_documented_defaults() -> None:
    parsed = parse_descriptor(f"<vib>{LEAST}</vib>".encode())

    assert parsed.package == SoftwarePackage("agent", SoftwareVersion.parse("1.0-1"), "Lab")
    assert parsed.package.id == "Lab_bootbank_agent_1.0-1"
    assert parsed.package.acceptance_level is AcceptanceLevel.COMMUNITY
    assert (parsed.package.maintenance_mode, parsed.package.maintenance_mode_remove) == (False, True)
    assert parsed.warnings == ("descriptor.xml: has no summary and no description and no payloads",)


def test_a_template_written_by_hand() -> None:
    """Pretty printed, comments around the root, elements in another order, no sizes."""
    parsed = parse_descriptor((DATA / "descriptors/vsphere-storage-for-docker.xml").read_bytes(), "docker")

    assert parsed.package.id == "VMWare_bootbank_esx-vmdkops-service_1.0.0-0.0.1"
    assert parsed.package.depends == (SoftwareConstraint.parse("esx-version >= 6.0.0"),)
    assert parsed.package.acceptance_level is AcceptanceLevel.ACCEPTED
    assert parsed.package.description == "Executes VMDK operations requested by an in-the-guest application."
    assert parsed.package.live_install_ok
    assert parsed.warnings == ("docker: payload vmdkops has no size",)


def test_everything_that_a_descriptor_can_say() -> None:
    package = read(
        '<type>locker</type><urls><url key="qq group"> http://a </url></urls><relationships>'
        '<depends><constraint name="a" relation="&gt;=" version="1.0"/><constraint name="b"/></depends>'
        '<provides><provide name="c" version="2-1"/><provide name="d"/></provides>'
        '<compatibleWith><constraint name="e" relation="" version=""/></compatibleWith></relationships>'
        "<software-tags><tag>driver</tag><tag>PCIID ................0c0300</tag></software-tags>"
        '<system-requires><maintenance-mode on-install="true" on-remove="0"/>'
        '<hwplatform vendor="Dell" model="R750"/><hwplatform vendor="HPE"/>'
        '<softwarePlatform version="8.0" locale="" productLineID="esxio"/></system-requires>'
        "<file-list><file>// /etc/x</file><file/></file-list><acceptance-level>signed</acceptance-level>"
        "<overlay>1</overlay><stateless-ready>TRUE</stateless-ready><cimom-restart/><of-tomorrow>x</of-tomorrow>"
        '<payloads><payload name="b" type="boot" size="20" boot-order="10" vfat-name="b.b00" level="9">'
        '<checksum checksum-type="sha-256" verify-process="txt-mle"> AB </checksum></payload></payloads>'
    )

    assert [str(one) for one in (*package.depends, *package.provides, *package.compatible_with)] == [
        "a >= 1.0", "b", "c = 2-1", "d", "e",
    ]  # fmt: skip
    assert [(url.title, url.url) for url in package.reference_urls] == [("qq group", "http://a")]
    assert package.tags == ("driver", "PCIID ................0c0300")
    assert (package.maintenance_mode, package.maintenance_mode_remove) == (True, False)
    assert package.hardware_platforms == (HardwarePlatform("Dell", "R750"), HardwarePlatform("HPE"))
    assert package.software_platforms == (SoftwarePlatform("esxio", "8.0"),)
    assert package.files == ("etc/x",)
    assert package.acceptance_level is AcceptanceLevel.PARTNER
    assert (package.overlay, package.stateless_ready, package.cimom_restart) == (True, True, False)
    assert package.payloads[0] == Payload(
        "b", "boot", 20, package.payloads[0].checksums, 10, "b.b00", (("level", "9"),)
    )  # fmt: skip
    assert [(one.kind, one.process, one.value) for one in package.payloads[0].checksums] == [
        ("sha-256", "txt-mle", "ab")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("inside", "both"),
    [("true", (True, True)), ("0", (False, False)), ("", (False, True))],
)
def test_maintenance_mode_as_a_text_is_for_both(inside: str, both: tuple[bool, bool]) -> None:
    package = read(f"<system-requires><maintenance-mode>{inside}</maintenance-mode></system-requires>")
    assert (package.maintenance_mode, package.maintenance_mode_remove) == both


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2019-03-15T03:12:51.263547+00:00", datetime(2019, 3, 15, 3, 12, 51, 263547, UTC)),
        ("2019-03-15T03:12:51", datetime(2019, 3, 15, 3, 12, 51, 0, UTC)),
        ("2019-03-15 03:12:51.000001Z", datetime(2019, 3, 15, 3, 12, 51, 1, UTC)),
        ("2019-03-15_03:12:51.5-02:30", datetime(2019, 3, 15, 5, 42, 51, 500000, UTC)),
        ("2019-03-15", datetime(2019, 3, 15, tzinfo=UTC)),
    ],
)
def test_dates_as_real_tools_write_them(text: str, moment: datetime) -> None:
    assert parse_date(text, "x") == moment
    assert read(f"<release-date> {text}\n</release-date>").release_date == moment


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2019-13-01T00:00:00", "2019-02-30", "2019-01-01T25:00:00", "0000-01-01", "20190101",
     "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-01:00", "2019-01-01T00:00:00+99:00"],
)  # fmt: skip
def test_what_is_no_date_keeps_no_vib_from_being_used(text: str) -> None:
    parsed = parse_descriptor(f"<vib>{LEAST}<release-date>{text}</release-date></vib>".encode())
    assert parsed.package.release_date is None
    assert any("release-date: " in warning and "is not a date" in warning for warning in parsed.warnings)


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ("<overlay>perhaps</overlay>", "overlay is 'perhaps'"),
        ("<acceptance-level>best</acceptance-level>", "'best' is not an acceptance level"),
        ('<relationships><depends><constraint version="1"/></depends></relationships>', "has no name"),
        ('<relationships><depends><constraint name="a" version="1"/></depends></relationships>', "together"),
        ('<relationships><depends><constraint name="a" relation="=="  version="1"/></depends></relationships>',
         "is no relation"),
        ('<relationships><provides><provide name="a" version="1-2-3"/></provides></relationships>',
         "'1-2-3' is not a version"),
        ("<system-requires><hwplatform/></system-requires>", "hwplatform has no vendor"),
        ('<payloads><payload name="a"/></payloads>', "payload has no type"),
        ('<payloads><payload name="a" type="vgz" size="-1"/></payloads>', "payload a: size '-1'"),
        (f'<payloads><payload name="a" type="vgz" size="{"9" * 9999}"/></payloads>', "is not a number"),
        ('<payloads><payload name="a" type="vgz" boot-order="first"/></payloads>', "boot-order 'first'"),
        ('<payloads><payload name="../a" type="vgz"/></payloads>', "another directory"),
        ('<payloads><payload name="a" vfat-name="../../b" type="vgz"/></payloads>', "another directory"),
        ('<payloads><payload name="a" type="vgz"/><payload name="a" type="tgz"/></payloads>', "two payloads"),
        ('<payloads><payload name="a" type="vgz"><checksum>x</checksum></payload></payloads>',
         "payload a: an element checksum has no checksum-type"),
        ("<type>../boot</type>", "the VIB's id .*another directory"),
        ("<packed-size>much</packed-size>", "packed-size 'much'"),
    ],
)  # fmt: skip
def test_what_is_refused(inside: str, reason: str) -> None:
    refused(inside, reason)


@pytest.mark.parametrize(
    ("least", "reason"),
    [
        ("<name>a</name><version>1</version>", "element vendor is missing"),
        ("<name/><version>1</version><vendor>v</vendor>", "element name is missing or empty"),
        ("<name>a</name><version>1-2-3</version><vendor>v</vendor>", "'1-2-3' is not a version"),
        ("<name>..</name><version>1</version><vendor>v</vendor>", "the VIB's name"),
        ("<name>a</name><version>1/2</version><vendor>v</vendor>", "the VIB's id"),
        ("<name>a&#x9b;31m</name><version>1</version><vendor>v</vendor>", "control characters"),
        (f"<name>{'a' * 300}</name><version>1</version><vendor>v</vendor>", "more than 240 bytes"),
    ],
)
def test_names_that_cannot_be_an_id(least: str, reason: str) -> None:
    refused("", reason, least)


def test_another_document() -> None:
    with pytest.raises(FormatError, match="the root element is bulletin, not vib"):
        parse_descriptor((DATA / "descriptors/vdvs-bulletin.xml").read_bytes())


def test_what_breaks_the_schema_is_read_and_told() -> None:
    long = "usr/lib/" + "x" * 100
    parsed = parse_descriptor(
        f"<vib>{LEAST}<summary/><description/><type>cloud</type><file-list><file>{long}</file></file-list>"
        '<payloads><payload name="sixteen-letters-" type="vxz" size="1" vfat-name="much.toolong"/></payloads>'
        "</vib>".encode()
    )

    assert [warning.removeprefix("descriptor.xml: ")[:40] for warning in parsed.warnings] == [
        "'cloud' is no known type of VIB; it is t",
        "payload sixteen-letters- is of the unkno",
        "payload sixteen-letters-: ESXi wants nam",
        "payload sixteen-letters-: vfat-name much",
        "the path " + long[:31],
    ]
    assert (parsed.package.type, parsed.package.payloads[0].type) == ("cloud", "vxz")


FIELDS = DepotFields("vib20/agent/x.vib", 4711, "ab" * 32)


@settings(max_examples=150)
@given(packages)
def test_what_is_written_is_read_back(package: SoftwarePackage) -> None:
    text = write_descriptor(package)
    again = parse_descriptor(text)

    assert again.package == package
    assert write_descriptor(again.package) == text
    assert (again.relative_path, again.packed_size, again.checksum) == (None, None, None)


@settings(max_examples=50)
@given(packages)
def test_a_depot_says_the_same_of_it_and_three_things_more(package: SoftwarePackage) -> None:
    kept = parse_descriptor(write_descriptor(package, depot=FIELDS))

    assert kept.package == package
    assert (kept.relative_path, kept.packed_size, kept.checksum) == ("vib20/agent/x.vib", 4711, "ab" * 32)


@pytest.mark.parametrize("text", ["\0", "a\x1b[31m", "\ud800", "\uffff"])
def test_what_xml_cannot_hold_is_not_written(text: str) -> None:
    package = SoftwarePackage("agent", SoftwareVersion.parse("1"), "Lab", summary=text)
    with pytest.raises(FormatError, match="cannot be written as XML"):
        write_descriptor(package)


REAL = (DATA / "descriptors/umich-packer.xml").read_bytes()


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=100), mutations(REAL)))
def test_any_bytes_give_a_package_or_a_format_error(data: bytes) -> None:
    try:
        package = parse_descriptor(data).package
    except FormatError as error:
        assert str(error)  # noqa: PT017
    else:
        assert package.name


_NAMES = ["vib", "name", "version", "vendor", "payloads", "payload", "checksum", "depends", "relationships",
          "constraint", "provides", "provide", "system-requires", "maintenance-mode", "hwplatform", "file-list",
          "file", "release-date", "overlay", "installdate", "packed-size", "type", "size"]  # fmt: skip
_texts = st.one_of(
    st.sampled_from(["", "a", "1-2", "true", "-1", "²", "٣", "1" * 30]), st.text("a1-/.:T+ ", max_size=25)
)


@st.composite
def trees(draw: st.DrawFn) -> bytes:
    """Well-formed documents of the right words in the wrong places."""
    root = etree.fromstring(f"<vib>{LEAST}</vib>")
    elements = [root]
    for _ in range(draw(st.integers(0, 8))):
        parent = draw(st.sampled_from(elements))
        element = etree.SubElement(parent, draw(st.sampled_from(_NAMES)))
        element.text = draw(_texts)
        for key in draw(st.lists(st.sampled_from(_NAMES), max_size=3, unique=True)):
            element.set(key, draw(_texts))
        elements.append(element)
    return etree.tostring(root)


@settings(max_examples=150)
@given(trees())
def test_any_tree_gives_a_package_or_a_format_error(data: bytes) -> None:
    try:
        package = parse_descriptor(data).package
    except FormatError:
        return
    assert package.id.startswith("Lab_")
