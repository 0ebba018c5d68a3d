"""Does every rule of rules.yaml have a name of its own and something to say; do the rule sets name rules?"""

from collections.abc import Iterator, Sequence

from midwife.rules.sets import RuleSets
from midwife.rules.shadows import shadows
from midwife.site.draft import Draft, Found
from midwife.site.model import Rule
from midwife.site.problems import Problem, nearest

__all__ = ["check_names", "check_rules", "rule_sets"]


def rule_sets(draft: Draft) -> RuleSets[Rule]:
    """The sets, as far as their rules could be read. Without ``active:`` all rules are active, in their order."""
    rules = {found.value.name: found.value for found in draft.rules}
    active = tuple(rules) if draft.active is None else draft.active.value
    working = active if draft.working is None else draft.working.value
    return RuleSets(
        tuple(rules.values()),
        tuple(name for name in dict.fromkeys(active) if name in rules),
        tuple(name for name in dict.fromkeys(working) if name in rules),
    )


def check_rules(draft: Draft) -> Iterator[Problem]:
    """All that is wrong with them, and rules and sets without effect (warnings)."""
    yield from check_names(draft)
    yield from _shadowed(draft)


def check_names(draft: Draft) -> Iterator[Problem]:
    """Duplicate names, sets with unknown rules (errors); rules and sets that give nothing (warnings)."""
    names: dict[str, str] = {}
    for found in draft.rules:
        rule, place = found.value, found.place
        first = names.setdefault(rule.name.lower(), place.line)
        if first != place.line:
            what = f"the rule name {rule.name!r} is already that of {first}"
            yield place.at("name").problem(what, "rename one of them")
        if found.whole and not rule.items.given():
            what, hint = f"rule {rule.name!r} gives nothing", "add image, configuration or boot to its items"
            yield place.problem(what, hint, level="warning")
    for kind, listed in (("active", draft.active), ("working", draft.working)):
        if listed is not None:
            yield from _check_set(draft, kind, listed)


def _check_set(draft: Draft, kind: str, listed: Found[tuple[str, ...]]) -> Iterator[Problem]:
    known = {found.value for found in draft.rule_names}
    if not listed.value and known:
        what = f"the {kind} rule set is empty: no rule gives a host anything"
        hint = f"name rules in it, or take {kind}: out: then "
        hint += "all rules are active" if kind == "active" else "it is as the active set"
        yield listed.place.problem(what, hint, level="warning")
    first: dict[str, int] = {}
    for index, name in enumerate(listed.value):
        place = listed.place.at(index)
        if name not in known:
            yield place.problem(f"{place.name}: there is no rule {name!r}", nearest(name, known))
        elif first.setdefault(name, index) != index:
            what = f"{place.name}: rule {name!r} is already at index {first[name]} of this set"
            yield place.problem(what, "a rule has one place in a set; take one out")


def _shadowed(draft: Draft) -> Iterator[Problem]:
    """Of both sets, each rule once."""
    sets = rule_sets(draft)
    found = {rule.value.name: rule for rule in draft.rules}
    told: set[str] = set()
    working = sets.working if sets.pending else ()
    for which, names in (("", sets.active), (" in the working set", working)):
        # A rule that lost a pattern would match too much.
        whole = [found[name] for name in names if found[name].whole]
        for index, by in _shadows([rule.value for rule in whole]):
            rule = whole[index]
            if rule.value.name in told:
                continue
            told.add(rule.value.name)
            never = f"rule {rule.value.name!r} never has an effect{which}"
            what = f"{never}: {by} above it takes every host it matches"
            yield rule.place.problem(what, "put it above, or delete it", level="warning")


def _shadows(rules: Sequence[Rule]) -> Iterator[tuple[int, str]]:
    for shadow in shadows(rules):
        yield shadow.index, ", ".join(repr(name) for name in shadow.by)
