"""A site with rules, and machines of which the database knows what they are and what they got."""

from pathlib import Path

from click.testing import CliRunner, Result

from midwife.cli.main import cli
from midwife.core.facts import Facts
from midwife.core.lifecycle import State
from midwife.store.records import Attempt, HostRow

from .sites import open_store, write_site

RULES = """\
# the lab's
rules:
  - name: dells
    patterns: [vendor=Dell Inc., "model=PowerEdge R6*"]
    items: {image: rescue, configuration: base}
  - name: racked
    patterns: label.rack=r7
    items: {configuration: full}   # for rack 7
  - name: next
    patterns: all
    items: {image: spare}
active: [dells, racked]
working: [next, dells]
"""
DELL = "02:00:00:00:01:01"
GOT = {"image": "rescue", "mode": "stateless", "configuration": "base", "reasons": []}


def make_site(root: Path) -> Path:
    write_site(root, "  spare:\n    kernel: vmlinuz\n")
    (root / "rules.yaml").write_text(RULES)
    for name in ("base", "full"):
        (root / f"host-configurations/{name}.yaml").write_text("steps: [{run: 'true'}]\n")
    return root


def seen(
    site: Path, name: str, facts: Facts, *answers: dict[str, object], state: State = State.READY
) -> None:
    """A machine that was seen, and what it got: at each boot, oldest first."""
    store = open_store(site)
    row = HostRow(name, ":" not in name, facts, State.DISCOVERED if not answers else state, 1.0, "", "", "")
    store.save_host(row)
    for number, answer in enumerate(answers):
        attempt = Attempt(f"{name}-{number}", name, State.READY, 1.0 + number, 2.0 + number, answer=answer)
        store.save_attempt(attempt)
    store.close()


def dell(site: Path, *answers: dict[str, object], **more: str) -> None:
    known = {"vendor": "Dell Inc.", "model": "PowerEdge R630", "serial": "D1", **more}
    seen(site, DELL, Facts(macs=(DELL,), **known), *answers)  # type: ignore[arg-type]


def rule(site: Path, *words: str | Path, stdin: str | None = None) -> Result:
    given = [str(word) for word in ("rule", *words, "--site", site)]
    return CliRunner().invoke(cli, given, input=stdin, catch_exceptions=False)
