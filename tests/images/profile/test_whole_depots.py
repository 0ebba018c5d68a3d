"""Catalogue, composing and validation on whole depots: the look-alike ESXi, and real community bundles."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from midwife.images.depot.sources.bundle import OfflineBundle
from midwife.images.depot.sources.loose import LooseVibs
from midwife.images.errors import ProfileError
from midwife.images.profile.catalogue import Catalogue
from midwife.images.profile.compose import add, clone, new, remove
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.profile.validate import validate
from tests.images.profile.miniature import COMMUNITY, GUID, NOW, resolved
from tests.peers.esximage import look_alike_profile, write_bundle

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module", params=["6.7.0", "9.0.1"])
def depot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OfflineBundle]:
    path = tmp_path_factory.mktemp("depot") / f"{request.param}.zip"
    write_bundle(path, look_alike_profile(request.param))
    with OfflineBundle(path) as bundle:
        yield bundle


@pytest.fixture
def catalogue(depot: OfflineBundle) -> Catalogue:
    return Catalogue([depot])


@pytest.fixture
def mine(catalogue: Catalogue, depot: OfflineBundle) -> ResolvedProfile:
    """A clone of the vendor's standard profile, which is read-only itself."""
    name = next(profile.name for profile in depot.profiles if profile.name.endswith("standard"))
    standard = catalogue.resolve(catalogue.profile(name)[1])
    with pytest.raises(ProfileError, match="read-only"):
        remove(standard, ["gc"], now=NOW)
    return clone(standard, "mine", "Lab", now=NOW, guid=GUID).resolved


def test_the_vendors_profiles_are_valid(catalogue: Catalogue, depot: OfflineBundle) -> None:
    assert len(depot.profiles) == 2
    for profile in depot.profiles:
        assert validate(catalogue.resolve(profile), catalogue) == ()


def test_an_oem_driver_and_all_that_it_needs(catalogue: Catalogue, mine: ResolvedProfile) -> None:
    done = add(mine, [catalogue.find("acme-tools")], catalogue, now=NOW, with_dependencies=True)
    assert sorted(vib.split("_")[2] for vib in done.added) == ["acme-agent", "acme-lib", "acme-tools"]
    assert "acme-lib_1.4.0" in " ".join(done.added)
    assert validate(done.resolved, catalogue) == ()


def test_enemies_and_orphans_are_told(catalogue: Catalogue, mine: ResolvedProfile) -> None:
    both = add(mine, [catalogue.find("acme-net"), catalogue.find("acme-antidote")], now=NOW)
    assert [vib.split("_")[2] for vib in both.removed] == ["bnxtnet"]
    assert [one.kind for one in validate(both.resolved, catalogue)] == ["conflict"]
    orphan = add(mine, [catalogue.find("acme-orphan")], now=NOW).resolved
    (finding,) = validate(orphan, catalogue)
    assert finding.kind == "missing-dependency"
    assert "No depot has it" in finding.remedy


def test_from_one_driver_to_a_bootable_base(catalogue: Catalogue) -> None:
    wanted = [catalogue.find("i40en")]
    done = new("tiny", "Lab", wanted, now=NOW, guid=GUID, catalogue=catalogue, with_dependencies=True)
    assert {"esx-base", "esx-update", "vsan"} <= {vib.split("_")[2] for vib in done.added}
    assert validate(done.resolved, catalogue) == ()


def test_ghettovcb_has_one_id_and_many_contents() -> None:
    """Eleven VIBs of one id were published; bundles of two of them never get mixed up."""
    files = sorted((DATA / "ghettoVCB").glob("*.vib"))
    depots = [LooseVibs(path) for path in files]
    ids = [vib for depot in depots for vib in depot.packages]
    twice = next(vib for vib in ids if ids.count(vib) > 1)
    named = [depot.name for depot in depots if twice in depot.packages]
    catalogue = Catalogue(depots)
    with pytest.raises(ProfileError, match="with different contents: say which with --depot"):
        catalogue.find(twice)
    vib = catalogue.find(twice, named[1]).package
    kinds = {finding.kind for finding in validate(resolved([vib], level=COMMUNITY))}
    assert "file-path" in kinds
