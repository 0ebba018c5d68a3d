"""The VIBs that a command means: files, or VIBs of the depot library by name or id; and whose signatures count.

For a file no site is needed. Everything is opened when it is asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from midwife.cli.common import printable
from midwife.cli.completion import vib_names
from midwife.cli.workshop import Workshop

if TYPE_CHECKING:
    from midwife.images.objects.package import SoftwarePackage
    from midwife.images.vib.content import Vib
    from midwife.images.vib.signing.trust import Anchors

__all__ = ["OpenedVib", "VibSource", "is_file", "vib_arguments"]


@dataclass(frozen=True, slots=True)
class OpenedVib:
    """A VIB and where it is from."""

    vib: "Vib | None"
    """None: an online depot lists it, and it was not downloaded."""
    source: str
    """Path of the file, or address or path of what the depot was made of."""
    depot: str = ""
    """"" for a file."""
    warnings: tuple[str, ...] = field(default=())
    """What was tolerated in the file."""

    @property
    def known(self) -> "Vib":
        """The VIB, where it was opened and not only looked at."""
        if self.vib is None:
            raise LookupError("a VIB that was looked at only")
        return self.vib


class VibSource:
    """Finds VIBs for a command. Methods raise ImageError, or end the command where the site is no site."""

    def __init__(self, site: Path) -> None:
        self._site = site

    @cached_property
    def workshop(self) -> Workshop:
        """The site's depots."""
        return Workshop(self._site)

    @contextmanager
    def open(self, text: str, depot: str | None = None) -> Iterator[OpenedVib]:
        """A VIB by path, id, NAME (the newest) or NAME=VERSION; of an online depot it is downloaded first."""
        if depot is None and is_file(text):
            from midwife.images.vib.container import VibFile

            with VibFile(Path(text)) as vib:
                yield OpenedVib(vib, text, warnings=vib.warnings)
            return
        found = self.workshop.catalogue.find(text, depot)
        yield self._of_depot(found.depot, found.package.id)

    @contextmanager
    def look(self, text: str, depot: str | None = None) -> "Iterator[tuple[SoftwarePackage, OpenedVib]]":
        """Like ``open``, with what is listed, and nothing is downloaded: ``vib`` is None if it is not here."""
        if depot is None and is_file(text):
            with self.open(text) as opened:
                yield opened.known.package, opened
            return
        found = self.workshop.catalogue.find(text, depot)
        stored = self.workshop.depots[found.depot]
        if stored.stored(found.package.id).here:
            yield found.package, self._of_depot(found.depot, found.package.id)
        else:
            yield found.package, OpenedVib(None, stored.source, found.depot)

    def of_depot(self, name: str) -> tuple[tuple[str, ...], int]:
        """The ids of a depot's VIBs whose bytes are here, and how many there are beside them."""
        from midwife.images.errors import ProfileError

        depot = self.workshop.depots.get(name)
        if depot is None:
            known = ", ".join(self.workshop.depots) or "none; `midwife depot add` brings one"
            raise ProfileError(f"there is no depot {name!r}; there are: {known}")
        records = [(record.id, record.here) for record in depot.records()]
        here = tuple(vib_id for vib_id, is_here in records if is_here)
        return here, len(records) - len(here)

    def anchors(self, more: tuple[str, ...] = ()) -> "Anchors":
        """VMware's, those of the site if there is one, and ``FILE`` or ``FILE=LEVEL`` of an option."""
        from midwife.images.objects.acceptance import AcceptanceLevel
        from midwife.images.vib.signing.trust import site_anchors

        is_site = (self._site / "midwife.yaml").is_file()
        anchors = site_anchors(self._site if is_site else None)
        for text in more:
            file, equals, word = text.rpartition("=")
            try:
                level = AcceptanceLevel.parse(word) if equals else None
            except ValueError as error:
                raise click.UsageError(f"--anchor {printable(text)}: {error}") from None
            if level is AcceptanceLevel.COMMUNITY:
                raise click.UsageError("--anchor: community VIBs are not signed; the least is partner")
            anchors = anchors.with_file(Path(file if equals else text), level)
        return anchors

    def _of_depot(self, name: str, vib_id: str) -> OpenedVib:
        depot = self.workshop.depots[name]
        return OpenedVib(depot.vib(vib_id), depot.source, name)


def vib_arguments(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """VIBs of the depots; paths where something like one was typed."""
    found = [] if "/" in incomplete else vib_names(context, parameter, incomplete)
    return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="file")]


def is_file(text: str) -> bool:
    """Whether a VIB argument means a file: ids and names of VIBs hold no slash and do not end in ``.vib``."""
    return text.endswith(".vib") or "/" in text
