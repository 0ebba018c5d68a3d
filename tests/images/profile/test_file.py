"""Image profiles as files: what people wrote stays, what midwife changes is there, and nobody's work is lost."""

import os
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from midwife.images.errors import ProfileError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.profile import ImageProfile, ProfileVib
from midwife.images.profile.file import ProfileFile, create, delete, read, replace_text, save

BASE = "VMware_bootbank_esx-base_8.0.3-0.35.24280767"
NIC = "INT_bootbank_i40en_2.8.2.0-1OEM.800.1.0.20613240"
NEW_NIC = "INT_bootbank_i40en_2.9.1.0-1OEM.800.1.0.20613240"
TOOLS = "VMware_locker_tools-light_12.4.0.23259341-24022515"
AGENT = "Lab_bootbank_agent_1.0-1"

WRITTEN = f"""\
# The lab's image. Ask Ann before you change it.
name:   lab-8.0u3      # as hosts name it
vendor: "Lab"

description: >-
  Everything the cellar
  needs.
acceptance-level: community   # the agent is ours
read-only: no
depots: [VMware-ESXi-8.0U3, lab-drivers]

vibs:
    # from VMware
    - {BASE}   # never touch

    # network cards
    - {NIC}  # ticket 4711
    # our own
    - id: {AGENT}
      depot: lab-drivers
# end of file
"""
WHEN = datetime(2026, 11, 26, 4, tzinfo=UTC)


def vibs(*ids: str) -> tuple[ProfileVib, ...]:
    return tuple(ProfileVib(vib_id) for vib_id in sorted(ids))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "image-profiles").mkdir()
    return tmp_path


@pytest.fixture
def lab(root: Path) -> ProfileFile:
    (root / "image-profiles/lab.yaml").write_text(WRITTEN)
    return read(root, "image-profiles/lab.yaml")


def written(root: Path, name: str = "lab.yaml") -> str:
    return (root / "image-profiles" / name).read_text()


def test_what_a_file_says(lab: ProfileFile) -> None:
    profile = lab.profile
    assert (profile.name, profile.vendor, profile.acceptance_level) == (
        "lab-8.0u3",
        "Lab",
        AcceptanceLevel.COMMUNITY,
    )
    assert profile.description == "Everything the cellar needs."
    assert profile.vib_list == (NIC, AGENT, BASE)
    assert lab.depots == ("VMware-ESXi-8.0U3", "lab-drivers")
    assert lab.pins == {AGENT: "lab-drivers"}
    assert profile.signature_check


def test_nothing_changed_is_nothing_written_anew(lab: ProfileFile) -> None:
    assert save(lab, lab.profile, lab.depots, lab.pins).raw == WRITTEN.encode()


def test_a_newer_version_takes_the_place_and_the_comment_of_the_older(lab: ProfileFile, root: Path) -> None:
    save(lab, replace(lab.profile, vibs=vibs(BASE, NEW_NIC, AGENT)), lab.depots, lab.pins)
    assert written(root) == WRITTEN.replace(NIC, NEW_NIC)


def test_add_and_remove_touch_their_own_lines_only(lab: ProfileFile, root: Path) -> None:
    after = save(lab, replace(lab.profile, vibs=vibs(BASE, TOOLS, AGENT)), lab.depots, lab.pins)
    assert written(root) == WRITTEN.replace(f"    - {NIC}  # ticket 4711\n", "").replace(
        "      depot: lab-drivers\n", f"      depot: lab-drivers\n    - {TOOLS}\n"
    )
    back = save(after, replace(after.profile, vibs=vibs(BASE, NIC, AGENT)), lab.depots, lab.pins)
    assert back.profile == lab.profile


def test_attributes(lab: ProfileFile, root: Path) -> None:
    changed = replace(
        lab.profile, name="lab: 9", author="Ann", description="Short.", guid="ab" * 16, modified_time=WHEN,
        acceptance_level=AcceptanceLevel.PARTNER, read_only=True, serial=3, signature_check=False,
    )  # fmt: skip
    assert save(lab, changed, (*lab.depots, "third"), lab.pins).profile == changed
    assert read(root, lab.file).profile == changed
    assert written(root).splitlines()[:16] == [
        "# The lab's image. Ask Ann before you change it.",
        'name:   "lab: 9"      # as hosts name it',
        'vendor: "Lab"',
        "author: Ann",
        "",
        "description: Short.",
        "acceptance-level: partner   # the agent is ours",
        "guid: abababababababababababababababab",
        "modified: 2026-11-26T04:00:00+00:00",
        "serial: 3",
        "read-only: true",
        "signature-check: false",
        "depots: [VMware-ESXi-8.0U3, lab-drivers, third]",
        "",
        "vibs:",
        "    # from VMware",
    ]
    again = save(
        read(root, lab.file), replace(changed, author="", signature_check=True), lab.depots, lab.pins
    )
    assert b"author" not in again.raw
    assert b"signature-check" not in again.raw


def test_a_list_can_become_empty_and_fill_again(lab: ProfileFile, root: Path) -> None:
    empty = save(lab, replace(lab.profile, vibs=()), ())
    assert empty.entry.vibs == ()
    assert "# network cards" in written(root)
    assert save(empty, lab.profile, lab.depots, lab.pins).profile == lab.profile


def test_pins_come_and_go(lab: ProfileFile, root: Path) -> None:
    pinned = save(lab, lab.profile, lab.depots, {NIC: "third"})
    assert pinned.pins == {NIC: "third"}
    assert f"    - id: {NIC}\n      depot: third  # ticket 4711\n" in written(root)
    assert f"    - {AGENT}\n# end of file" in written(root)


def test_a_new_file(root: Path) -> None:
    profile = ImageProfile(
        "Lab 9 / test", "Lab", "Änn", "two\nlines", "0" * 32, AcceptanceLevel.COMMUNITY, WHEN, WHEN,
        vibs=(ProfileVib(BASE), ProfileVib(TOOLS, boot=False)), signature_check=False,
    )  # fmt: skip
    made = create(root, profile, ["VMware-ESXi-8.0U3"], {BASE: "patched"})
    assert made.file == "image-profiles/Lab-9-test.yaml"
    assert (root / made.file).read_bytes() == made.raw
    assert (
        made.raw.decode()
        == f"""\
name: Lab 9 / test
vendor: Lab
author: "Änn"
description: |-
  two
  lines
acceptance-level: community
guid: 00000000000000000000000000000000
created: 2026-11-26T04:00:00+00:00
modified: 2026-11-26T04:00:00+00:00
read-only: false
signature-check: false
depots:
  - VMware-ESXi-8.0U3
vibs:
  - id: {BASE}
    depot: patched
  - id: {TOOLS}
    boot: false
"""
    )
    assert read(root, made.file).profile == profile
    assert (root / made.file).stat().st_mode & 0o777 == 0o644


def test_a_new_file_never_replaces_another(lab: ProfileFile, root: Path) -> None:
    (root / "image-profiles/other.yaml").write_text(WRITTEN.replace("lab-8.0u3", "another"))
    assert create(root, ImageProfile("other", "Lab")).file == "image-profiles/other-Lab.yaml"
    with pytest.raises(ProfileError, match=r"other-Lab.yaml:2|an image profile 'other' of 'Lab' is in"):
        create(root, ImageProfile("other", "Lab"))
    assert create(root, ImageProfile("other", "Ann")).file == "image-profiles/other-Ann.yaml"
    assert sorted(path.name for path in (root / "image-profiles").iterdir()) == [
        "lab.yaml", "other-Ann.yaml", "other-Lab.yaml", "other.yaml",
    ]  # fmt: skip


def test_two_writers_the_second_is_told_and_nothing_is_lost(lab: ProfileFile, root: Path) -> None:
    (root / lab.file).write_text(WRITTEN + "# Bob was here\n")
    for attempt in (
        lambda: save(lab, replace(lab.profile, author="Ann"), ()),
        lambda: replace_text(lab, b"name: x\nvendor: y\n"),
        lambda: delete(lab),
    ):
        with pytest.raises(ProfileError, match="changed by somebody else"):
            attempt()
    assert written(root) == WRITTEN + "# Bob was here\n"
    (root / lab.file).unlink()
    with pytest.raises(ProfileError, match="is gone"):
        save(lab, lab.profile, ())


def test_of_ten_writers_at_once_one_wins(lab: ProfileFile, root: Path) -> None:
    refused: list[str] = []

    def change(number: int) -> None:
        try:
            save(lab, replace(lab.profile, serial=number), lab.depots, lab.pins)
        except ProfileError as error:
            refused.append(str(error))

    writers = [threading.Thread(target=change, args=(number,)) for number in range(1, 11)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(refused) == 9
    assert read(root, lab.file).profile.serial in range(1, 11)
    assert [path.name for path in (root / "image-profiles").iterdir()] == ["lab.yaml"]


def test_a_failed_write_leaves_the_old_file(
    lab: ProfileFile, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ProfileError, match="No space left"):
        save(lab, replace(lab.profile, author="Ann"), lab.depots)
    assert written(root) == WRITTEN
    assert [path.name for path in (root / "image-profiles").iterdir()] == ["lab.yaml"]


def test_links_do_not_lead_out_of_the_site(
    lab: ProfileFile, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "mine.yaml").write_text("name: mine\nvendor: Lab\n")
    (root / "image-profiles/mine.yaml").symlink_to(outside / "mine.yaml")
    mine = read(root, "image-profiles/mine.yaml")
    with pytest.raises(ProfileError, match="leads out of the site"):
        save(mine, replace(mine.profile, author="Ann"), ())
    (root / "image-profiles/alias.yaml").symlink_to("lab.yaml")
    (root / "image-profiles/lab.yaml").write_text("name: lab\nvendor: Lab\n")
    (root / "image-profiles/mine.yaml").unlink()
    (root / "image-profiles/alias.yaml").unlink()
    elsewhere = root.parent / "second"
    elsewhere.mkdir()
    (elsewhere / "image-profiles").symlink_to(outside)
    with pytest.raises(ProfileError, match="leads out of the site"):
        create(elsewhere, ImageProfile("new", "Lab"))


def test_a_link_inside_the_site_stays_a_link(root: Path) -> None:
    (root / "shared.yaml").write_text("name: shared\nvendor: Lab\n")
    link = root / "image-profiles/shared.yaml"
    link.symlink_to("../shared.yaml")
    shared = read(root, "image-profiles/shared.yaml")
    save(shared, replace(shared.profile, author="Ann"), ())
    assert link.is_symlink()
    assert "author: Ann" in (root / "shared.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        ("# later\n", "the file is empty"),
        ("- a\n", "keys and values are expected"),
        ("name: x\n", "image-profiles/x.yaml:1:1: vendor is missing"),
        ("vendor: Lab\nvibs:\n  - esx-base\n", "x.yaml:3:5: vibs.0.id: 'esx-base' is not a VIB id"),
        ("vendor: Lab\ncolour: red\n", "x.yaml:2:1: unknown key 'colour'"),
        (
            f"vendor: Lab\nvibs:\n- {NIC}\n- {NEW_NIC}\n",
            "x.yaml:4:3: i40en is in this profile in two versions",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(root: Path, text: str, told: str) -> None:
    (root / "image-profiles/x.yaml").write_text(text)
    with pytest.raises(ProfileError) as caught:
        read(root, "image-profiles/x.yaml")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{name: x, vendor: Lab}\n",
        f"name: x\nvendor: Lab\nvibs: [{BASE}, # one\n {NIC}]\n",
        f"name: x\nvendor: Lab\nauthor: &a Ann\ndescription: *a\nvibs:\n- {NIC}\n",
    ],
)
def test_what_cannot_be_changed_line_by_line_is_left_alone(root: Path, text: str) -> None:
    (root / "image-profiles/x.yaml").write_text(text)
    found = read(root, "image-profiles/x.yaml")
    with pytest.raises(ProfileError, match="is not changed"):
        save(found, replace(found.profile, author="Bob", vibs=vibs(NEW_NIC)), ())
    assert written(root, "x.yaml") == text


def test_what_is_no_file_is_not_opened(root: Path) -> None:
    os.mkfifo(root / "image-profiles/pipe.yaml")
    (root / "image-profiles/big.yaml").write_bytes(b"#" * (5 << 20))
    for name, told in (
        ("pipe", "is not a regular file"),
        ("gone", "cannot be read"),
        ("big", "larger than 4 MiB"),
    ):
        with pytest.raises(ProfileError, match=told):
            read(root, f"image-profiles/{name}.yaml")


def test_edited_text_must_be_right(lab: ProfileFile, root: Path) -> None:
    with pytest.raises(ProfileError, match="vendor is missing"):
        replace_text(lab, b"name: x\n")
    assert written(root) == WRITTEN
    assert replace_text(lab, b"name: x\nvendor: y\n").profile.name == "x"


def test_a_profile_that_no_file_can_hold(root: Path) -> None:
    with pytest.raises(ProfileError, match="is not a VIB id"):
        create(root, ImageProfile("x", "Lab", vibs=(ProfileVib("Lab_nowhere_x_1"),)))
    with pytest.raises(ProfileError, match="in two versions"):
        create(root, ImageProfile("x", "Lab", vibs=vibs(NIC, NEW_NIC)))
    assert list((root / "image-profiles").iterdir()) == []
