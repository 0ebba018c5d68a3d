"""The rule index against the plain walk over all rules, in one run, with equal answers for every host.

The walk is as lean as it can be while it says the same: patterns parsed beforehand, no reasons, it stops at a
rule's first pattern that does not match. Rules are mixed as a large farm has them: racks by address range,
hosts by serial number and MAC address, models by wildcard, a broad rule at the end. Then `midwife rule compliance`
of the same fleet, out of a database with a boot of each host: all but reading the site's files and printing.

    python bench/rules.py [rules] [hosts] [rounds]
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import insert

from midwife.cli.rule.compliance import reports_of
from midwife.cli.rule.machines import known_machines
from midwife.core.facts import Facts
from midwife.rules.index import RuleIndex
from midwife.rules.match import evaluate
from midwife.rules.patterns import Pattern, parse_pattern
from midwife.rules.values import canonical, holds
from midwife.site.model import Items, Main, Rule, Server, Site
from midwife.store.database import open_database
from midwife.store.tables import attempts, hosts

Machine = dict[str, tuple[str, ...]]
VENDORS = ("Dell Inc.", "HPE", "Lenovo", "Cisco Systems Inc", "Supermicro")
KINDS = ("image", "configuration", "boot")


def make_rules(count: int, dice: random.Random) -> list[Rule]:
    """60 % by value, 30 % by range, 10 % by wildcard or ``!=``; the last is for all."""
    made = []
    for number in range(count - 1):
        part = number % 10
        if part < 3:
            patterns = [f"serial=SN{dice.randrange(10_000):05}"]
        elif part < 5:
            patterns = [f"mac=52:54:00:{number >> 8:02x}:{number & 255:02x}:01"]
        elif part < 6:
            patterns = [f"vendor={dice.choice(VENDORS)}", f"model=Model {dice.randrange(400)}"]
        elif part < 9:
            patterns = [f"ipv4=10.{number >> 8}.{number & 255}.1-10.{number >> 8}.{number & 255}.200"]
        else:
            patterns = [dice.choice([f"model=Model {dice.randrange(400)}*", f"label.rack=r{number}*"])]
        items = Items(**{dice.choice(KINDS[:2]): f"item{number}"})
        made.append(Rule(name=f"rule {number}", patterns=tuple(patterns), items=items))
    rest = Items(image="default", configuration="base", boot="stateless")
    return [*made, Rule(name="the rest", patterns=(), items=rest)]


def make_machines(count: int, dice: random.Random) -> list[Machine]:
    """With everything known that the rules ask for."""
    return [
        {
            "serial": (f"SN{number:05}",),
            "mac": (f"52:54:00:{number >> 8 & 255:02x}:{number & 255:02x}:01",),
            "vendor": (dice.choice(VENDORS),),
            "model": (f"Model {dice.randrange(400)}",),
            "ipv4": (f"10.{dice.randrange(4)}.{dice.randrange(256)}.{dice.randrange(1, 255)}",),
            "label.rack": (f"r{number // 40}",),
        }
        for number in range(count)
    ]


class Walk:
    """Rule after rule, pattern after pattern."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = [
            (rule.name, [parse_pattern(text) for text in rule.patterns], rule.items.given()) for rule in rules
        ]

    def __call__(self, machine: Machine) -> Mapping[str, str]:
        """Item type to value."""
        items: dict[str, str] = {}
        for _, patterns, given in self.rules:
            if all(self.fits(pattern, machine) for pattern in patterns):
                for kind, value in given.items():
                    items.setdefault(kind, value)
        return items

    @staticmethod
    def fits(pattern: Pattern, machine: Machine) -> bool:
        """Whether any of the values is there."""
        facts = machine.get(pattern.attribute, ())
        kind = pattern.asks.kind
        found = any(holds(kind, value, canonical(kind, fact)) for value in pattern.values for fact in facts)
        return found is not pattern.negated


def timed(ask: Callable[[Machine], object], machines: Sequence[Machine]) -> float:
    """Microseconds of CPU for a machine."""
    start = time.process_time()
    for machine in machines:
        ask(machine)
    return (time.process_time() - start) / len(machines) * 1e6


def write_fleet(root: Path, machines: Sequence[Machine]) -> None:
    """A database in which every machine is known and has booted once: the default of the rules."""
    (root / "midwife.yaml").write_text("server: {address: 192.0.2.2}\n")
    (root / "data").mkdir()
    answer = {"image": "default", "mode": "stateless", "configuration": "base", "reasons": ["a rule"] * 4}
    files = {f"module{number}.v00": 1 << 20 for number in range(137)}
    rows, boots = [], []
    for number, machine in enumerate(machines):
        one = {name: values[0] for name, values in machine.items()}
        name, attempt = f"host-{number:05}", f"{number:08x}"
        facts = Facts(
            macs=machine["mac"],
            serial=one["serial"],
            vendor=one["vendor"],
            model=one["model"],
            ipv4=one["ipv4"],
        )
        row = {"id": name, "known": False, "state": "ready", "since": 1.0, "image": "default", "note": ""}
        rows.append({**row, "facts": facts.to_json(), "attempt": attempt})
        boot = {"id": attempt, "host": name, "state": "ready", "started": 1.0, "since": 2.0, "error": ""}
        boots.append(
            {**boot, "address": one["ipv4"], "answer": answer, "files": files, "sent": files, "pinned": []}
        )
    engine = open_database(root / "data/midwife.db")
    with engine.begin() as db:
        db.execute(insert(hosts), rows)
        db.execute(insert(attempts), boots)
    engine.dispose()


def compliance(rules: Sequence[Rule], machines: Sequence[Machine], rounds: int) -> tuple[float, int]:
    """Seconds of CPU of a whole run, and how many hosts differ, which must be those that the walk names."""
    walk, taken = Walk(rules), []
    seen = [
        {name: values for name, values in machine.items() if name != "label.rack"} for machine in machines
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_fleet(root, machines)
        site = Site(root=root, main=Main(server=Server(address="192.0.2.2")), rules=tuple(rules))
        for _ in range(rounds):
            start = time.process_time()
            reports = reports_of(site, site.rules, known_machines(site))
            taken.append(time.process_time() - start)
    default = {"image": "default", "configuration": "base", "boot": "stateless"}
    for report, machine in zip(reports, seen, strict=True):
        if bool(report.differences) != (walk(machine) != default):
            sys.exit(f"different answers for {machine}")
    return statistics.median(taken), sum(bool(report.differences) for report in reports)


def main() -> None:
    """Print medians of all rounds, and the ratio round by round."""
    count, size, rounds = (
        int(given) for given in [*sys.argv[1:], *("1000", "10000", "5")[len(sys.argv) - 1 :]]
    )
    dice = random.Random(1)
    rules, machines = make_rules(count, dice), make_machines(size, dice)
    walk = Walk(rules)
    start = time.process_time()
    index = RuleIndex(rules)
    built = time.process_time() - start
    for machine in machines:
        values = {kind: given.value for kind, given in index.evaluate(machine).items.items()}
        if values != walk(machine):
            sys.exit(f"different answers for {machine}")
    sample = machines[: max(1, min(size, 300_000 // count))]
    told, walked, looked_up = [], [], []
    for _ in range(rounds):
        told.append(timed(lambda machine: evaluate(rules, machine), sample[: max(1, len(sample) // 5)]))
        walked.append(timed(walk, sample))
        looked_up.append(timed(RuleIndex(rules).evaluate, machines))  # a new one, which remembers nothing yet
    ratios = [a / b for a, b in zip(walked, looked_up, strict=True)]
    print(f"{count} rules, {size} hosts, {rounds} rounds, equal answers for every host")
    print(f"walk with reasons (explain)  {statistics.median(told):9.1f} us a host")
    print(f"plain walk                   {statistics.median(walked):9.1f} us a host")
    print(
        f"index                        {statistics.median(looked_up):9.1f} us a host; made in {built * 1e3:.1f} ms"
    )
    print(
        f"plain walk / index: median {statistics.median(ratios):.0f} ({min(ratios):.0f}..{max(ratios):.0f})"
    )
    print(f"the whole fleet by index: {statistics.median(looked_up) * size / 1e6:.2f} s of CPU")
    took, different = compliance(rules, machines, rounds)
    print(f"midwife rule compliance: {took:.2f} s of CPU, {different} of {size} hosts differ")


if __name__ == "__main__":
    main()
