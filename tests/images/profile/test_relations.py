"""Who needs, replaces and excludes whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.images.objects.constraint import SoftwareConstraint
from midwife.images.objects.package import SoftwarePackage
from midwife.images.profile.relations import Relations, meet, needs
from tests.images.profile.miniature import esxi, package

_WORDS = ["a", "b", "c"]
_VERSIONS = ["1", "1.0-1", "1.0-2", "2.0-1"]
_constraint = st.one_of(
    st.sampled_from(_WORDS),
    st.builds(
        "{} {} {}".format,
        st.sampled_from(_WORDS),
        st.sampled_from(["<<", "<=", "=", ">=", ">>"]),
        st.sampled_from(_VERSIONS),
    ),
)
_some = st.lists(_constraint, max_size=2)
packages = st.lists(
    st.builds(
        package,
        st.sampled_from(_WORDS),
        st.sampled_from(_VERSIONS),
        vendor=st.sampled_from(["VMW", "ACME"]),
        depends=_some,
        conflicts=_some,
        replaces=_some,
        provides=st.lists(st.sampled_from(["a", "b = 1.0-1", "c = 2", "esx-version = 8"]), max_size=2),
        files=st.lists(st.sampled_from(["bin/x", "/bin/x", "opt/y", "etc/"]), max_size=3),
        overlay=st.booleans(),
        payloads=st.lists(st.sampled_from(["boot", "vgz"]), max_size=1),
        platforms=st.sampled_from([(), ("embeddedEsx",), ("esxio",), ("embeddedEsx", "esxio")]),
    ),
    max_size=6,
)


def unmet(*members: SoftwarePackage) -> list[str]:
    relations = Relations(members)
    return [str(one) for member in members for one in relations.unmet(member)]


def test_the_miniature_needs_nothing_more() -> None:
    assert unmet(*esxi()) == []


def test_real_pair_of_esx_base_67_is_met_by_vsan() -> None:
    base = package("esx-base", "6.7.0-0.0.8169922", depends=["vsan >= 6.7.0-0.0", "vsan << 6.7.0-0.1"])
    vsan = package("vsan", "6.7.0-0.0.8169922")
    assert unmet(base, vsan) == []
    assert unmet(base) == ["vsan >= 6.7.0-0.0", "vsan << 6.7.0-0.1"]


def test_a_provide_without_version_meets_no_relation() -> None:
    giver = package("giver", provides=["x"])
    assert unmet(giver, package("easy", depends=["x"]), package("strict", depends=["x >= 1.0"])) == [
        "x >= 1.0"
    ]


def test_the_installer_is_always_there_and_asks_for_esximage() -> None:
    old = package("old-driver", depends=["installer:esximage = 1.0"])
    assert unmet(old) == ["esximage"]
    assert unmet(old, package("esx-update", provides=["esximage = 1.0"])) == []
    assert unmet(package("future", depends=["installer:esximage >= 2.0"])) == [
        "installer:esximage >= 2.0",
        "esximage",
    ]


def test_misc_drivers_before_61_are_let_off() -> None:
    depends = ["esx-base = 5.5.0", "vmkapi_incompat_2_3_0_0", "esx-version >= 5.0"]
    assert [str(one) for one in needs(package("misc-drivers", "6.0.0-2.43", depends=depends))] == [
        "esx-version >= 5.0"
    ]
    assert len(needs(package("misc-drivers", "6.1.0-1", depends=depends))) == 3
    assert len(needs(package("other-drivers", "6.0.0-2.43", depends=depends))) == 3


def test_a_vib_neither_replaces_nor_excludes_itself() -> None:
    vib = package("new", "2.0", provides=["old = 1.0"], replaces=["old"], conflicts=["old"])
    relations = Relations([vib])
    assert list(relations.conflicts_of(vib)) == []
    assert list(relations.replaced_by(vib)) == []


def test_older_versions_of_the_name_are_replaced_without_being_written() -> None:
    old, new = package("ne1000", "0.8.3-8"), package("ne1000", "0.9.0-1")
    relations = Relations([old, new])
    assert [one.holder for one in relations.replaced_by(old)] == [new.id]
    assert [one.target for one in relations.replaces(new)] == [old.id]
    assert list(relations.replaced_by(new)) == []


def test_equal_versions_of_two_vendors_do_not_replace_each_other() -> None:
    ours, theirs = package("ne1000", vendor="VMW"), package("ne1000", vendor="ACME")
    relations = Relations([ours, theirs])
    assert not [*relations.replaced_by(ours), *relations.replaced_by(theirs)]


def test_host_and_dpu_never_meet() -> None:
    host = package("esx-base", "8.0-2", platforms=["embeddedEsx"], provides=["vmkapi"])
    dpu = package("esx-base", "8.0-1", platforms=["esxio"], depends=["vmkapi"])
    assert not meet(host, dpu)
    assert meet(host, package("any"))
    assert not list(Relations([host, dpu]).replaced_by(dpu))
    assert unmet(host, dpu) == [], "a DPU's VIB may lean on everything"
    assert unmet(
        package("only-for-dpu", provides=["x"], platforms=["esxio"]),
        package("driver", depends=["x"], platforms=["embeddedEsx"]),
    ) == ["x"]


@given(packages)
def test_conflicts_are_symmetric(members: list[SoftwarePackage]) -> None:
    relations = Relations(members)
    pairs = set()
    for one in relations.packages.values():
        for relation in relations.conflicts_of(one):
            pairs.add((one.id, relation.target if relation.holder == one.id else relation.holder))
    assert pairs == {(b, a) for a, b in pairs}


@given(packages, _constraint)
def test_the_index_finds_what_a_search_finds(members: list[SoftwarePackage], text: str) -> None:
    constraint = SoftwareConstraint.parse(text)
    relations = Relations(members)
    plain = [vib for vib, one in relations.packages.items() if constraint.matches_provide(one)]
    assert list(relations.providers(constraint)) == plain


@pytest.mark.parametrize("size", [50, 100, 200, 400])
def test_the_work_grows_with_the_number_of_vibs(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts comparisons, not seconds: each dependency looks at the provides of its own name only."""
    calls = 0
    real = SoftwareConstraint.matches_provide

    def counting(self: SoftwareConstraint, other: object) -> bool:
        nonlocal calls
        calls += 1
        return real(self, other)  # type: ignore[arg-type]

    monkeypatch.setattr(SoftwareConstraint, "matches_provide", counting)
    members = [
        package(f"driver{number}", depends=["vmkapi_2_9_0_0", f"driver{number // 2} >= 1.0"])
        for number in range(size)
    ]
    relations = Relations([*members, *esxi()])
    for member in members:
        assert relations.unmet(member) == ()
        assert not [*relations.replaced_by(member), *relations.conflicts_of(member)]
    assert calls <= 4 * size
