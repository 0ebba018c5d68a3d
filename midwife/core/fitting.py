"""Is this image for this machine? The hardware requirements of the image profile that it was made of.

Auto Deploy checks the same before it deploys a profile. Vendor and model are compared as patterns compare them:
upper and lower case and blanks at either end do not count. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple

from midwife.core.facts import Facts
from midwife.images.objects.profile import HardwareRule
from midwife.images.profile.hardware import CONFLICTING

__all__ = ["Fitting", "fit"]


class Fitting(NamedTuple):
    """Neither set: the machine may boot the image."""

    refused: str = ""
    missing: tuple[str, ...] = ()
    """Attributes that must be known first."""


def fit(image: str, rules: Sequence[HardwareRule], facts: Facts) -> Fitting:
    """Whether a machine with these facts may boot this image; no rules: every machine may."""
    if not rules:
        return Fitting()
    if CONFLICTING in rules:
        return Fitting(f"image {image} is for no machine: its VIBs ask for hardware that excludes each other")
    if not facts.vendor:
        return _unknown(image, rules, facts, "vendor")
    found = [rule for rule in rules if _same(rule.vendor, facts.vendor)]
    if any(not rule.models for rule in found):
        return Fitting()
    if found and not facts.model:
        return _unknown(image, rules, facts, "model")
    if any(_same(model, facts.model) for rule in found for model in rule.models):
        return Fitting()
    return Fitting(
        f"image {image} is for {_wanted(rules)}; this one is {facts.vendor} {facts.model}".rstrip()
    )


def _unknown(image: str, rules: Sequence[HardwareRule], facts: Facts, name: str) -> Fitting:
    if name in facts.asked:
        return Fitting(f"image {image} is for {_wanted(rules)}; this one tells no {name}")
    fields = {"vendor": facts.vendor, "model": facts.model}
    models = any(rule.models for rule in rules)
    wanted = [one for one in fields if not fields[one] and (one == "vendor" or models)]
    return Fitting("", tuple(wanted))


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _wanted(rules: Sequence[HardwareRule]) -> str:
    told = [f"{rule.vendor} {', '.join(rule.models)}" if rule.models else rule.vendor for rule in rules]
    return f"{'; '.join(told)} machines"
