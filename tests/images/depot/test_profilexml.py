"""Image profiles in XML: the real form is read, hand-made ones are forgiven, and what we write we read again."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from midwife.images.depot.formats.profilexml import parse_profile, write_profile
from midwife.images.errors import FormatError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.profile import ImageProfile, ProfileVib
from tests.images.depot.texts import DATES, NAMES, TEXTS

ENIC = "VMW_bootbank_net-enic_2.1.2.38-2vmw.670.0.0.8169922"
GA = f"""<imageprofile><name>ESXi-6.7.0-8169922-standard</name><creator>VMware, Inc.</creator>
<profileID>57ffe944378b11e8ae0c0200e5cbd056</profileID>
<creationtime>2018-04-03T22:07:05.116999+00:00</creationtime><modifiedtime>2018-04-03T22:07:05</modifiedtime>
<serialno>136</serialno><description>The general availability release</description><readonly>true</readonly>
<viblist><vib><vib-id>VMware_locker_tools-light_10.2.0</vib-id><boot>false</boot></vib>
<vib><vib-id>{ENIC}</vib-id><payloads><payload payload-name="net-enic">net_enic.v00</payload></payloads></vib>
</viblist><acceptancelevel>certified</acceptancelevel></imageprofile>"""


def test_the_profile_of_a_release() -> None:
    profile = parse_profile(GA.encode())
    moment = datetime(2018, 4, 3, 22, 7, 5, tzinfo=UTC)
    assert profile == ImageProfile(
        name="ESXi-6.7.0-8169922-standard",
        vendor="VMware, Inc.",
        author="VMware, Inc.",
        description="The general availability release",
        guid="57ffe944378b11e8ae0c0200e5cbd056",
        acceptance_level=AcceptanceLevel.CERTIFIED,
        creation_time=moment.replace(microsecond=116999),
        modified_time=moment,
        read_only=True,
        serial=136,
        vibs=(
            ProfileVib(ENIC, payloads={"net-enic": "net_enic.v00"}),
            ProfileVib("VMware_locker_tools-light_10.2.0", boot=False),
        ),
    )


def test_what_is_missing_has_a_default() -> None:
    profile = parse_profile(b"<imageprofile><name> lab\n</name></imageprofile>")
    assert profile == ImageProfile("lab", "unknown", author="unknown")
    odd = GA.replace("2018-04-03T22:07:05.116999+00:00", "yesterday").replace("136", "9" * 5000)
    assert (parse_profile(odd.encode()).creation_time, parse_profile(odd.encode()).serial) == (None, 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("imageprofile>", "vib>"), "root element is vib"),
        (("ESXi-6.7.0-8169922-standard", "x" * 81), "81 characters"),
        (("ESXi-6.7.0-8169922-standard", " "), "name is empty"),
        ((">certified<", ">platinum<"), "platinum"),
        ((ENIC, ""), "no vib-id"),
        (("</viblist>", ""), "not readable as XML"),
    ],
)
def test_what_cannot_be_a_profile_says_why(change: tuple[str, str], told: str) -> None:
    with pytest.raises(FormatError, match=told) as refused:
        parse_profile(GA.replace(*change).encode(), "depot.zip: profiles/x")
    assert str(refused.value).startswith("depot.zip: profiles/x: ")


PROFILES = st.builds(
    ImageProfile,
    name=NAMES,
    vendor=NAMES,
    description=TEXTS,
    guid=st.text("0123456789abcdef", max_size=32),
    acceptance_level=st.sampled_from(AcceptanceLevel),
    creation_time=st.none() | DATES,
    modified_time=st.none() | DATES,
    read_only=st.booleans(),
    serial=st.integers(0, 999_999_999),
    vibs=st.dictionaries(
        NAMES, st.tuples(st.booleans(), st.dictionaries(NAMES, NAMES, max_size=3)), max_size=4
    ).map(lambda vibs: tuple(ProfileVib(key, *vibs[key]) for key in sorted(vibs))),
    signature_check=st.booleans(),
)


@given(PROFILES)
def test_what_is_written_is_what_is_read(profile: ImageProfile) -> None:
    written = write_profile(profile, payloads=True)
    assert parse_profile(written) == replace(profile, author=profile.vendor)
    assert write_profile(parse_profile(written), payloads=True) == written
    in_a_depot = parse_profile(write_profile(profile))
    assert in_a_depot.vib_list == profile.vib_list
    assert not any(vib.payloads for vib in in_a_depot.vibs)


def test_another_reader_finds_the_elements_of_the_real_one() -> None:
    profile = replace(parse_profile(GA.encode()), signature_check=False)
    real, ours = etree.fromstring(GA), etree.fromstring(write_profile(profile, payloads=True))
    for root in (real, ours):
        for element in root.iter():
            element.tail = (element.text or "").strip() and None
    assert [child.tag for child in ours if isinstance(child.tag, str)] == [child.tag for child in real]
    assert ours.findtext("viblist/vib/vib-id") == ENIC
    assert ours.find("viblist/vib/payloads/payload").attrib == {"payload-name": "net-enic"}  # type: ignore[union-attr]
    assert b"no signature check" in etree.tostring(ours), "a comment, which nobody else reads"
    assert not parse_profile(write_profile(profile)).signature_check, "but we never forget it"


def test_a_text_that_xml_cannot_hold() -> None:
    with pytest.raises(FormatError, match=r"description.*cannot hold"):
        write_profile(ImageProfile("lab", "Lab", description="bell \a"))


@given(st.binary() | st.text().map(lambda text: GA.replace("136", text).encode(errors="replace")))
def test_any_bytes_are_a_profile_or_an_error(data: bytes) -> None:
    with suppress(FormatError):
        assert parse_profile(data).name
