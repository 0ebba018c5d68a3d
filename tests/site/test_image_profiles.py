"""``image-profiles/*.yaml`` is a part of the site: read with it, checked with it, every mistake with its place."""

from datetime import UTC, datetime

import pytest

from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.site.imageprofile import LEVELS, VibEntry, vib_name
from tests.site.conftest import SiteFolder

BASE = "VMware_bootbank_esx-base_8.0.3-0.35.24280767"
NIC = "INT_bootbank_i40en_2.8.2.0-1OEM.800.1.0.20613240"
LAB = f"""\
name: lab-8.0u3
vendor: Lab
author: Ann
description: for the cellar
acceptance-level: CommunitySupported
guid: 0F0C7c1e-5f0a-4b64-9b5c-4c4a9d2a0d11
created: 2026-11-26T04:00:00+00:00
modified: 2026-11-26T05:00:00+01:00
read-only: yes
signature-check: false
depots: [VMware-ESXi-8.0U3, lab-drivers]
vibs:
  - {BASE}
  - id: {NIC}
    depot: lab-drivers
    boot: no
"""


def test_a_whole_profile(site: SiteFolder) -> None:
    site.write("image-profiles/lab.yaml", LAB)
    (profile,) = site.load().site.image_profiles
    assert (profile.name, profile.vendor, profile.author) == ("lab-8.0u3", "Lab", "Ann")
    assert profile.acceptance_level == "community"
    assert profile.guid == "0f0c7c1e5f0a4b649b5c4c4a9d2a0d11"
    assert profile.created == profile.modified == datetime(2026, 11, 26, 4, tzinfo=UTC)
    assert profile.read_only
    assert not profile.signature_check
    assert profile.depots == ("VMware-ESXi-8.0U3", "lab-drivers")
    assert profile.vibs == (VibEntry(id=BASE), VibEntry(id=NIC, depot="lab-drivers", boot=False))


def test_the_least_there_can_be(site: SiteFolder) -> None:
    site.write("image-profiles/small.yaml", "vendor: Lab\ncreated: 2026-11-26\n")
    (profile,) = site.load().site.image_profiles
    assert (profile.name, profile.acceptance_level, profile.vibs) == ("small", "partner", ())
    assert profile.created == datetime(2026, 11, 26, tzinfo=UTC)
    assert profile.signature_check


def test_every_mistake_comes_at_once_with_its_place(site: SiteFolder) -> None:
    site.write("image-profiles/a.yaml", LAB)
    site.write(
        "image-profiles/b.yaml",
        f"""\
name: LAB-8.0u3
vendor: lab
vibs:
  - {BASE}
  - {NIC}
  - {BASE}
  - {NIC.replace("2.8.2.0", "2.9.1.0")}
depots: [near, near]
guid: 0f0c7c1e5f0a4b649b5c4c4a9d2a0d11
""",
    )
    site.write(
        "image-profiles/c.yaml",
        f"""\
name: {"n" * 81}
vendor: {"v" * 41}
author: {"a" * 61}
acceptance-level: gold
guid: 12345
created: yesterday
read-only: maybe
depots: [../etc]
colour: red
vibs:
  - esx-base
  - id: {NIC}
    depo: x
  - [a]
""",
    )
    assert site.problems() == [
        "image-profiles/b.yaml:1:7: an image profile 'LAB-8.0u3' of 'lab' is in image-profiles/a.yaml:1 already; "
        "name and vendor together are unique; change one of them",
        f"image-profiles/b.yaml:6:5: {BASE} is in this profile twice (first: line 4); take one out",
        f"image-profiles/b.yaml:7:5: i40en is in this profile in two versions: {NIC} (line 5) and this one; "
        "a profile holds one version of a VIB; take one out",
        "image-profiles/b.yaml:8:16: the depot near is listed twice; take one out",
        "image-profiles/b.yaml:9:7: warning: guid: that of image-profiles/a.yaml:1; "
        "a copied file is another profile; take the line out, midwife writes a new one",
        "image-profiles/c.yaml:1:7: name: the text is longer than 80 characters",
        "image-profiles/c.yaml:2:9: vendor: the text is longer than 40 characters",
        "image-profiles/c.yaml:3:9: author: the text is longer than 60 characters",
        "image-profiles/c.yaml:4:19: acceptance-level: 'gold' is not an acceptance level; "
        "write community, partner, accepted, certified",
        "image-profiles/c.yaml:5:7: guid: '12345' is not a GUID; it has 32 hexadecimal digits, or leave it out",
        "image-profiles/c.yaml:6:10: created: 'yesterday' is not a time; write 2026-11-26T04:00:00+00:00",
        "image-profiles/c.yaml:7:12: read-only: 'maybe' is neither true nor false",
        "image-profiles/c.yaml:8:10: depots.0: '../etc' is not the name of a depot; midwife depot list shows them",
        "image-profiles/c.yaml:9:1: unknown key 'colour'; there is acceptance-level, author, created, depots, "
        "description, guid, modified, name, read-only, serial, signature-check, vendor, vibs",
        "image-profiles/c.yaml:11:5: vibs.0.id: 'esx-base' is not a VIB id; it is VENDOR_bootbank_NAME_VERSION, "
        "as midwife vib list shows it",
        "image-profiles/c.yaml:13:5: unknown key 'depo' in vibs.1; did you mean depot?",
        "image-profiles/c.yaml:14:5: vibs.2: a list stands where keys and values are expected; "
        "write key: value lines below it",
    ]  # fmt: skip


def test_an_image_that_is_still_a_profile(site: SiteFolder) -> None:
    site.write("image-profiles/a.yaml", LAB)
    site.write("hosts/esx-01.yaml", "macs: 52:54:00:12:34:56\nimage: lab-8.0u3\n")
    (problem,) = site.problems()
    assert "hosts/esx-01.yaml:2:8" in problem
    assert "midwife image netboot lab-8.0u3" in problem


@pytest.mark.parametrize("text", ["][", "- a\n", "just a text\n", "vibs: {}\n", "\x00"])
def test_a_broken_file_is_a_problem_of_that_file(site: SiteFolder, text: str) -> None:
    site.write("image-profiles/x.yaml", text)
    problems = site.problems()
    assert problems
    assert all(problem.startswith("image-profiles/x.yaml") for problem in problems)


def test_two_vendors_may_use_one_name(site: SiteFolder) -> None:
    site.write("image-profiles/a.yaml", "name: x\nvendor: A\n")
    site.write("image-profiles/b.yaml", "name: x\nvendor: B\n")
    assert site.problems() == []


def test_words_agree_with_those_of_the_image_code() -> None:
    """The site knows nothing of images, so it has a list of its own."""
    assert {str(level): level.documented for level in AcceptanceLevel} == LEVELS


@pytest.mark.parametrize(
    ("vib", "name", "version"),
    [
        (BASE, "esx-base", "8.0.3-0.35.24280767"),
        (NIC, "i40en", "2.8.2.0-1OEM.800.1.0.20613240"),
        ("VMware_locker_tools-light_12.4.0.23259341-24022515", "tools-light", "12.4.0.23259341-24022515"),
        ("My_Lab_bootbank_my_agent_1.0-1", "my_agent", "1.0-1"),
        ("no id at all", "no id at all", ""),
    ],
)
def test_name_and_version_in_an_id(vib: str, name: str, version: str) -> None:
    assert vib_name(vib) == (name, version)
