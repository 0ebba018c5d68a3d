"""``midwife vib build``: a folder becomes a VIB. The options are the keys of vib.yaml.

docs/how-to/build-a-vib.md tells which hosts take the result.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from midwife.cli.common import fail, printable
from midwife.cli.tables import count
from midwife.cli.workshop import told

if TYPE_CHECKING:
    from midwife.images.vib.making.spec import VibSpec

__all__ = ["build"]

F = TypeVar("F", bound=Callable[..., Any])

_TEXTS = {
    "name": "Name of the VIB.",
    "version": "VERSION or VERSION-RELEASE, as in 1.0.0-1.",
    "vendor": "Vendor: the first part of its id.",
    "summary": "One line.  [default: the name]",
    "description": "What it is for.  [default: the summary]",
    "release-date": "As in 2024-05-31T12:00:00Z.  [default: $SOURCE_DATE_EPOCH, else 1970]",
    "payload-name": "At most 15 letters, digits and _ . -  [default: eight characters of the name]",
}
_LISTS = {
    "depends": ("CONSTRAINT", "What must be there, as in 'esx-base >= 7.0.0'."),
    "conflicts": ("CONSTRAINT", "What must not be there."),
    "replaces": ("CONSTRAINT", "What it makes obsolete."),
    "provides": ("PROVIDE", "NAME or NAME = VERSION that others may depend on."),
    "tags": ("TAG", "A tag."),
    "hwplatform": ("VENDOR[:MODEL]", "Machines that it is for, as SMBIOS names them."),
}
_FLAGS = {
    "live-install-allowed": "It can be installed without a reboot.",
    "live-remove-allowed": "It can be removed without a reboot.",
    "maintenance-mode": "The host must be in maintenance mode for it.",
    "cimom-restart": "The CIM service must be restarted.",
    "stateless-ready": "It is fit for hosts that run from memory (Auto Deploy).",
}


def _spec_options(command: F) -> F:
    for key, help_ in reversed(_FLAGS.items()):
        command = click.option(f"--{key}", is_flag=True, default=None, help=help_)(command)
    for key, (metavar, help_) in reversed(_LISTS.items()):
        name = (f"--{key}",) if key != "tags" else ("--tag", "tags")
        command = click.option(*name, metavar=metavar, multiple=True, help=f"{help_} Repeatable.")(command)
    for key, help_ in reversed(_TEXTS.items()):
        command = click.option(f"--{key}", help=help_)(command)
    return command


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "out",
    metavar="FILE.vib",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The VIB to write.",
)
@click.option(
    "--spec",
    metavar="vib.yaml",
    type=click.Path(path_type=Path),
    help="Read all this from a file; options win.",
)
@_spec_options
@click.option("--url", "urls", metavar="TITLE=URL", multiple=True, help="A reference. Repeatable.")
@click.option(
    "--payload-type",
    type=click.Choice(["tgz", "vgz"]),
    help="Form of the payload; ESXi 8.0 refuses vgz of communities.  [default: tgz]",
)
@click.option(
    "--acceptance-level",
    type=click.Choice(["community", "partner", "accepted", "certified"]),
    help="What it claims; only a signature proves more than community.  [default: community]",
)
@click.option("--force", is_flag=True, help="Build it even if hosts will take it with -f only.")
def build(
    folder: Path,
    out: Path,
    spec: Path | None,
    urls: tuple[str, ...],
    payload_type: str | None,
    acceptance_level: str | None,
    force: bool,
    **options: Any,
) -> None:
    """Build a VIB from FOLDER, the tree as it appears on the host.

    Same folder and options, same bytes. The VIB is not signed.
    """
    from midwife.images.vib.making.build import build_vib
    from midwife.images.vib.paths import broken_path_rules

    options |= {"payload_type": payload_type, "acceptance_level": acceptance_level}
    given: dict[str, Any] = {
        key.replace("_", "-"): list(value) if isinstance(value, tuple) else value
        for key, value in options.items()
        if value
    }
    if urls:
        given["urls"] = _urls(urls)
    with told():
        package = build_vib(folder, out, _dated(spec, given), force=force)
    for broken in broken_path_rules(package):
        click.echo(f"warning: {printable(broken)}", err=True)
    (payload,) = package.payloads
    click.echo(f"{out}: {package.id}")
    files = count(len(package.files), "file")
    click.echo(
        f"{files} in the payload {payload.name} ({payload.type}, {payload.size} bytes), "
        f"{package.acceptance_level.documented}, not signed"
    )


def _urls(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        title, equals, url = text.partition("=")
        if not equals or not title or not url:
            raise click.UsageError(f"--url {printable(text)}: write TITLE=URL")
        found[title] = url
    return found


def _dated(path: Path | None, options: dict[str, Any]) -> "VibSpec":
    """The spec; without a date in it, that of reproducible-builds.org's SOURCE_DATE_EPOCH."""
    from midwife.images.vib.making.spec import read_spec

    spec = read_spec(path, options)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if spec.release_date is None and epoch:
        try:
            moment = datetime.fromtimestamp(int(epoch), UTC)
        except (ValueError, OverflowError, OSError):
            fail(f"SOURCE_DATE_EPOCH is {printable(epoch)!r}; it is a number of seconds since 1970")
        return spec.model_copy(update={"release_date": moment})
    return spec
