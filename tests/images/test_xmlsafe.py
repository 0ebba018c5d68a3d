"""XML of strangers: what is dangerous is refused before it costs anything."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.images.errors import FormatError
from midwife.images.xmlsafe import MAX_ELEMENTS, parse_xml


def refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        parse_xml(data, "profile.xml")
    assert str(caught.value).startswith("profile.xml: ")


def test_comments_and_instructions_are_left_out() -> None:
    root = parse_xml(b'\n <?xml version="1.0"?><a><!-- b --><?pi x?>te<!-- in the middle -->xt<c/></a>', "x")
    assert [root.text, [child.tag for child in root]] == ["text", ["c"]]


def test_other_encodings() -> None:
    for encoding in ("utf-16", "iso-8859-1", "utf-8-sig"):
        declared = encoding.removesuffix("-sig")
        data = f'<?xml version="1.0" encoding="{declared}"?><a>é</a>'.encode(encoding)
        assert parse_xml(data, "x").text == "é"


def test_entities_that_would_fill_the_memory() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    document = f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><x a="&l9;">&l9;</x>'
    refused(document.encode(), "document type")
    refused(document.encode("utf-16"), "document type|amplification|readable")


def test_a_dtd_from_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0")
    refused(f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]><x>&e;</x>'.encode(), "document type")
    refused(f'<!DOCTYPE x SYSTEM "{secret.as_uri()}"><x/>'.encode(), "document type")
    refused(
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]><x>&e;</x>'.encode("utf-16"), "document type"
    )


def test_too_deep_too_many_too_long() -> None:
    refused(b"<a>" * 100_000 + b"</a>" * 100_000, "depth|elements")
    refused(b"<a>" * 1_000 + b"</a>" * 1_000, "depth")
    refused(b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>", "elements")
    refused(b"<a " + b" ".join(b'a%d=""' % n for n in range(MAX_ELEMENTS)) + b"/>", "attributes")
    with pytest.raises(FormatError, match="bytes of XML"):
        parse_xml(b"<a>long</a>", "x", limit=10)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"<a>\0</a>", b"<a>&#0;</a>", b"<a>&#xD800;</a>", b"<a>&nothing;</a>", b"<a", b"<a></b>", b"text",
     b'<?xml version="1.0" encoding="nothing"?><a/>', b"<a>\xff</a>", b"<a/><b/>", b"<a b='1' b='2'/>"],
)  # fmt: skip
def test_what_is_no_xml(data: bytes) -> None:
    refused(data, "not readable as XML")


@given(
    st.one_of(st.binary(max_size=200), st.text(alphabet="<>/&;#x!?[]=\"' ab-\n", max_size=60).map(str.encode))
)
def test_any_bytes_give_an_element_or_a_format_error(data: bytes) -> None:
    try:
        tag = parse_xml(data, "x").tag
    except FormatError as error:
        tag = str(error)
    assert tag
    assert "\n" not in tag
