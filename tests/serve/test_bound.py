"""What a reload cannot change keeps its running value, by name."""

from pathlib import Path
from typing import Any

from midwife.serve.control.bound import keep_bound
from midwife.site.load import load
from midwife.site.model import Site

from .conftest import make_site


def site(root: Path, **main: Any) -> Site:
    return load(make_site(root, **main)).site


def test_nothing_bound_has_changed(tmp_path: Path) -> None:
    ports = {name: {"listen": f"127.0.0.1:{port}"} for name, port in (("tftp", 1069), ("http", 1080))}
    ports["callback"] = {"listen": "127.0.0.1:1350"}
    running = site(tmp_path / "a", **ports)
    wanted = site(tmp_path / "b", **ports, deadlines={"loading": "5m"})
    kept, names = keep_bound(running, wanted)
    assert (kept, names) == (wanted, ())


def test_ports_stay_and_everything_else_is_taken(tmp_path: Path) -> None:
    running = site(tmp_path / "a", callback={"listen": "127.0.0.1:1350"})
    wanted = site(
        tmp_path / "b",
        callback={"listen": "127.0.0.1:1351", "unauthenticated": "push"},
        server={"address": "192.0.2.1", "data": "elsewhere"},
    )
    kept, names = keep_bound(running, wanted)
    assert set(names) >= {"callback.listen", "server.data", "tftp.listen", "http.listen"}
    assert kept.main.callback.listen == running.main.callback.listen
    assert kept.main.callback.unauthenticated == "push"
    assert kept.main.server.address == "192.0.2.1"
    assert kept.main.server.data == running.main.server.data
