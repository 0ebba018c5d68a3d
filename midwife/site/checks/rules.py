"""Does every rule of rules.yaml have a name of its own and something to say?"""

from collections.abc import Iterator

from midwife.rules.match import shadows
from midwife.site.draft import Draft
from midwife.site.problems import Problem

__all__ = ["check_rules"]


def check_rules(draft: Draft) -> Iterator[Problem]:
    """Duplicate names (errors); rules that give nothing or never come to their turn (warnings)."""
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
    whole = [found for found in draft.rules if found.whole]  # a rule that lost a pattern would match too much
    for shadow in shadows([found.value for found in whole]):
        found = whole[shadow.index]
        by = ", ".join(repr(name) for name in shadow.by)
        what = f"rule {found.value.name!r} never has an effect: {by} above it takes every host it matches"
        yield found.place.problem(what, "put it above, or delete it", level="warning")
