"""The index files of a depot, and where what they say leads to: in a zip, and on a web server."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.images.depot.formats.index import (
    MetadataRef,
    VendorRef,
    index_address,
    parse_index,
    parse_vendor_index,
    resolve,
    vendor_index_address,
    write_index,
    write_vendor_index,
)
from midwife.images.errors import FormatError
from tests.images.depot.texts import NAMES, TEXTS

INDEX = b"""<vendorList>
  <vendor>
    <name>virtuallyGhetto</name>
    <code>Unknown</code>
    <indexfile>vendor-index.xml</indexfile>
    <patchUrl></patchUrl>
    <relativePath></relativePath>
    <content>
      <name>VMware ESX</name>
      <type>http://www.vmware.com/depotmanagement/esx</type>
    </content>
  </vendor>
</vendorList>
"""
VENDOR_INDEX = b"""<metaList>
  <metadata>
    <productId>embeddedEsx</productId>
    <version>5.*</version>
    <locale></locale>
    <url>metadata.zip</url>
    <channelName>default</channelName>
  </metadata>
</metaList>
"""
MAIN = "https://depot.example/main"
WINDOWS = "C:/depot/metadata.zip"


def test_the_index_of_a_real_bundle_is_read_and_written_to_the_byte() -> None:
    vendors = parse_index(INDEX)
    assert vendors == (VendorRef("virtuallyGhetto", "Unknown"),)
    assert write_index(vendors).replace(b"/>", b">") == INDEX.replace(b"></patchUrl>", b">").replace(
        b"></relativePath>", b">"
    )


def test_the_vendor_index_of_a_real_bundle() -> None:
    refs = parse_vendor_index(VENDOR_INDEX)
    assert refs == (MetadataRef("metadata.zip", "embeddedEsx", "5.*", "", ("default",)),)
    assert write_vendor_index(refs) == VENDOR_INDEX.replace(b"<locale></locale>", b"<locale/>")


def test_several_versions_and_channels_of_one_metadata_zip() -> None:
    channels = b"<channelName>a</channelName><channelName>b</channelName>"
    node = b"<metadata><version>%b</version><url>m.zip</url>" + channels + b"</metadata>"
    data = (
        b"<metaList>"
        + node % b"6.7.0"
        + node % b"7.0.0"
        + b"<metadata/><notification><url>n.zip</url></notification>"
    )
    refs = parse_vendor_index(data + b"</metaList>")
    assert [(ref.url, ref.version) for ref in refs] == [("m.zip", "6.7.0"), ("m.zip", "7.0.0")]
    assert refs[0].channels == ("a", "b")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"<metaList/>", "index of one vendor"),
        (b"<html/>", "root element is html"),
        (b"<vendorList/>", "no vendor"),
        (b"not xml", "not readable as XML"),
    ],
)
def test_what_is_no_index_says_why(data: bytes, told: str) -> None:
    with pytest.raises(FormatError, match=told):
        parse_index(data)


@pytest.mark.parametrize(
    ("address", "index"),
    [
        (f"{MAIN}/vmw-depot-index.xml", f"{MAIN}/vmw-depot-index.xml"),
        (f"{MAIN}/INDEX.XML", f"{MAIN}/INDEX.XML"),
        ("http://vibsdepot.example", "http://vibsdepot.example/index.xml"),
        (f"{MAIN}/", f"{MAIN}/index.xml"),
        (f"{MAIN}?token=1", f"{MAIN}/index.xml?token=1"),
    ],
)
def test_the_address_of_a_depot(address: str, index: str) -> None:
    assert index_address(address) == index


@pytest.mark.parametrize(
    ("relative_path", "where"),
    [
        ("", f"{MAIN}/vendor-index.xml"),
        ("esx/vmw", f"{MAIN}/esx/vmw/vendor-index.xml"),
        ("esx/vmw/", f"{MAIN}/esx/vmw/vendor-index.xml"),
        ("esx\\vmw\\", f"{MAIN}/esx/vmw/vendor-index.xml"),
        ("https://other.example/vmw/", "https://other.example/vmw/vendor-index.xml"),
    ],
)
def test_where_the_index_of_a_vendor_is(relative_path: str, where: str) -> None:
    vendor = VendorRef(relative_path=relative_path)
    assert vendor_index_address(f"{MAIN}/vmw-depot-index.xml", vendor) == where


@pytest.mark.parametrize(
    ("base", "reference", "leads_to"),
    [
        ("metadata.zip", "vib20/x/x.vib", "vib20/x/x.vib"),
        ("esx/metadata.zip", "vib20/x.vib", "esx/vib20/x.vib"),
        ("esx/metadata.zip", "../vib20/x.vib", "vib20/x.vib"),
        ("esx/metadata.zip", "/vib20/x.vib", "vib20/x.vib"),
        ("esx/metadata.zip", "vib20\\x\\x.vib", "esx/vib20/x/x.vib"),
        ("index.xml", "Lab metadata #1.zip", "Lab metadata #1.zip"),
        (f"{MAIN}/esx/m.zip", "vib20/x.vib", f"{MAIN}/esx/vib20/x.vib"),
        (f"{MAIN}/esx/m.zip?token=1", "../vib20/x.vib", f"{MAIN}/vib20/x.vib"),
        (f"{MAIN}/m.zip", "http://mirror.example/x.vib", "http://mirror.example/x.vib"),
    ],
)
def test_where_references_lead_to(base: str, reference: str, leads_to: str) -> None:
    assert resolve(base, reference) == leads_to


@pytest.mark.parametrize(
    ("base", "reference", "told"),
    [
        ("metadata.zip", "../../etc/passwd", "out of the zip"),
        ("metadata.zip", "a/../../b", "out of the zip"),
        ("metadata.zip", "https://evil.example/x.vib", "leads elsewhere"),
        ("metadata.zip", WINDOWS, "leads elsewhere"),
        ("metadata.zip", " ", "empty"),
        (f"{MAIN}/m.zip", "file:///etc/passwd", "leads elsewhere"),
        (f"{MAIN}/m.zip", "//[::1/x", "no address"),
    ],
)
def test_what_is_not_followed(base: str, reference: str, told: str) -> None:
    with pytest.raises(FormatError, match=told):
        resolve(base, reference)


@given(
    st.lists(st.builds(VendorRef, NAMES, TEXTS, NAMES, TEXTS, TEXTS), min_size=1, max_size=3).map(tuple),
    st.lists(
        st.builds(MetadataRef, NAMES, TEXTS, TEXTS, TEXTS, st.lists(NAMES, max_size=2).map(tuple)), max_size=3
    ).map(tuple),
)
def test_what_is_written_is_what_is_read(
    vendors: tuple[VendorRef, ...], refs: tuple[MetadataRef, ...]
) -> None:
    assert parse_index(write_index(vendors)) == vendors
    assert parse_vendor_index(write_vendor_index(refs)) == refs


@given(st.text(), st.sampled_from(["metadata.zip", "a/b/m.zip", f"{MAIN}/m.zip"]))
def test_no_reference_leads_out_of_a_zip_or_to_another_kind_of_address(reference: str, base: str) -> None:
    try:
        found = resolve(base, reference)
    except FormatError:
        return
    if "://" in base:
        assert found.startswith(("http://", "https://"))
    else:
        assert not found.startswith("/")
        assert ".." not in found.split("/")


@given(
    st.binary()
    | st.sampled_from([INDEX, VENDOR_INDEX]).flatmap(lambda d: st.integers(0, len(d)).map(lambda n: d[:n]))
)
def test_any_bytes_are_an_index_or_an_error(data: bytes) -> None:
    with suppress(FormatError):
        assert parse_index(data)
    with suppress(FormatError):
        assert all(ref.url for ref in parse_vendor_index(data))
