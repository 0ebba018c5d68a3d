"""Versions compare as ESXi compares them: every vector of the facts, and the laws of a total order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.images.objects.version import SoftwareVersion

VECTORS = [
    ("6.7.0-0.0.8169922", "<", "6.7.0-0.14.8941472"),
    ("6.7.0-0.14.8941472", ">", "6.7.0-0.9.8169922"),
    ("6.5.0-0.0.4564106", "<", "6.7.0-0.0.8169922"),
    ("8.0.3-0.35.24280767", ">", "8.0.2-0.0.22380479"),
    ("8.0.3-0.35.24280767", ">", "8.0.3-0.0.24022510"),
    ("7.0.3-0.50.20036589", ">", "7.0.3-0.5.18825058"),
    ("9.0.0-0100.24813472", ">", "9.0.0-0.24755229"),
    ("9.0.0-0100.24813472", "=", "9.0.0-100.24813472"),
    ("1.2.0.32-2vmw.600.0.0.2494585", ">", "1.2.0.4-2vmw.600.0.0.2494585"),
    ("1.0.1.0-3vmw.700.1.0.15843807", ">", "1.0.1.0-1vmw.670.0.0.8169922"),
    ("1.0.0-12vmw.670.0.0.8169922", ">", "1.0.0-8vmw.670.0.0.8169922"),
    ("1.12-1vmw.800.1.20.64098182", "<", "1.12-1vmw.801.0.0.64098092"),
    ("1.14-7vmw.803.0.95.93415869", ">", "1.14-2vmw.803.0.0.76444229"),
    ("1.10-1vmw.703.0.50.55634242", "<", "2.1-6vmw.670.2.48.39203948"),
    ("1.10-1vmw.703.0.50.55634242", ">", "1.9-1vmw.703.0.50.55634242"),
    ("8.045a-napi", ">", "8.045-napi"),
    ("8.045a-napi", "<", "8.046-napi"),
    ("8.055.00-1", ">", "8.045a-napi"),
    ("9.011.00-10", ">", "9.011.00-9"),
    ("9.011.00-10", ">", "9.007.01-1"),
    ("6.011.00-2vft.510.0.0.799733", ">", "6.011.00-2OEM.510.0.0.799733"),
    ("3.7.13.7.14iov-20vmw.670.0.0.8169922", ">", "3.7.13.7.14-20vmw.670.0.0.8169922"),
    ("3.7.13.7.14iov-20vmw.670.0.0.8169922", "<", "3.7.13.7.15-1vmw.670.0.0.8169922"),
    ("1.78.76.v60.13-1", "<", "1.78.76.13-1"),
    ("10.2.0.7253323-8169922", "<", "10.2.0.7253323-9000000"),
    ("4.0.0-2", "<", "4.0.0-10"),
    ("1.0", "<", "1.0.0"),
    ("1.0.0", "<", "1.0.0-0"),
    ("1.0.0-", "=", "1.0.0"),
    ("1.0", "=", "1.00"),
    ("1.0a", ">", "1.0"),
    ("1.0a", "<", "1.0b"),
    ("1.0a", ">", "1.0A"),
    ("1.a", "<", "1.0"),
    ("1.a", ">", "1"),
    ("", "<", "0"),
    ("2vmw", "<", "12vmw"),
    ("1.0.2.1", "<", "1.0.2rc1"),
]
"""All that the project's facts list; they were confirmed in two ways."""

ORDER = {"<": -1, "=": 0, ">": 1}
texts = st.from_regex(r"[0-9a-zA-Z_.]{0,9}(-[0-9a-zA-Z_.]{0,6})?", fullmatch=True)
versions = texts.map(SoftwareVersion.parse)


@pytest.mark.parametrize(("a", "relation", "b"), VECTORS)
def test_vectors(a: str, relation: str, b: str) -> None:
    assert SoftwareVersion.compare(a, b) == ORDER[relation]
    assert SoftwareVersion.compare(b, a) == -ORDER[relation]


@pytest.mark.parametrize("text", ["1-2-3", "1 .0", "1.0\n", "\t", "1.0- 2", "1." + "9" * 5000])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        SoftwareVersion.parse(text)


@given(versions, versions, versions)
def test_a_total_order(a: SoftwareVersion, b: SoftwareVersion, c: SoftwareVersion) -> None:
    assert [a < b, a == b, a > b].count(True) == 1
    assert (a <= b) == (not a > b)
    if a == b:
        assert hash(a) == hash(b)
    low, middle, high = sorted((a, b, c))
    assert low <= middle <= high
    assert low <= high


@given(versions)
def test_the_text_survives(version: SoftwareVersion) -> None:
    """Only a dash with nothing after it is not written again."""
    again = SoftwareVersion.parse(str(version))
    assert (again.version, again.release) == (version.version, version.release)
    assert again == version


@given(st.text())
def test_any_text_is_a_version_or_a_value_error(text: str) -> None:
    try:
        version = SoftwareVersion.parse(text)
    except ValueError:
        assert text.count("-") > 1 or any(c.isspace() for c in text)
    else:
        assert SoftwareVersion.compare(version, text) == 0
