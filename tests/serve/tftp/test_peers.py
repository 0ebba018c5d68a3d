"""Other people's TFTP clients load from the live server: every byte is compared."""

import shutil
import subprocess
from pathlib import Path

import pytest
import tftpy

from .conftest import Control, Server

needs_tftp_hpa = pytest.mark.skipif(not shutil.which("tftp"), reason="tftp-hpa is not installed")
needs_atftp = pytest.mark.skipif(not shutil.which("atftp"), reason="atftp is not installed")
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
NAMES = ["empty", "exact", "boot.cfg", "mboot.efi"]


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


class TestTftpy:
    @pytest.mark.parametrize("options", [{}, {"blksize": 1468}, {"blksize": 1432, "tsize": 0}])
    @pytest.mark.parametrize("name", NAMES)
    def test_loads(self, name: str, options: dict, server: Server, tree: Path, tmp_path: Path) -> None:
        client = tftpy.TftpClient(*server.address, options=dict(options))
        client.download(name, str(tmp_path / "got"))
        assert (tmp_path / "got").read_bytes() == (tree / name).read_bytes()

    def test_is_told_what_is_not_there(self, server: Server, tmp_path: Path) -> None:
        client = tftpy.TftpClient(*server.address)
        with pytest.raises(tftpy.TftpShared.TftpException, match="File not found"):
            client.download("nothing", str(tmp_path / "got"))

    def test_may_not_write(self, server: Server, tree: Path) -> None:
        client = tftpy.TftpClient(*server.address)
        before = (tree / "boot.cfg").read_bytes()
        with pytest.raises(tftpy.TftpShared.TftpException, match=r"[Aa]ccess"):
            client.upload("boot.cfg", str(tree / "ks.cfg"))
        assert (tree / "boot.cfg").read_bytes() == before


@needs_tftp_hpa
class TestTftpHpa:
    @pytest.mark.parametrize("address", ["address", "address6"])
    @pytest.mark.parametrize("name", NAMES)
    def test_loads(self, name: str, address: str, server: Server, tree: Path, tmp_path: Path) -> None:
        host, port = getattr(server, address)
        run("tftp", "-m", "binary", host, port, "-c", "get", name, cwd=tmp_path)
        assert (tmp_path / name).read_bytes() == (tree / name).read_bytes()

    def test_netascii_comes_out_as_it_went_in(self, server: Server, tree: Path, tmp_path: Path) -> None:
        host, port = server.address
        run("tftp", "-m", "netascii", host, port, "-c", "get", "ks.cfg", cwd=tmp_path)
        assert (tmp_path / "ks.cfg").read_bytes() == (tree / "ks.cfg").read_bytes()


@needs_atftp
class TestAtftp:
    @pytest.mark.parametrize("window", [1, 4, 16, 64])
    @pytest.mark.parametrize("name", ["exact", "s.v00"])
    def test_loads_by_windows(
        self, name: str, window: int, server: Server, control: Control, tree: Path, tmp_path: Path
    ) -> None:
        host, port = server.address
        options = ["blksize 1468", "tsize 0", f"windowsize {window}"]
        words = [word for option in options for word in ("--option", option)]
        run("atftp", *words, "--get", "-r", name, "-l", tmp_path / "got", host, port, cwd=tmp_path)
        assert (tmp_path / "got").read_bytes() == (tree / name).read_bytes()
        negotiated = f"tsize={(tree / name).stat().st_size} blksize=1468 windowsize={window}"
        control.report("started", name, detail=negotiated)

    def test_loads_past_the_rollover(self, server: Server, tree: Path, tmp_path: Path) -> None:
        host, port = server.address
        words = ["--option", "blksize 8", "--option", "windowsize 32"]
        run("atftp", *words, "--get", "-r", "rollover", "-l", tmp_path / "got", host, port, cwd=tmp_path)
        assert (tmp_path / "got").read_bytes() == (tree / "rollover").read_bytes()


@needs_curl
class TestCurl:
    @pytest.mark.parametrize("blksize", [8, 512, 1468, 65464])
    @pytest.mark.parametrize("address", ["address", "address6"])
    def test_loads(self, address: str, blksize: int, server: Server, tree: Path, tmp_path: Path) -> None:
        host, port = getattr(server, address)
        where = f"[{host}]" if ":" in host else host
        url = f"tftp://{where}:{port}//a/k3v9/mboot.efi"
        run("curl", "-sS", "--tftp-blksize", blksize, "-o", "got", url, cwd=tmp_path)
        assert (tmp_path / "got").read_bytes() == (tree / "mboot.efi").read_bytes()

    def test_loads_without_options(self, server: Server, tree: Path, tmp_path: Path) -> None:
        host, port = server.address
        url = f"tftp://{host}:{port}/mboot.efi"
        run("curl", "-sS", "--tftp-no-options", "-o", "got", url, cwd=tmp_path)
        assert (tmp_path / "got").read_bytes() == (tree / "mboot.efi").read_bytes()
