"""Loads a site directory: midwife.yaml, hosts/, host-configurations/, image-profiles/ and rules.yaml, as a whole.

All problems are found in one go and carry file, line and column. Loading reads files and looks at this
machine's addresses and environment variable names; it writes nothing, sends nothing and resolves no secret.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from midwife.site.checks.bundles import check_script_bundles
from midwife.site.checks.hosts import check_hosts
from midwife.site.checks.imageprofiles import check_image_profiles
from midwife.site.checks.images import check_images, check_kernel_lines, check_references
from midwife.site.checks.network import check_network
from midwife.site.checks.pins import check_pins, pins
from midwife.site.checks.rules import check_rules, rule_sets
from midwife.site.checks.secrets import check_secrets
from midwife.site.checks.steps import check_steps, check_templates
from midwife.site.draft import Draft, read_draft
from midwife.site.model import Site
from midwife.site.problems import Problem, SiteError, in_order

__all__ = ["LoadedSite", "Problem", "SiteError", "imported_images", "load"]


@dataclass(frozen=True, slots=True)
class LoadedSite:
    """A site without errors, and what is doubtful in it."""

    site: Site
    warnings: tuple[Problem, ...] = ()


def load(
    root: Path,
    imported: Collection[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    rules: bytes | None = None,
) -> LoadedSite:
    """The site in this directory.

    ``imported``: names of the imported images; None: those that are found in the site's data directory.
    ``rules``: what rules.yaml would say, to see what is wrong with that before it is written.
    Raises SiteError with every problem (warnings too) if there is an error among them.
    """
    draft = read_draft(root.absolute(), rules)
    draft.imported = set(imported_images(draft.data) if imported is None else imported)
    draft.problems += _checks(draft, environ)
    if draft.main is None or any(problem.level == "error" for problem in draft.problems):
        raise SiteError(draft.problems)
    sets = rule_sets(draft)
    site = Site(
        root=draft.root,
        main=draft.main.value,
        hosts=tuple(found.value for found in draft.hosts),
        rules=sets.rules("active"),
        rule_sets=sets,
        pins=pins(draft),
        configurations={found.value.name: found.value for found in draft.configurations},
        image_profiles=tuple(found.value for found in draft.image_profiles),
    )
    return LoadedSite(site, in_order(draft.problems))


def imported_images(data: Path) -> frozenset[str]:
    """Names of the images in ``<data>/images``; none where that does not exist or must not be read."""
    try:
        found = [entry.parent.name for entry in (data / "images").glob("*/image.json")]
    except OSError:
        return frozenset()
    return frozenset(name for name in found if not name.startswith("."))  # .tmp-…: an import under way


def _checks(draft: Draft, environ: Mapping[str, str]) -> Iterator[Problem]:
    yield from check_hosts(draft)
    yield from check_images(draft)
    yield from check_references(draft)
    yield from check_kernel_lines(draft)
    yield from check_image_profiles(draft)
    yield from check_rules(draft)
    yield from check_pins(draft)
    yield from check_script_bundles(draft)
    yield from check_steps(draft)
    yield from check_templates(draft)
    yield from check_secrets(draft, environ)
    yield from check_network(draft)
