"""Bulletins: real ones, both ways to list VIBs, components, and what we write we read again."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from midwife.images.depot.depot import Bulletin, ComponentSpec
from midwife.images.depot.formats.bulletin import parse_bulletin, write_bulletin
from midwife.images.errors import FormatError
from midwife.images.objects.package import SoftwarePlatform
from tests.images.depot.texts import DATES, NAMES, TEXTS

REAL = Path(__file__).parents[2] / "data"
THGPIO = """<bulletin><id>thgpio_1.0-0.00001</id><vendor>Tom Hebel</vendor>
<summary>thgpio: Native GPIO Driver</summary>
<severity>general</severity><category>enhancement</category><urgency>important</urgency>
<releaseType>extension</releaseType><description>Native GPIO Driver module for vmkernel</description>
<kbUrl>http://kb.example.com/kb/example.html</kbUrl><contact>thebel@vmware.com</contact>
<componentNameSpec name="thgpio" uiString="Native GPIO Driver for vmkernel"/>
<componentVersionSpec uiString="0.1.0" version="1.0-0.00001"/><releaseDate>2020-10-30T10:42:17+00:00</releaseDate>
<platforms><softwarePlatform locale="" productLineID="embeddedEsx" version="7.0.1"/></platforms>
<vibList><vib><vibVersion>1.4.5</vibVersion><vibID>THX_bootbank_thgpio_0.1.0-1OEM.701.1.0.40650718</vibID></vib>
</vibList></bulletin>"""


def test_a_component_of_7_0() -> None:
    bulletin = parse_bulletin(THGPIO.encode())
    assert bulletin.is_component
    assert bulletin == Bulletin(
        id="thgpio_1.0-0.00001",
        vendor="Tom Hebel",
        summary="thgpio: Native GPIO Driver",
        severity="general",
        category="enhancement",
        urgency="important",
        release_type="extension",
        description="Native GPIO Driver module for vmkernel",
        kb_url="http://kb.example.com/kb/example.html",
        contact="thebel@vmware.com",
        release_date=datetime(2020, 10, 30, 10, 42, 17, tzinfo=UTC),
        platforms=(SoftwarePlatform("embeddedEsx", "7.0.1", ""),),
        vibs=("THX_bootbank_thgpio_0.1.0-1OEM.701.1.0.40650718",),
        component_name=ComponentSpec("thgpio", "Native GPIO Driver for vmkernel"),
        component_version=ComponentSpec("1.0-0.00001", "0.1.0"),
    )


def test_a_pretty_printed_one_written_by_hand() -> None:
    bulletin = parse_bulletin((REAL / "descriptors" / "vdvs-bulletin.xml").read_bytes())
    assert (bulletin.id, bulletin.vibs) == ("VDVS_driver-0.21", ("vmware-esx-vmdkops-0.21.ddbf56b",))
    assert bulletin.platforms == (SoftwarePlatform("embeddedEsx", "6.*", ""),)
    assert not bulletin.is_component
    assert bulletin.release_date == datetime(2018, 1, 31, 23, 47, 36, 688572, tzinfo=UTC)


def test_only_the_id_is_needed() -> None:
    assert parse_bulletin(b"<bulletin><id>x</id></bulletin>") == Bulletin("x")
    with pytest.raises(FormatError, match="here: the bulletin has no id"):
        parse_bulletin(b"<bulletin/>", "here")
    with pytest.raises(FormatError, match="here: the root element is vib"):
        parse_bulletin(b"<vib/>", "here")


def test_the_elements_stand_in_the_order_of_the_real_ones() -> None:
    ours = etree.fromstring(write_bulletin(parse_bulletin(THGPIO.encode())))
    assert [child.tag for child in ours] == [child.tag for child in etree.fromstring(THGPIO)]
    assert ours.findtext("vibList/vibID") == "THX_bootbank_thgpio_0.1.0-1OEM.701.1.0.40650718"


SPECS = st.none() | st.builds(ComponentSpec, NAMES, TEXTS)
BULLETINS = st.builds(
    Bulletin,
    id=NAMES,
    **dict.fromkeys(
        ("vendor", "summary", "category", "urgency", "release_type", "description", "kb_url", "contact"),
        TEXTS,
    ),
    severity=NAMES,
    release_date=st.none() | DATES,
    platforms=st.lists(st.builds(SoftwarePlatform, NAMES, TEXTS, TEXTS), max_size=2).map(tuple),
    vibs=st.lists(NAMES, unique=True, max_size=3).map(tuple),
    component_name=SPECS,
    component_version=SPECS,
)


@given(BULLETINS)
def test_what_is_written_is_what_is_read(bulletin: Bulletin) -> None:
    assert parse_bulletin(write_bulletin(bulletin)) == bulletin


@given(st.binary() | st.text().map(lambda text: THGPIO.replace("general", text).encode(errors="replace")))
def test_any_bytes_are_a_bulletin_or_an_error(data: bytes) -> None:
    with suppress(FormatError):
        assert parse_bulletin(data).id
