"""``midwife push``: a person vouches for a host that cannot call; the real service customizes it over real SSH."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from ..peers.sshd import OpenSsh, running
from .conftest import HOST, Running, make_site
from .waiting import eventually

SECRETS = {"agent": "clear:very-secret-word"}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[OpenSsh]:
    """An installed host: up, reachable, and silent."""
    with running(OpenSsh(tmp_path / "machine")) as host:
        assert isinstance(host, OpenSsh)
        yield host


def with_lab(made: Running, ssh: dict[str, str], folder: Path) -> Running:
    """Its host is to be customized in two steps, the first with a secret; not started yet."""
    (made.site / "host-configurations").mkdir()
    (made.site / "host-configurations" / "lab.yaml").write_text(
        yaml.safe_dump(
            {
                "steps": [
                    {"name": "token", "content": "{{ secret('agent') }}", "to": str(folder / "token")},
                    {"name": "flag", "run": f"test -e {folder}/go || exit 7", "retries": "0"},
                ]
            }
        )
    )
    host = {"macs": "52:54:00:12:34:56", "boot": "local", "configuration": "lab", "ssh": ssh}
    (made.site / "hosts" / f"{HOST}.yaml").write_text(yaml.safe_dump(host))
    return made


@pytest.fixture
def ready_site(service: Callable[..., Running], machine: OpenSsh) -> Running:
    """A service whose host is that machine."""
    ssh = {"port": str(machine.port), "user": machine.user, "key": str(machine.key)}
    return with_lab(service(secrets=SECRETS), ssh, machine.home).start()


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for all pushes that it refuses, because they leave it as it is."""
    folder = tmp_path_factory.mktemp("refusing")
    logs = (folder / f"{number}.log" for number in itertools.count())
    running = with_lab(Running(make_site(folder / "site", secrets=SECRETS), logs), {}, folder)
    yield running.start()
    running.stop()


def test_a_person_vouches_and_the_host_is_customized(ready_site: Running, machine: OpenSsh) -> None:
    (machine.home / "go").touch()
    done = ready_site.cli("push", HOST, "--address", "127.0.0.1", "--host-key", machine.pins[0])
    assert done.returncode == 0, done.stderr
    assert "configuration lab is pushed to esx-01 at 127.0.0.1" in done.stdout
    eventually(lambda: ready_site.state() == "ready", "esx-01 to be ready")
    assert (machine.home / "token").read_text() == "very-secret-word"
    assert "very-secret-word" not in str(ready_site.timeline())


def test_a_failed_customization_is_pushed_again_with_what_is_known(
    ready_site: Running, machine: OpenSsh
) -> None:
    ready_site.cli("push", HOST, "--address", "127.0.0.1", "--host-key", machine.pins[0])
    eventually(lambda: ready_site.state() == "failed", "the second step to fail")
    (machine.home / "go").touch()  # somebody mended it
    again = ready_site.cli("push", HOST)
    assert again.returncode == 0, again.stderr
    eventually(lambda: ready_site.state() == "ready", "esx-01 to be ready")
    assert any("1/2 token: already so" in text for _, text in ready_site.timeline())


def test_another_host_key_than_the_person_said(ready_site: Running, machine: OpenSsh) -> None:
    ready_site.cli("push", HOST, "--address", "127.0.0.1", "--host-key", "SHA256:" + "A" * 43)
    eventually(lambda: ready_site.state() == "failed", "the push to be refused by its pin")
    assert not (machine.home / "token").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("esx-99", "--address", "127.0.0.1"), "no host file is called 'esx-99'"),
        ((HOST, "--address", "127.0.0.1"), "no SSH host key of esx-01 is known"),
        ((HOST, "--host-key", "SHA256:" + "A" * 43), "where is esx-01? Give --address"),
        (
            (HOST, "--address", "here", "--host-key", "SHA256:" + "A" * 43),
            "'here' is not an IPv4 or IPv6 address",
        ),
        ((HOST, "--address", "127.0.0.1", "--host-key", "nonsense"), "write it as SHA256:"),
    ],
)
def test_what_is_refused_says_what_to_do(refusing: Running, words: tuple[str, ...], told: str) -> None:
    done = refusing.cli("push", *words)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert refusing.state() == "local"


def test_without_a_service(service: Callable[..., Running]) -> None:
    done = service().cli("push", HOST)
    assert done.returncode == 1
    assert "no midwife serve is running" in done.stderr
