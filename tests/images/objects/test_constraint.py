"""What satisfies a constraint: the facts' vectors, by relation, with and without releases."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midwife.images.objects.constraint import RELATIONS, SoftwareConstraint, SoftwareProvide
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.version import SoftwareVersion

VECTORS = [
    ("vsan >= 6.7.0-0.0", "vsan = 6.7.0-0.0.8169922", True),
    ("vsan << 6.7.0-0.1", "vsan = 6.7.0-0.0.8169922", True),
    ("esx-base = 5.5.0", "esx-base = 5.5.0-0.0.1", True),  # no release in the constraint: it is not looked at
    ("esx-base = 5.5.0-0.0.2", "esx-base = 5.5.0-0.0.1", False),
    ("esx-base >> 5.5.0", "esx-base = 5.5.0-0.0.1", False),
    ("x >= 1.0", "x", False),  # a provide without a version
    ("vmkapi_2_3_0_0", "vmkapi_2_3_0_0", True),
    ("vmkapi_2_3_0_0", "vmkapi_2_3_0_0 = 1.0", True),
    ("vmkapi_2_3_0_0", "vmkapi_2_4_0_0", False),
    ("VSAN", "vsan", False),
]


def provide(text: str) -> SoftwareProvide:
    name, _, version = text.partition(" = ")
    return SoftwareProvide(name, SoftwareVersion.parse(version) if version else None)


@pytest.mark.parametrize(("constraint", "provided", "matches"), VECTORS)
def test_vectors(constraint: str, provided: str, matches: bool) -> None:
    assert SoftwareConstraint.parse(constraint).matches_provide(provide(provided)) is matches


@pytest.mark.parametrize(
    ("relation", "matches"),
    [
        ("<<", [True, False, False]),
        ("<=", [True, True, False]),
        ("=", [False, True, False]),
        (">=", [False, True, True]),
        (">>", [False, False, True]),
    ],
)
def test_relations(relation: str, matches: list[bool]) -> None:
    wanted = SoftwareConstraint.parse(f"x {relation} 2.0-1")
    assert [wanted.matches_provide(provide(f"x = {v}")) for v in ("1.9-9", "2.0-1", "2.0-2")] == matches


def test_a_package_is_its_own_provide_beside_those_it_writes() -> None:
    package = SoftwarePackage("esx-base", SoftwareVersion.parse("6.7.0-1"), "VMware")
    package = replace(package, provides=(provide("esx-version = 6.7.0"),))

    assert SoftwareConstraint.parse("esx-base >= 6.7.0").matches_provide(package)
    assert SoftwareConstraint.parse("esx-version << 6.8").matches_provide(package)
    assert not SoftwareConstraint.parse("esx-base >> 6.7.0-1").matches_provide(package)
    assert not SoftwareConstraint.parse("vsan").matches_provide(package)


def test_a_package_replaces_older_versions_of_itself() -> None:
    newer = SoftwarePackage("nvme", SoftwareVersion.parse("1.2-1"), "VMW")
    older = replace(newer, version_object=SoftwareVersion.parse("1.1-9"))

    assert any(one.matches_provide(older) for one in newer.all_replaces)
    assert not any(one.matches_provide(newer) for one in newer.all_replaces)


@pytest.mark.parametrize("text", ["", "a b", "a >=", ">= 1", "a > 1", "a == 1", "a >= 1-2-3", "a >= 1 2"])
def test_what_is_no_constraint(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        SoftwareConstraint.parse(text)


def test_relation_and_version_come_together() -> None:
    with pytest.raises(ValueError, match="come together"):
        SoftwareConstraint("x", ">=", None)
    with pytest.raises(ValueError, match="come together"):
        SoftwareConstraint("x", None, SoftwareVersion.parse("1"))
    with pytest.raises(ValueError, match="is no relation"):
        SoftwareConstraint("x", "==", SoftwareVersion.parse("1"))


names = st.from_regex(r"[A-Za-z0-9_.:+-]{1,12}", fullmatch=True)
versions = st.from_regex(r"[0-9a-z.]{1,6}(-[0-9a-z.]{1,4})?", fullmatch=True)


@given(names, st.one_of(st.none(), st.tuples(st.sampled_from(RELATIONS), versions)))
def test_the_text_of_a_constraint_is_read_back(name: str, wanted: tuple[str, str] | None) -> None:
    relation, version = wanted or (None, None)
    constraint = SoftwareConstraint(name, relation, SoftwareVersion.parse(version) if version else None)
    again = SoftwareConstraint.parse(str(constraint))
    assert again == constraint
    assert str(again) == str(constraint)


@example("1=-")
@given(st.text(alphabet="ab <>=-.1\t\n", max_size=12))
def test_any_text_is_a_constraint_or_a_value_error(text: str) -> None:
    try:
        constraint = SoftwareConstraint.parse(text)
    except ValueError:
        return
    assert SoftwareConstraint.parse(str(constraint)) == constraint
