"""``midwife rule import``: an Auto Deploy's rules, written by boot/tools/export-autodeploy.ps1, into rules.yaml.

A site without rules gets both rule sets as they were; so does one with ``--replace``. Else the rules are added to
no set. What the site does not have yet is left out, as a comment, and told; as long as the active set lacks
something, the import makes no rule active.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import SiteRefused, fail, printable, site_option
from midwife.cli.rule.book import open_rules, told
from midwife.cli.tables import aligned, count

if TYPE_CHECKING:
    from midwife.rules.autodeploy import Export
    from midwife.rules.movein import Known, Moved, MovedRule
    from midwife.site.draft import Draft
    from midwife.site.rulesfile import RulesFile

__all__ = ["import_rules", "whole_text"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
_LEFT_OUT = 3
"""Exit code: something was left out."""


@click.command("import")
@click.argument("file", metavar="FILE.json", type=click.Path(path_type=Path))
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="OLD=NEW",
    help="What an image profile of Auto Deploy is called here. May be given more than once.",
)
@click.option(
    "--configuration",
    "configurations",
    multiple=True,
    metavar="OLD=NEW",
    help="Which host configuration stands for a host profile. May be given more than once.",
)
@click.option("--replace", "anew", is_flag=True, help="Put them in the place of all rules that the site has.")
@click.option("--dry-run", "dry", is_flag=True, help="Print what rules.yaml would say; write nothing.")
@site_option
def import_rules(
    file: Path, images: tuple[str, ...], configurations: tuple[str, ...], anew: bool, dry: bool, site: Path
) -> None:
    """Take over the rules of an Auto Deploy.

    FILE.json was written by boot/tools/export-autodeploy.ps1. Exit code 3: something was left out; what, and what
    to do about it, is printed.
    """
    from midwife.rules.autodeploy import ExportError, parse_export
    from midwife.rules.movein import move_in
    from midwife.site.draft import read_draft
    from midwife.site.load import SiteError, load
    from midwife.site.rulesfile import write_text

    try:
        export = parse_export(_read(file))
    except ExportError as error:
        fail(f"{file}: {printable(str(error))}")
    old = open_rules(site)
    moved = move_in(export, _known(read_draft(site), export, images, configurations))
    fresh = anew or not old.sets.every
    if fresh and not moved.complete and old.sets.active:
        _tell(moved, err=True)
        fail(
            "something of the export's active set is missing, and hosts that get something now would get "
            "nothing; bring it, or import without --replace: then no rule set changes"
        )
    with told():
        raw = whole_text(old.raw or b"", export, moved).encode() if fresh else _added(old, moved)
        try:
            load(site, rules=raw)  # with all its errors, before anything is written
        except SiteError as error:
            raise SiteRefused(site, error) from None
        if dry:
            click.echo(raw.decode(), nl=False)
        elif raw != old.raw:
            write_text(old, raw)
    _tell(moved, err=dry)
    click.echo(_summary(moved, fresh=fresh, dry=dry), err=dry)
    if moved.left_out:
        sys.exit(_LEFT_OUT)


def _read(file: Path) -> bytes:
    from midwife.rules.autodeploy import MAX_BYTES

    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        fail(f"{file}: {error.strerror}")


def _known(
    draft: "Draft", export: "Export", images: tuple[str, ...], configurations: tuple[str, ...]
) -> "Known":
    from midwife.rules.movein import Known
    from midwife.site.checks.bundles import bundle_file
    from midwife.site.load import imported_images
    from midwife.site.reserved import RESERVED_IMAGE_NAMES

    items = [item for rule in (*export.rules, *export.active, *export.working) for item in rule.items]
    try:
        bundles = [path.name for path in (draft.root / "bundles").iterdir()]
    except OSError:
        bundles = []
    return Known(
        images=frozenset(draft.image_names | imported_images(draft.data)),
        configurations=frozenset(draft.configuration_names),
        bundles=frozenset(name for name in bundles if not bundle_file(draft.root, name)[1]),
        reserved=RESERVED_IMAGE_NAMES,
        image_names=_names(
            "--image", images, {item.name for item in items if item.kind == "image-profile"}, "image profile"
        ),
        configuration_names=_names(
            "--configuration",
            configurations,
            {item.name for item in items if item.kind == "host-profile"},
            "host profile",
        ),
    )


def _names(option: str, given: tuple[str, ...], there: set[str], kind: str) -> dict[str, str]:
    names = {}
    for text in given:
        old, equals, new = text.rpartition("=")
        if not equals or not _NAME.fullmatch(new):
            raise click.UsageError(
                f"{option} {text!r}: write OLD=NEW; NEW has letters, digits and . _ - + only"
            )
        if old not in there:
            known = ", ".join(sorted(printable(name) for name in there)) or "none"
            fail(f"{option} {text!r}: the export has no {kind} {old!r}; it has {known}")
        names[old] = new
    return names


def whole_text(old: bytes, export: "Export", moved: "Moved") -> str:
    """A new rules.yaml; only the comments at the top of the old one stay."""
    from midwife.site.yamlwrite import scalar

    lines = [*_head(old), "rules:"]
    source = " ".join(part for part in ("Auto Deploy", export.server) if part)
    when = f", exported {export.exported}" if export.exported else ""
    lines.append(_comment(f"Moved from {source}{when}.", 2))
    parts = [one for rule in moved.rules for one in rule.left_out]
    lines += [
        _comment(f"Left out: rule {one.rule!r}, {one.what}: {one.why}", 2)
        for one in moved.left_out
        if one not in parts
    ]
    for rule in moved.rules:
        lines += ["", *_rule_lines(rule)] if rule is not moved.rules[0] else _rule_lines(rule)
    if not moved.rules:
        lines[lines.index("rules:")] = "rules: []"
    active = moved.active if moved.complete else ()
    lines.append("")
    if not moved.complete:
        order = ", ".join(moved.active)
        lines.append(
            _comment(f"Not active yet, because something is missing. Auto Deploy's active set: {order}", 0)
        )
    for which, names in (("active", active), ("working", moved.working)):
        if which == "active" or names != active:
            lines += [f"{which}:" if names else f"{which}: []", *(f"  - {scalar(name)}" for name in names)]
    return "\n".join(lines) + "\n"


def _head(raw: bytes) -> Iterator[str]:
    for line in raw.decode("utf-8-sig").splitlines():
        if line.strip() and not line.startswith("#"):
            return
        yield line.rstrip()


def _rule_lines(rule: "MovedRule") -> Iterator[str]:
    from midwife.site.yamlwrite import scalar

    yield f"  - name: {scalar(rule.name)}"
    if rule.patterns:
        yield "    patterns:"
        yield from (f"      - {scalar(pattern)}" for pattern in rule.patterns)
    else:
        yield "    patterns: all"
    yield "    items:" if rule.items else "    items: {}"
    yield from (f"      {kind}: {scalar(value)}" for kind, value in rule.items.items())
    for one in rule.left_out:
        yield _comment(f"{one.what} is left out: {one.why}", 6)
        if one.item:
            yield _comment(one.item, 6)


def _comment(text: str, column: int) -> str:
    return f"{' ' * column}# {printable(text)}"


def _added(old: "RulesFile", moved: "Moved") -> bytes:
    """The old file with the rules that it does not have, in no set. Ends the command if there are other ones."""
    from midwife.site.rulesfile import changed, make_rule

    sets, there = old.sets, {rule.name.casefold(): rule for rule in old.sets.every}
    new, other = [], []
    for one in moved.rules:
        rule = make_rule(one.name, one.patterns or None, one.items)
        known = there.get(rule.name.casefold())
        if known is None:
            new.append(rule)
        elif rule.model_copy(update={"name": known.name}) != known:
            other.append(known.name)
    if other:
        said = ", ".join(repr(name) for name in other)
        fail(
            f"the site has rules of these names that say something else: {said}; rename them, or take the whole "
            "export with --replace"
        )
    if not new:
        return old.raw or b""
    return changed(old, replace(sets, every=(*sets.every, *new)))


def _tell(moved: "Moved", *, err: bool) -> None:
    for sentence in moved.changed:
        click.echo(printable(sentence), err=err)
    if not moved.left_out:
        return
    rules: dict[tuple[str, str, str], list[str]] = {}
    for one in moved.left_out:
        rules.setdefault((one.what, one.why, one.do), []).append(one.rule)
    rows = [("LEFT OUT", "OF RULE", "WHY", "WHAT TO DO")]
    rows += [(what, ", ".join(names), why, do) for (what, why, do), names in rules.items()]
    for line in aligned(rows):
        click.echo(printable(line), err=err)


def _summary(moved: "Moved", *, fresh: bool, dry: bool) -> str:
    would = "would have" if dry else "has"
    if not fresh:
        return (
            f"rules.yaml {would} the rules of the export, in no rule set; look at them with midwife rule list, "
            "then midwife ruleset add"
        )
    if not moved.complete:
        return (
            f"rules.yaml {would} {count(len(moved.rules), 'rule')}, none of them active, because hosts could get "
            "what a later rule gives; bring what is missing, and import again with --replace"
        )
    return (
        f"rules.yaml {would} {count(len(moved.rules), 'rule')}, {len(moved.active)} of them active; "
        "a running service takes them with midwife reload"
    )
