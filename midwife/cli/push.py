"""``midwife push``: customize a host that is up now, without waiting for its call."""

import socket
from pathlib import Path

import click

from midwife.cli.common import fail, site_option
from midwife.cli.observed import data_dir

__all__ = ["command"]

_PATIENCE = 15.0  # seconds


@click.command("push")
@click.argument("host")
@click.option(
    "--address", default="", help="Where it is.  [default: its file's address, else its last caller's]"
)
@click.option(
    "--host-key",
    "keys",
    multiple=True,
    metavar="SHA256:…",
    help="Its SSH host key, as ssh-keygen -l prints it on its console; may be given more than once.  "
    "[default: the keys of its last authenticated callback]",
)
@site_option
def command(host: str, address: str, keys: tuple[str, ...], site: Path) -> None:
    """Push the configuration of HOST now: you say that it is up, and which host key is its own.

    For hosts that cannot call (installed, with Secure Boot) and after a customization that failed. Steps whose
    work is done already change nothing.
    """
    from midwife.serve.messages import Push, Pushed, decode, encode

    path = data_dir(site) / "control.sock"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(_PATIENCE)
            line.connect(str(path))
            line.sendall(encode(Push(1, host, address, list(keys))))
            with line.makefile("rb") as answers:
                for answer in map(decode, answers):
                    if isinstance(answer, Pushed) and not answer.ok:
                        fail(answer.text)
                    if isinstance(answer, Pushed):
                        click.echo(f"{answer.text}; follow it with midwife events -f {host}")
                        return
    except PermissionError:
        fail(f"{path}: only the user that midwife serve runs as may push")
    except (FileNotFoundError, ConnectionRefusedError):
        fail(f"no midwife serve is running for {site}")
    except (OSError, ValueError) as error:
        fail(f"{path}: {error}")
    fail("the service is being restarted; try again")
