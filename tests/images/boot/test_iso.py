"""An installer ISO becomes an image: complete, checked, in one step; or nothing happens at all."""

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midwife.images import isofs, shelf
from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
from midwife.images.errors import ImageError
from midwife.images.names import default_image_name
from tests.peers.esxiso import (
    BUILD,
    LookAlike,
    boot_cfg,
    esxi_content,
    write_iso,
    write_iso_with_xorriso,
)

ROOT = Path(__file__).parents[3]


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_nothing_left(library: Library) -> None:
    left = [p.name for p in library.images_dir.iterdir()] if library.images_dir.is_dir() else []
    assert [name for name in left if name != ".lock"] == []


def test_every_file_arrives_in_lower_case_with_its_hash(installer: LookAlike, library: Library) -> None:
    seen: list[tuple[int, int]] = []
    manifest = import_iso(installer.path, library, progress=lambda done, total: seen.append((done, total)))

    home = library.images_dir / "8.0.3-24022510"
    assert files_below(home / "files") == installer.content
    assert manifest.name == home.name
    assert (manifest.build, manifest.title) == (BUILD, "Loading ESXi installer")
    assert manifest.profile == "ESXi-8.0U3-24022510-standard"
    assert manifest.iso_sha256 == hashlib.sha256(installer.path.read_bytes()).hexdigest()
    assert {name: entry.sha256 for name, entry in manifest.files.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in installer.content.items()
    }
    assert seen == sorted(seen), "progress never goes back"
    assert seen[-1][0] == seen[-1][1] == manifest.size + installer.path.stat().st_size
    assert library.manifest(home.name) == manifest, "what was written is what is read"
    assert json.loads((home / "image.json").read_text())["name"] == home.name
    assert (home.stat().st_mode & 0o777, (home / "files/b.b00").stat().st_mode & 0o222) == (0o755, 0o200)


@pytest.mark.parametrize("names", ["plain", "joliet", "rock-ridge"])
def test_every_way_of_writing_names(names: str, tmp_path: Path, library: Library) -> None:
    content = esxi_content(module_size=100)
    iso = write_iso(tmp_path / "esxi.iso", content, names)  # type: ignore[arg-type]
    assert set(import_iso(iso, library).files) == set(content)


def test_an_iso_that_xorriso_wrote(tmp_path: Path, library: Library) -> None:
    content = esxi_content(module_size=5000)
    iso = write_iso_with_xorriso(tmp_path / "own.iso", content, tmp_path / "tree")
    import_iso(iso, library)
    assert files_below(library.images_dir / "own" / "files") == content


def test_reads_the_same_as_xorriso(installer: LookAlike, tmp_path: Path, library: Library) -> None:
    out = tmp_path / "theirs"
    command = ["xorriso", "-osirrox", "on", "-indev", str(installer.path), "-extract", "/", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run(["chmod", "-R", "u+w", str(out)], check=True)
    theirs = {name.lower(): data for name, data in files_below(out).items()}
    import_iso(installer.path, library, "ours")
    assert files_below(library.images_dir / "ours" / "files") == theirs


def test_an_old_image_tells_its_build_elsewhere(tmp_path: Path, library: Library) -> None:
    content = esxi_content(module_size=100) | {
        "boot.cfg": boot_cfg(build=""),
        "upgrade/metadata.xml": b"<metadata><esxi>6.0.0-3.57.5050593</esxi></metadata>",
    }
    assert import_iso(write_iso(tmp_path / "old.iso", content), library).build == "6.0.0-3.57.5050593"


def test_only_the_efi_boot_cfg_is_enough(tmp_path: Path, library: Library) -> None:
    content = {k: v for k, v in esxi_content(module_size=100).items() if k != "boot.cfg"}
    assert import_iso(write_iso(tmp_path / "efi.iso", content), library).build == BUILD


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("VMware-VMvisor-Installer-8.0U3-24022510.x86_64.iso", "8.0U3-24022510"),
        ("VMware-ESXi-7.0U3d-19482537-depot.ISO", "7.0U3d-19482537-depot"),
        ("my esxi (old).iso", "my-esxi-old"),
    ],
)
def test_default_names(file_name: str, name: str) -> None:
    assert default_image_name(file_name) == name


class TestRefused:
    """Each of these says why, and leaves the library as it was."""

    @pytest.fixture(autouse=True)
    def _nothing_left(self, library: Library):
        yield
        assert_nothing_left(library)

    def refused(self, iso: Path, library: Library, name: str | None = None) -> str:
        with pytest.raises(ImageError) as caught:
            import_iso(iso, library, name)
        return str(caught.value)

    def test_missing_modules_are_named(self, tmp_path: Path, library: Library) -> None:
        content = esxi_content(module_size=100)
        del content["vmx.v00"], content["s.v00"]
        told = self.refused(write_iso(tmp_path / "x.iso", content), library)
        assert "lacks 2 of the files that its boot.cfg names: /vmx.v00, /s.v00" in told

    def test_no_boot_cfg(self, tmp_path: Path, library: Library) -> None:
        iso = write_iso(tmp_path / "debian.iso", {"readme.txt": b"hello"})
        assert "has no boot.cfg, so it is not an ESXi installer" in self.refused(iso, library)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (b"title=x\n", "names no kernel"),
            (b"kernel=b.b00\ntimeout=x\n", "timeout='x' must be a whole number"),
        ],
    )
    def test_a_boot_cfg_that_mboot_would_refuse(
        self, text: bytes, reason: str, tmp_path: Path, library: Library
    ) -> None:
        iso = write_iso(tmp_path / "x.iso", esxi_content(module_size=100) | {"boot.cfg": text})
        assert reason in self.refused(iso, library)

    @pytest.mark.parametrize("body", [b"", b"<html>Sign in</html>" * 5000, b"PK\x03\x04" * 20000])
    def test_no_iso_at_all(self, body: bytes, tmp_path: Path, library: Library) -> None:
        (tmp_path / "esxi.iso").write_bytes(body)
        assert "is not an ISO 9660 image" in self.refused(tmp_path / "esxi.iso", library)

    def test_no_file_at_all(self, tmp_path: Path, library: Library) -> None:
        assert "does not exist" in self.refused(tmp_path / "esxi.iso", library)
        assert "is not a file" in self.refused(tmp_path, library, "x")

    def test_truncated(self, installer: LookAlike, tmp_path: Path, library: Library) -> None:
        iso = tmp_path / "half.iso"
        iso.write_bytes(installer.path.read_bytes()[:150_000])
        assert "is truncated" in self.refused(iso, library)

    def test_truncated_behind_a_lying_volume_size(
        self, installer: LookAlike, tmp_path: Path, library: Library
    ) -> None:
        data = bytearray(installer.path.read_bytes()[:150_000])
        struct.pack_into("<I", data, 16 * 2048 + 80, 20)
        struct.pack_into(">I", data, 16 * 2048 + 84, 20)
        (tmp_path / "half.iso").write_bytes(data)
        assert "runs over the end of the ISO" in self.refused(tmp_path / "half.iso", library)

    @pytest.mark.parametrize("evil", ["..", "../../etc/x", "a/b", "a\\b", "x\ny", "x\x1b[2J"])
    def test_names_that_lead_elsewhere(self, evil: str, tmp_path: Path, library: Library) -> None:
        """Rock Ridge names are free text: patched into the image, since no tool would write them."""
        honest = ("qwertyuiopasdf" * 3)[: len(evil.encode())]
        content = esxi_content(module_size=100) | {honest: b"gotcha"}
        iso = write_iso(tmp_path / "evil.iso", {k: v for k, v in content.items() if k != honest})
        iso = self._with_rock_ridge_name(tmp_path, content, honest, evil)
        assert "file name that is not allowed" in self.refused(iso, library)
        assert not (library.images_dir.parent / "etc").exists()

    def _with_rock_ridge_name(
        self, tmp_path: Path, content: dict[str, bytes], honest: str, evil: str
    ) -> Path:
        iso = write_iso(tmp_path / "evil.iso", content, "rock-ridge")
        data = iso.read_bytes()
        assert honest.encode() in data
        iso.write_bytes(data.replace(b"NM" + self._nm(honest), b"NM" + self._nm(evil)))
        assert iso.read_bytes() != data
        return iso

    @staticmethod
    def _nm(name: str) -> bytes:
        """The NM entry of RRIP 1.09, 4.1.4: length, version, flags, name."""
        return bytes([5 + len(name), 1, 0]) + name.encode()

    def test_the_same_name_in_two_cases(self, tmp_path: Path, library: Library) -> None:
        tree = tmp_path / "tree"
        iso = write_iso_with_xorriso(
            tmp_path / "x.iso", {"boot.cfg": boot_cfg(), "BOOT.CFG": b"kernel=x"}, tree
        )
        assert "holds boot.cfg twice" in self.refused(iso, library)

    def test_a_file_larger_than_the_iso(self, installer: LookAlike, tmp_path: Path, library: Library) -> None:
        data = bytearray(installer.path.read_bytes())
        at = data.index(b"XORG.V00;1") - 33  # the directory record (ECMA-119 9.1); the name is at offset 33
        struct.pack_into("<I", data, at + 10, 0xFFFFFFF0)
        struct.pack_into(">I", data, at + 14, 0xFFFFFFF0)
        (tmp_path / "x.iso").write_bytes(data)
        assert "xorg.v00 runs over the end of the ISO" in self.refused(tmp_path / "x.iso", library)

    def test_a_directory_that_contains_itself(
        self, installer: LookAlike, tmp_path: Path, library: Library
    ) -> None:
        data = bytearray(installer.path.read_bytes())
        (root,) = struct.unpack_from("<I", data, 16 * 2048 + 156 + 2)  # ECMA-119 8.4.18
        at = data.index(b"\x04BOOT") - 32
        struct.pack_into("<I", data, at + 2, root)
        struct.pack_into(">I", data, at + 6, root)
        (tmp_path / "loop.iso").write_bytes(data)
        assert "loop.iso is not a readable ISO image" in self.refused(tmp_path / "loop.iso", library)

    def test_many_files_that_share_their_blocks(
        self, tmp_path: Path, library: Library, installer: LookAlike
    ) -> None:
        """A small ISO that unpacks to any size: every record points at the whole medium."""
        data = bytearray(installer.path.read_bytes())
        at = 0
        while (at := data.find(b".V00;1", at + 1)) > 0:
            record = data.rindex(b"\x01\x00\x00\x01", 0, at) - 28  # volume sequence number precedes the name
            struct.pack_into("<I", data, record + 2, 30)
            struct.pack_into(">I", data, record + 6, 30)
            struct.pack_into("<I", data, record + 10, len(data) - 30 * 2048)
            struct.pack_into(">I", data, record + 14, len(data) - 30 * 2048)
        (tmp_path / "bomb.iso").write_bytes(data)
        assert "claims to hold more than is in it" in self.refused(tmp_path / "bomb.iso", library)

    @pytest.mark.parametrize("name", ["..", "a", "files", "x/y", ".hidden", "pxelinux.cfg", "x" * 81])
    def test_names_that_no_image_can_have(self, name: str, installer: LookAlike, library: Library) -> None:
        assert "name" in self.refused(installer.path, library, name)

    def test_no_room(self, installer: LookAlike, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        assert "but only 1000 B are free" in self.refused(installer.path, library)

    def test_the_iso_is_still_being_copied(
        self, installer: LookAlike, tmp_path: Path, library: Library
    ) -> None:
        iso = tmp_path / "growing.iso"
        iso.write_bytes(installer.path.read_bytes())
        grown: list[bool] = []

        def grow(done: int, total: int) -> None:
            if not grown:
                grown.append(True)
                with iso.open("ab") as tail:
                    tail.write(bytes(4 << 20))

        with pytest.raises(ImageError, match="changed while it was read"):
            import_iso(iso, library, progress=grow)

    def test_interrupted_by_ctrl_c(self, installer: LookAlike, library: Library) -> None:
        def interrupt(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            import_iso(installer.path, library, progress=interrupt)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damage=st.lists(
        st.tuples(st.integers(0, 2**32), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6
    )
)
def test_a_damaged_iso_gives_files_or_one_error(
    damage: list[tuple[int, bytes]], installer: LookAlike, tmp_path: Path
) -> None:
    """Damage where the structures are: volume descriptors, path tables, directories."""
    data = bytearray(installer.path.read_bytes())
    for at, junk in damage:
        at = 16 * 2048 + at % (14 * 2048)
        data[at : at + len(junk)] = junk
    iso = tmp_path / "damaged.iso"
    iso.write_bytes(data)
    try:
        with isofs.IsoReader(iso) as reader:
            for name, file in reader.files.items():
                assert not name.startswith("/")
                assert ".." not in name.split("/")
                assert sum(len(chunk) for chunk in reader.chunks(file)) == file.size
    except ImageError:
        return


def test_a_name_is_given_once(installer: LookAlike, library: Library) -> None:
    import_iso(installer.path, library, "x")
    with pytest.raises(ImageError, match="called x is already imported"):
        import_iso(installer.path, library, "x")


def test_one_import_at_a_time(installer: LookAlike, library: Library) -> None:
    with shelf.exclusive(library.images_dir), pytest.raises(ImageError, match="another midwife is changing"):
        import_iso(installer.path, library)


# What a child process runs: an import that tells when it is half done and then waits to be killed.
_CHILD = """
import sys
from pathlib import Path
from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
def progress(done, total):
    if done * 3 > total:
        print("half", flush=True)
        sys.stdin.read()
import_iso(Path(sys.argv[1]), Library(Path(sys.argv[2]), {}, Path(".")), "x", progress)
"""


def test_kill_9_leaves_a_draft_that_the_next_import_clears(installer: LookAlike, library: Library) -> None:
    data = library.images_dir.parent
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(installer.path), str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert child.stdout
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()

    (draft,) = library.images_dir.glob(".tmp-*")
    assert any(draft.rglob("*.v00")), "it was killed at work"
    assert library.names() == ()

    shelf.clear_leftovers(library.images_dir)
    assert_nothing_left(library)
    import_iso(installer.path, library, "x")
    assert library.names() == ("x",)


_FULL = """
import resource, sys
from pathlib import Path
from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
from midwife.images.errors import ImageError
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))
try:
    import_iso(Path(sys.argv[1]), Library(Path(sys.argv[2]), {}, Path(".")), "x")
except ImageError as error:
    print(error)
"""


def test_the_disk_fills_up_midway(installer: LookAlike, library: Library) -> None:
    """A limit on the size of a file stops a write halfway, as a full disk does."""
    data = library.images_dir.parent
    command = [sys.executable, "-c", _FULL, str(installer.path), str(data)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert told.startswith(f"no room to write {library.images_dir}: File too large")
    assert "nothing was kept" in told
    assert_nothing_left(library)


_BIG = """
import resource, sys
from pathlib import Path
from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Library
library = Library(Path(sys.argv[2]), {}, Path("."))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import_iso(Path(sys.argv[1]), library, "x")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_iso_needs_little_memory(tmp_path: Path) -> None:
    """200 MB in one module: sparse on disk, so it is quick to make."""
    iso = write_iso(tmp_path / "big.iso", esxi_content(module_size=100) | {"zz.v00": b"x"})
    data = bytearray(iso.read_bytes())
    at = data.index(b"ZZ.V00;1") - 33
    size, start = 200_000_000, len(data) // 2048
    for offset, value in ((2, start), (10, size)):
        struct.pack_into("<I", data, at + offset, value)
        struct.pack_into(">I", data, at + offset + 4, value)
    iso.write_bytes(data)
    os.truncate(iso, (start * 2048 + size + 2047) // 2048 * 2048)

    command = [sys.executable, "-c", _BIG, str(iso), str(tmp_path / "data")]
    grown = int(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    assert (tmp_path / "data/images/x/files/zz.v00").stat().st_size == size
    assert grown < 60_000, f"the import took {grown} KiB of memory"
