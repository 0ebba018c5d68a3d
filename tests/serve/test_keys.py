"""The service's own secrets: made once, never readable by others, and never taken when they are damaged."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from midwife.serve.datadir import DataDirError, lock_data_dir
from midwife.serve.keys import KeyFileError, ServiceKeys


def test_keys_are_made_once_and_read_again(tmp_path: Path) -> None:
    first, second = ServiceKeys.open(tmp_path), ServiceKeys.open(tmp_path)
    assert first == second
    assert len(first.secret) == 32
    assert ServiceKeys.open(tmp_path / "other").secret != first.secret


def test_nobody_else_can_read_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ServiceKeys.open(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    for path in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_openssh_reads_the_key_and_agrees_on_its_public_half(tmp_path: Path) -> None:
    if not shutil.which("ssh-keygen"):
        pytest.skip("no ssh-keygen on this machine")
    keys = ServiceKeys.open(tmp_path)
    said = subprocess.run(
        ["ssh-keygen", "-y", "-f", keys.ssh_key], capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[:2] == keys.public_key.split()[:2]


def test_a_draft_that_a_crash_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "token.new").write_bytes(b"half")
    (tmp_path / "keys" / "id_ed25519.new").write_bytes(b"half")
    assert len(ServiceKeys.open(tmp_path).secret) == 32
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["id_ed25519", "token.secret"]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 31])
def test_a_secret_that_everybody_could_guess_is_refused(tmp_path: Path, content: bytes) -> None:
    ServiceKeys.open(tmp_path)
    (tmp_path / "keys" / "token.secret").write_bytes(content)
    with pytest.raises(
        KeyFileError, match=rf"token\.secret has {len(content)} bytes instead of 32; delete it"
    ):
        ServiceKeys.open(tmp_path)


@pytest.mark.parametrize("damage", ["garbage", "empty", "passphrase", "public"])
def test_a_damaged_key_is_named_and_not_quoted(tmp_path: Path, damage: str) -> None:
    keys = ServiceKeys.open(tmp_path)
    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"hunter2")
    )
    keys.ssh_key.write_bytes(
        {"garbage": b"rubbish", "empty": b"", "passphrase": locked, "public": keys.public_key.encode()}[
            damage
        ]
    )
    with pytest.raises(KeyFileError, match="is no SSH private key without passphrase") as caught:
        ServiceKeys.open(tmp_path)
    assert str(keys.ssh_key) in str(caught.value)
    assert "rubbish" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secrets_are_not_in_what_is_printed(tmp_path: Path) -> None:
    keys = ServiceKeys.open(tmp_path)
    assert repr(keys) == f"ServiceKeys({keys.ssh_key})"
    assert repr(keys.secret) not in f"{keys} {keys!r}"


# the data directory's lock


def test_the_data_directory_is_ours_alone(tmp_path: Path) -> None:
    data = tmp_path / "site" / "data"
    lock = lock_data_dir(data)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    with pytest.raises(DataDirError, match=rf"in use by another midwife serve \(process {os.getpid()}\)"):
        lock_data_dir(data)
    lock.release()
    again = lock_data_dir(data)
    assert not again.crashed, "the one before ended in order"
    os.close(again.fd)  # as kill -9 does
    after = lock_data_dir(data)
    assert after.crashed
    after.release()


def test_a_data_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataDirError, match=r"data: File exists; set server\.data"):
        lock_data_dir(tmp_path / "data")


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(DataDirError, match="No space left on device; make room"):
            lock_data_dir(tmp_path / "data")
    lock_data_dir(tmp_path / "data").release()
