"""The depot library when things break: kill -9, Ctrl-C, a full disk, two at a time, and a payload of any size."""

import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from midwife.images import shelf
from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.errors import ImageError
from tests.peers.badfiles import small, small_bundle
from tests.peers.depotmaker import Content
from tests.peers.vibmaker import MadeVib, make_payload, vib

from .stored import files, on_disk, originals

ROOT = Path(__file__).parents[3]


@pytest.fixture
def library(tmp_path: Path) -> DepotLibrary:
    return DepotLibrary(tmp_path / "data")


_CHILD = """
import sys
from pathlib import Path
from midwife.images.depot.kept.library import DepotLibrary
def progress(done, total):
    if done * 2 > total:
        print("half", flush=True)
        sys.stdin.read()
DepotLibrary(Path(sys.argv[2])).add(sys.argv[1], "x", progress)
"""


def test_kill_9_in_the_middle_of_an_import(
    library: DepotLibrary, esxi: Content, esxi_bundle: Path, tmp_path: Path
) -> None:
    library.add(str(small_bundle(tmp_path / "before.zip")))
    whole = on_disk(library)
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(esxi_bundle), str(library.root.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert child.stdout
    assert child.stdout.readline() == b"half\n"
    with pytest.raises(ImageError, match="another midwife is changing"):
        library.remove("before")
    assert library.names() == ("before",), "readers do not wait"
    assert files(library.get("before")) == originals(small())
    child.send_signal(signal.SIGKILL)
    child.communicate()

    assert list(library.root.glob(".tmp-*")), "it was killed at work"
    assert library.names() == ("before",)
    assert files(library.get("before")) == originals(small())
    library.add(str(esxi_bundle), "x")
    assert files(library.get("x")) == originals(esxi)
    library.remove("x")
    assert on_disk(library) == whole


def test_blobs_of_a_killed_import_are_swept(library: DepotLibrary, tmp_path: Path) -> None:
    """They have their names, but nobody refers to them; the note says that there may be some."""
    library.add(str(small_bundle(tmp_path / "x.zip")))
    whole = on_disk(library)
    library.blobs.put([b"of an import that was killed"])
    (library.root / ".unfinished").touch()
    (library.root / ".tmp-draft").mkdir()
    assert library.add(str(tmp_path / "x.zip")).already
    assert on_disk(library) == whole


def test_ctrl_c_leaves_nothing(library: DepotLibrary, esxi_bundle: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done * 2 > total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.add(str(esxi_bundle), "x", interrupt)
    assert on_disk(library) == {}


_FULL = """
import resource, sys
from pathlib import Path
from midwife.images.depot.kept.library import DepotLibrary
from midwife.images.errors import ImageError
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    DepotLibrary(Path(sys.argv[2])).add(sys.argv[1])
except ImageError as error:
    print(error)
"""


def test_the_disk_fills_up_midway(library: DepotLibrary, esxi_bundle: Path) -> None:
    """A limit on the size of a file stops a write halfway, as a full disk does."""
    command = [sys.executable, "-c", _FULL, str(esxi_bundle), str(library.root.parent)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert told.startswith(f"no room to write {library.root}: File too large")
    assert "nothing was kept" in told
    assert on_disk(library) == {}


def test_no_room_is_told_before_anything_is_written(
    library: DepotLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(ImageError, match=r"needs .* but only 1.0 MiB are free"):
        library.add(str(small_bundle(tmp_path / "x.zip")))


def test_one_change_at_a_time(library: DepotLibrary, tmp_path: Path) -> None:
    path = small_bundle(tmp_path / "x.zip")
    library.root.mkdir(parents=True)
    with shelf.exclusive(library.root), pytest.raises(ImageError, match="another midwife is changing"):
        library.add(str(path))
    library.add(str(path))


def test_a_download_waits_for_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with shelf.exclusive(tmp_path):
            held.set()
            release.wait(10)

    def wait(_: float) -> None:
        release.set()
        holder.join()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    monkeypatch.setattr("midwife.images.shelf.time.sleep", wait)
    with shelf.exclusive(tmp_path, wait=10):
        assert release.is_set(), "somebody else had it, and let go while we waited"


_BIG = """
import resource, sys
from pathlib import Path
from midwife.images.depot.kept.library import DepotLibrary
library = DepotLibrary(Path(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
library.add(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_payload_needs_little_memory(library: DepotLibrary, tmp_path: Path) -> None:
    made: MadeVib = vib("big", "1.0-1", vendor="Lab", payloads=[make_payload("big", bytes(60 << 20), "text")])
    (tmp_path / "big.vib").write_bytes(made.data)
    command = [sys.executable, "-c", _BIG, str(tmp_path / "big.vib"), str(library.root.parent)]
    grown = int(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    assert library.blobs.has(library.get("big").stored(made.id).payloads[0].sha256, 60 << 20)
    assert grown < 40_000, f"the import took {grown} KiB of memory"


def test_listing_opens_no_payload(library: DepotLibrary, esxi_bundle: Path) -> None:
    library.add(str(esxi_bundle), "x")
    for blob in library.blobs.root.rglob("*"):
        if blob.is_file():
            blob.unlink()
    depot = library.get("x")
    assert len(depot.packages) == depot.record.vibs
    assert depot.profiles
