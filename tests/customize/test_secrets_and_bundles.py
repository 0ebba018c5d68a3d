"""References to secrets become secrets late; files come from bundles/ and nowhere else."""

import hashlib
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from midwife.core.plan import BundleError
from midwife.customize.bundles import BundleFolder
from midwife.customize.errors import SecretError
from midwife.customize.masking import Masker
from midwife.customize.secrets import Secrets


def test_each_kind_of_reference(tmp_path: Path, masker: Masker) -> None:
    (tmp_path / "licence").write_text("AAAAA-BBBBB\n")
    (tmp_path / "licence").chmod(0o600)
    references = {
        "e": "env:ROOTPW",
        "f": f"file:{tmp_path}/licence",
        "r": "file:licence",
        "c": "clear:throwaway",
    }
    secrets = Secrets(references, root=tmp_path, environ={"ROOTPW": "from-env"})
    assert [secrets.named(name, masker) for name in "efrc"] == [
        "from-env",
        "AAAAA-BBBBB",
        "AAAAA-BBBBB",
        "throwaway",
    ]
    assert masker.mask("from-env AAAAA-BBBBB throwaway") == "<secret e> <secret f> <secret c>"
    assert "throwaway" not in repr(secrets)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("env:ROOTPW", "environment variable ROOTPW is not set"),
        ("file:/nonexistent/x", "No such file"),
        ("file:/dev/null", "is not a file"),
        ("clear:abc", "shorter than 4"),
        ("hunter22", "not a reference"),
    ],
)
def test_a_secret_that_cannot_be_had(reference: str, says: str, masker: Masker) -> None:
    with pytest.raises(SecretError, match=says) as caught:
        Secrets({"x": reference}, environ={}).named("x", masker)
    assert "hunter22" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_fifo_does_not_hang_us_and_binary_is_refused(tmp_path: Path, masker: Masker) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfd\xfc\xfb")
    (tmp_path / "huge").write_bytes(b"x" * 70_000)
    for name, says in (("fifo", "not a file"), ("binary", "not UTF-8"), ("huge", "larger than")):
        with pytest.raises(SecretError, match=says):
            Secrets({"x": f"file:{name}"}, root=tmp_path).named("x", masker)


def test_a_secret_that_everybody_can_read_is_warned_of(tmp_path: Path, masker: Masker) -> None:
    (tmp_path / "pw").write_text("open secret")
    (tmp_path / "pw").chmod(0o644)
    with capture_logs() as logs:
        Secrets({"x": "file:pw"}, root=tmp_path).named("x", masker)
    assert [log["event"] for log in logs] == ["everybody can read a secret; chmod 600"]
    assert "open secret" not in str(logs)


def test_files_come_from_the_bundles_directory_only(
    tmp_path: Path, bundle_dir: Path, bundles: BundleFolder
) -> None:
    (tmp_path / "outside").write_text("private")
    (bundle_dir / "sub").mkdir()
    (bundle_dir / "sub" / "a.vib").write_bytes(b"vib")
    (bundle_dir / "inner-link").symlink_to("sub/a.vib")
    (bundle_dir / "escape").symlink_to("../outside")
    (bundle_dir / "loop").symlink_to("loop")
    (bundle_dir / "dir-escape").symlink_to("..")
    assert bundles.digest("sub/a.vib") == hashlib.sha256(b"vib").hexdigest()
    assert bundles.digest("inner-link") == bundles.digest("sub/a.vib")
    for path in (
        "../outside",
        "escape",
        "dir-escape/outside",
        str(tmp_path / "outside"),
        "sub/../../outside",
    ):
        with pytest.raises(BundleError, match="leads out of the bundles directory"):
            bundles.digest(path)
    for path in ("missing", "sub", "loop", "a\0b", ""):
        with pytest.raises(BundleError):
            bundles.digest(path)


def test_a_template_is_text(bundle_dir: Path, bundles: BundleFolder) -> None:
    (bundle_dir / "t").write_bytes(b"ok \xff")
    (bundle_dir / "big").write_bytes(b"x" * (1024 * 1024 + 1))
    with pytest.raises(BundleError, match="byte 3"):
        bundles.text("t")
    with pytest.raises(BundleError, match="too large for a template"):
        bundles.text("big")
