"""rules.yaml as the commands of ``midwife rule`` and ``midwife ruleset`` change it: read, proved, written, told.

A change that would make the site worse is refused, and one of the active set if the site has any error then. An
activation reaches a running service as ``midwife reload`` does: what is booting goes on.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from midwife.cli.common import SiteRefused, fail, printable, site_path
from midwife.cli.profilecheck import invalid_profiles
from midwife.cli.reload import ask_to_reload
from midwife.cli.tables import count

if TYPE_CHECKING:
    from midwife.rules.sets import RuleSets
    from midwife.site.model import Rule, Site
    from midwife.site.problems import Problem
    from midwife.site.rulesfile import RulesFile

__all__ = ["Proof", "activate_option", "at_option", "open_rules", "proved", "rule_names", "store", "told"]


@dataclass(frozen=True, slots=True)
class Proof:
    """What will be written, and the site as it is then."""

    raw: bytes
    site: "Site | None"
    """None: other files of the site have errors, which are none of this change's."""
    fresh: "tuple[Problem, ...]"
    """Warnings that the site does not have yet."""


activate_option = click.option(
    "--activate",
    is_flag=True,
    help="Activate the working set then, all of it, with whatever else is pending.",
)
at_option = click.option(
    "--at",
    type=click.IntRange(min=0),
    metavar="N",
    help="Index in the working set; 0 comes first.  [default: at its end]",
)


@contextmanager
def told() -> Iterator[None]:
    """Ends the command with what is wrong with a rule, a set or the file."""
    from midwife.rules.sets import SetError
    from midwife.site.rulesfile import RulesFileError

    try:
        yield
    except (SetError, RulesFileError) as error:
        fail("\n".join(printable(line) for line in str(error).split("\n")))


def open_rules(site: Path) -> "RulesFile":
    """The rules of a site, which may have errors elsewhere. Ends the command if rules.yaml has."""
    from midwife.site.rulesfile import read

    if not (site / "midwife.yaml").exists():
        fail(
            f"{site} is not a site directory; name one with --site or MIDWIFE_SITE, or make one: midwife init"
        )
    with told():
        return read(site)


def proved(file: "RulesFile", sets: "RuleSets[Rule]") -> Proof:
    """The text that says ``sets``. Ends the command if the site must not have it; nothing was written then."""
    from midwife.site.load import SiteError, load
    from midwife.site.rulesfile import changed

    with told():
        raw = changed(file, sets)
    try:
        loaded = load(file.root, rules=raw)
    except SiteError as error:
        if sets.rules("active") != file.sets.rules("active"):
            raise SiteRefused(file.root, error) from None
        fresh = _fresh(error.problems, file)
        if errors := [problem for problem in fresh if problem.level == "error"]:
            fail("\n".join(_named(problem, sets) for problem in errors) + "\nnothing was written")
        return Proof(raw, None, tuple(fresh))
    if sets.rules("active") != file.sets.rules("active"):
        images = {rule.items.image for rule in sets.rules("active") if rule.items.image}
        if invalid := list(invalid_profiles(file.root, images)):
            fail("\n".join(map(str, invalid)) + "\nthe active set stays as it is; nothing was written")
    return Proof(raw, loaded.site, tuple(_fresh(loaded.warnings, file)))


def store(file: "RulesFile", sets: "RuleSets[Rule]", proof: Proof | None = None) -> None:
    """Write the sets, and let a running service take a new active set. Ends the command if that must not be."""
    from midwife.site.rulesfile import write_text

    if sets == file.sets:
        click.echo("rules.yaml says that already; nothing was written")
        return
    proof = proof or proved(file, sets)
    with told():
        write_text(file, proof.raw)
    for problem in proof.fresh:
        click.echo(str(problem), err=True)
    if sets.rules("active") != file.sets.rules("active"):
        number = len(sets.active)
        click.echo(f"the active set has {count(number, 'rule')} now: {_listed(sets.active)}")
        if ask_to_reload(file.root, "rules.yaml is written, but "):
            click.echo("told the service; hosts get what it gives when they boot next")
        else:
            click.echo("no midwife serve is running; it reads the rules when it starts")
    elif sets.pending and sets.working != file.sets.working:
        click.echo(
            "the working set differs from the active one: midwife ruleset diff, midwife ruleset activate"
        )


def rule_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """For shell completion; silent about every error."""
    from midwife.site.rulesfile import read

    try:
        sets = read(site_path(context.params.get("site"))).sets
        return sorted(rule.name for rule in sets.every if rule.name.startswith(incomplete))
    except Exception:  # whatever is wrong with the file, the command itself will say
        return []


def _fresh(after: "Sequence[Problem]", file: "RulesFile") -> "list[Problem]":
    """Problems of rules.yaml that are not there now; a rule that is moved takes its own with it."""
    from midwife.site.load import SiteError, load

    ours = [problem for problem in after if problem.file == "rules.yaml"]
    if not ours:
        return []
    try:
        before = load(file.root).warnings
    except SiteError as error:
        before = error.problems

    def key(problem: "Problem") -> str:
        return re.sub(r"^(rules|active|working)\.[0-9]+", r"\1", problem.what)

    known = Counter(key(problem) for problem in before)
    found = []
    for problem in ours:
        if known[key(problem)]:
            known[key(problem)] -= 1
        else:
            found.append(problem)
    return found


def _named(problem: "Problem", sets: "RuleSets[Rule]") -> str:
    """Without its place, which is in a text that nobody has seen, but with the name of the rule."""

    def name(match: re.Match[str]) -> str:
        return f"rule {sets.every[int(match[1])].name!r}: "

    what = re.sub(r"^rules\.([0-9]+)\.", name, problem.what)
    return printable(f"{what}; {problem.hint}" if problem.hint else what)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:8])
    return f"{shown}, …" if len(names) > 8 else shown or "no rule decides any more"
