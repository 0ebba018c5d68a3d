"""rules.yaml changed by commands: it says what it should, and everything else in it stays as somebody wrote it."""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from midwife.rules.sets import RuleSets, SetError
from midwife.site.files import locked
from midwife.site.model import Rule
from midwife.site.rulesfile import (
    RulesFile,
    RulesFileError,
    changed,
    make_rule,
    parse,
    read,
    save,
    write_text,
)
from midwife.site.yamlwrite import scalar

WRITTEN = """\
# Rack 7 is special. Ask Ann.
rules:
  # the old ones
  - name: dells     # all of them
    patterns:
      - vendor=Dell Inc.
      - model=R630  # no R730 left
    items: {image: old, boot: stateless}

  - name: spare
    items:
      configuration: base   # for now
      image: new
    patterns: all

  - {name: rest, patterns: all, items: {image: new}}
# the end
"""

NO_RULES: tuple[Rule, ...] = ()

Change = Callable[[RuleSets[Rule]], RuleSets[Rule]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(WRITTEN)
    return tmp_path


def after(root: Path, *changes: Change) -> str:
    for change in changes:
        file = read(root)
        save(file, change(file.sets))
    return (root / "rules.yaml").read_text()


def test_nothing_changed_is_nothing_written(root: Path) -> None:
    assert after(root, lambda sets: sets) == WRITTEN


def test_a_new_rule_stands_at_its_place_and_the_file_needs_no_sets(root: Path) -> None:
    rule = make_rule("hp", ["vendor=HPE"], {"image": "new", "script-bundle": "lab.tgz"})
    text = after(root, lambda sets: sets.create(rule, working=True, at=1).activate())
    assert text == WRITTEN.replace(
        "  - name: spare\n",
        "  - name: hp\n    patterns:\n      - vendor=HPE\n    items:\n      image: new\n"
        "      script-bundle: lab.tgz\n\n  - name: spare\n",
    )


def test_a_rule_in_no_set_makes_the_sets_explicit(root: Path) -> None:
    text = after(root, lambda sets: sets.create(make_rule(".later", None, {"boot": "local"})))
    assert text == WRITTEN.replace(
        "# the end\n",
        '\n  - name: ".later"\n    patterns: all\n    items:\n      boot: local\n'
        "\nactive:\n  - dells\n  - spare\n  - rest\n# the end\n",
    )


def test_working_stands_there_only_while_it_differs(root: Path) -> None:
    staged = after(root, lambda sets: sets.order(["rest", "dells", "spare"]))
    assert staged == WRITTEN.replace("# the end\n", "\nworking:\n  - rest\n  - dells\n  - spare\n# the end\n")
    assert after(root, lambda sets: sets.order(["dells", "spare", "rest"])) == WRITTEN


def test_activation_moves_entries_with_their_comments(root: Path) -> None:
    (root / "rules.yaml").write_text(WRITTEN + "active:\n- dells  # one\n- spare  # two\n- rest\n")
    text = after(root, lambda sets: sets.order(["rest", "spare", "dells"]), RuleSets.activate)
    assert text == WRITTEN + "active:\n- rest\n- spare  # two\n- dells  # one\n"


def test_what_was_noted_while_it_was_prepared_stays_when_it_is_activated(root: Path) -> None:
    (root / "rules.yaml").write_text(
        WRITTEN + "active: [dells]\nworking:\n- dells\n# ask Ann\n- rest  # tried on esx-03\n"
    )
    assert after(root, RuleSets.activate) == WRITTEN + "active: [dells, rest]\n# ask Ann\n"
    (root / "rules.yaml").write_text(
        WRITTEN + "active:\n- dells\nworking:\n- dells\n# ask Ann\n- rest  # tried on esx-03\n"
    )
    assert after(root, RuleSets.activate) == (
        WRITTEN + "active:\n- dells\n- rest  # tried on esx-03\n# ask Ann\n"
    )


def test_a_copy_stands_beside_its_original(root: Path) -> None:
    text = after(root, lambda sets: sets.copy("spare", make_rule("spare 2", None, {"image": "new"})))
    assert "    patterns: all\n\n  - name: spare 2\n" in text
    assert text.endswith(
        "active:\n  - dells\n  - spare\n  - rest\n\nworking:\n  - dells\n  - spare 2\n  - rest\n# the end\n"
    )


IDLE = WRITTEN + "active: []\n"


@pytest.mark.parametrize(
    ("name", "patterns", "items", "old", "new"),
    [
        ("dells", ["vendor=Dell Inc.", "model=R740"], {"image": "old", "boot": "stateless"},
         "      - model=R630  # no R730 left\n", "      - model=R740\n"),
        ("dells", None, {"image": "old", "boot": "local"},
         "    patterns:\n      - vendor=Dell Inc.\n      - model=R630  # no R730 left\n"
         "    items: {image: old, boot: stateless}\n",
         "    patterns: all\n    items: {image: old, boot: local}\n"),
        ("spare", ["label.rack!=r7"], {"configuration": "base", "image": "other"},
         "      image: new\n    patterns: all\n", '      image: other\n    patterns:\n      - "label.rack!=r7"\n'),
        ("spare", None, {"location": "Lab/Rack 7"},
         "      configuration: base   # for now\n      image: new\n", "      location: Lab/Rack 7\n"),
        ("spare", None, {},
         "    items:\n      configuration: base   # for now\n      image: new\n", "    items: {}\n"),
        ("rest", ["vendor=HPE"], {"image": "new"}, "  - {name: rest, patterns: all, items: {image: new}}\n",
         "  - name: rest\n    patterns:\n      - vendor=HPE\n    items:\n      image: new\n"),
    ],
)  # fmt: skip
def test_a_rule_is_changed_where_it_stands(
    root: Path, name: str, patterns: list[str] | None, items: dict[str, str], old: str, new: str
) -> None:
    (root / "rules.yaml").write_text(IDLE)
    text = after(root, lambda sets: sets.change(name, make_rule(name, patterns, items)))
    assert text == IDLE.replace(old, new)


def test_another_name_keeps_the_comments(root: Path) -> None:
    (root / "rules.yaml").write_text(IDLE)
    text = after(root, lambda sets: sets.change("dells", replaced(sets.find("dells"), "dell's")))
    assert text == IDLE.replace("name: dells     # all", 'name: "dell\'s"     # all')


def replaced(rule: Rule, name: str) -> Rule:
    return make_rule(name, rule.patterns or None, rule.items.given())


def test_the_last_rule_goes_and_the_first_one_comes(root: Path) -> None:
    text = after(root, lambda sets: sets.delete(["dells", "spare", "rest"], from_sets=True))
    assert text == "# Rack 7 is special. Ask Ann.\nrules: []\n  # the old ones\n# the end\n"
    text = after(
        root, lambda sets: sets.create(make_rule("a", None, {"image": "x"}), working=True).activate()
    )
    assert read(root).sets == RuleSets.all_of([make_rule("a", None, {"image": "x"})])
    assert text.startswith("# Rack 7 is special. Ask Ann.\nrules:\n")


@pytest.mark.parametrize(
    "text", [None, "", "# nothing\n", "# nothing", "rules:\n", "rules: # none\n\n", "rules: []"]
)
def test_into_a_file_without_rules(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "rules.yaml").write_text(text)
    sets = RuleSets.all_of(NO_RULES).create(
        make_rule("a", ["mac=52:54:00:12:34:56"], {"image": "x"}), working=True
    )
    save(read(tmp_path), sets)
    assert read(tmp_path).sets == sets
    assert "#" not in (text or "") or "# no" in (tmp_path / "rules.yaml").read_text()
    assert (tmp_path / "rules.yaml").stat().st_mode & 0o777 == 0o644


def test_two_writers_the_second_is_told_and_nothing_is_lost(root: Path) -> None:
    mine, theirs = read(root), read(root)
    save(theirs, theirs.sets.create(make_rule("theirs", None, {"image": "x"})))
    now = (root / "rules.yaml").read_bytes()
    with pytest.raises(
        RulesFileError, match=r"rules.yaml was changed by somebody else .* nothing was written"
    ):
        save(mine, mine.sets.create(make_rule("mine", None, {"image": "x"})))
    assert (root / "rules.yaml").read_bytes() == now
    (root / "rules.yaml").unlink()
    with pytest.raises(RulesFileError, match=r"rules.yaml is gone"):
        save(mine, mine.sets.order(["rest", "dells", "spare"]))
    nothing = read(root)
    (root / "rules.yaml").write_text(WRITTEN)
    with pytest.raises(RulesFileError, match=r"rules.yaml is new"):
        save(nothing, mine.sets)
    assert (root / "rules.yaml").read_text() == WRITTEN


def test_a_writer_waits_for_another_one(root: Path) -> None:
    file = read(root)
    began, done = threading.Event(), threading.Event()

    def writer() -> None:
        began.set()
        save(file, file.sets.order(["rest", "dells", "spare"]))
        done.set()

    with locked(root):
        other = threading.Thread(target=writer)
        other.start()
        assert began.wait(10)
        assert not done.wait(0.05)
        assert (root / "rules.yaml").read_text() == WRITTEN
    other.join(10)
    assert done.is_set()


def test_links_are_followed_but_not_out_of_the_site(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "rules.yaml"
    (root / "rules.yaml").rename(root / "real.yaml")
    (root / "rules.yaml").symlink_to("real.yaml")
    after(root, lambda sets: sets.order(["rest", "dells", "spare"]))
    assert (root / "rules.yaml").is_symlink()
    assert "working:" in (root / "real.yaml").read_text()
    elsewhere.write_text(WRITTEN)
    (root / "rules.yaml").unlink()
    (root / "rules.yaml").symlink_to(elsewhere)
    with pytest.raises(RulesFileError, match="leads out of the site"):
        after(root, lambda sets: sets.order(["rest", "dells", "spare"]))
    assert elsewhere.read_text() == WRITTEN


def test_what_cannot_be_read_is_told_with_its_place(root: Path) -> None:
    (root / "rules.yaml").write_text(
        "rules:\n- name: a\n  patterns: [colour=red]\n  items: {}\nactive: [b]\n"
    )
    with pytest.raises(RulesFileError) as caught:
        read(root)
    first, second = str(caught.value).splitlines()
    assert first.startswith("rules.yaml:3:14: rules.0.patterns.0: 'colour' is not an attribute")
    assert second == "rules.yaml:5:10: active.0: there is no rule 'b'; there is a"
    (root / "rules.yaml").unlink()
    os.mkfifo(root / "rules.yaml")
    with pytest.raises(RulesFileError, match="not a regular file"):
        read(root)


@pytest.mark.parametrize(
    "text",
    [
        "rules: &all\n- {name: a, patterns: all, items: {}}\nactive: [a]\nworking: []\n",
        "{rules: [{name: a, patterns: all, items: {image: x}}]}\n",
        "rules: [{name: a, patterns: all, items: {image: x}}] # b\n",
        "rules:\n- name: a\n  patterns: &p [vendor=x]\n  items: {}\n- {name: b, patterns: *p, items: {}}\n",
    ],
)
def test_a_file_is_changed_rightly_or_not_at_all(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    file = read(tmp_path)
    sets = file.sets.create(make_rule("new", ["vendor=HPE"], {"image": "x"}), working=True, at=0)
    said = ""
    try:
        save(file, sets)
    except RulesFileError as error:
        said = str(error)
    assert ("is not changed" in said) == ((tmp_path / "rules.yaml").read_text() == text)
    assert said or read(tmp_path).sets == sets


_GAPS = st.sampled_from(["", "", "\n", "# c{}\n", "\n  # c{}\n\n"])
_NAMES = st.sampled_from(["a", "b", "c", ".d", "e's", "f: g", "#h", "1.0", "null"])
_PATTERN_LISTS = st.lists(
    st.sampled_from(
        ["vendor=HPE", "model=R6*,R7*", "label.rack!=r7", "ipv4=192.0.2.1-192.0.2.9", "model==a,b"]
    ),
    max_size=3,
)
_ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "image": st.sampled_from(["x", "8.0"]),
        "boot": st.just("local"),
        "location": st.just("Lab/a b"),
    },
)


@st.composite
def _files(draw: st.DrawFn) -> str:
    indent = draw(st.sampled_from(["", "  ", "    "]))
    names = draw(st.lists(_NAMES, unique=True, max_size=5))
    parts = [draw(_GAPS), "rules:\n" if names else draw(st.sampled_from(["rules:\n", "rules: []\n"]))]
    for name in names:
        rule = make_rule(name, draw(_PATTERN_LISTS) or None, draw(_ITEMS))
        patterns = [f"'{text}'" for text in rule.patterns]
        items = [f"{kind}: '{value}'" for kind, value in rule.items.given().items()]
        shape = draw(st.sampled_from(["block", "flow", "mixed"])) if patterns and items else "flow"
        quoted = '"' + name + '"'
        parts.append(draw(_GAPS))
        if shape == "block":
            lines = [f"- name: {quoted}  # n{{}}", "  patterns:", *(f"    - {text}" for text in patterns)]
            lines += ["  items:  # i{}", *(f"    {item}" for item in items)]
        elif shape == "mixed":
            lines = [
                f"- items: {{{{{', '.join(items)}}}}}",
                f"  patterns: [{', '.join(patterns)}]",
                f"  name: {quoted}",
            ]
        else:
            told = f"[{', '.join(patterns)}]" if patterns else "all"
            lines = [f"- {{{{name: {quoted}, patterns: {told}, items: {{{{{', '.join(items)}}}}}}}}}"]
        parts += [f"{indent}{line}\n" for line in lines]
    for key in ("active", "working"):
        if draw(st.booleans()):
            chosen = draw(st.permutations(names))[: draw(st.integers(0, len(names)))]
            quoted_names = ['"' + name + '"' for name in chosen]
            if draw(st.booleans()) and chosen:
                parts += [f"{key}:\n", *(f"{indent}- {name}  # {key}{{}}\n" for name in quoted_names)]
            else:
                parts.append(f"{key}: [{', '.join(quoted_names)}]\n")
    parts.append(draw(_GAPS))
    text = "".join(part.format(number) for number, part in enumerate(parts))
    text = text.rstrip("\n") if draw(st.booleans()) else text
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


def _changed(draw: st.DrawFn, sets: RuleSets[Rule]) -> RuleSets[Rule]:
    rule = make_rule(draw(_NAMES), draw(_PATTERN_LISTS) or None, draw(_ITEMS))
    names = [one.name for one in sets.every]
    name = draw(st.sampled_from(names or ["a"]))
    kinds = ("create", "copy", "change", "add", "remove", "order", "delete", "activate")
    match draw(st.sampled_from(kinds)):
        case "create":
            return sets.create(rule, working=draw(st.booleans()))
        case "copy":
            return sets.copy(name, rule, take_place=draw(st.booleans()))
        case "change":
            return replace(sets, active=(), working=()).change(name, rule)
        case "add":
            return sets.add([name], draw(st.integers(0, len(sets.working))))
        case "remove":
            return sets.remove([name])
        case "order":
            return sets.order(draw(st.permutations(names)))
        case "delete":
            return sets.delete([name], from_sets=True)
    return sets.activate()


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_done_to_whatever_file_it_says_that_and_keeps_its_comments(data: st.DataObject) -> None:
    raw = data.draw(_files()).encode()
    empty = RulesFile(Path("/nowhere"), raw, RuleSets())
    try:
        file = replace(empty, sets=parse(raw))
        sets = data.draw(st.composite(_changed)(file.sets))  # type: ignore[arg-type]
    except (RulesFileError, SetError):
        assume(False)
    try:
        text = changed(file, sets).decode()
    except RulesFileError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "is not changed" in refused
        return
    assert parse(text.encode()) == sets
    old = file.sets
    pairs = ((old.every, sets.every), (old.active, sets.active), (old.working, sets.working))
    if all(one in after for before, after in pairs for one in before):
        assert _comments(text) >= _comments(raw.decode()), "those behind entries of working: may go with it"
    assert ("\r\n" in text) == (b"\r\n" in raw)


def _comments(text: str) -> int:
    return text.count("# ") - text.count("# working")


def test_a_text_that_is_no_rules_file_is_not_written(root: Path) -> None:
    with pytest.raises(RulesFileError, match=r"rules\.yaml:1:1: the file must begin with rules:"):
        write_text(read(root), b"- nothing\n")
    assert (root / "rules.yaml").read_text() == WRITTEN


@settings(max_examples=200, deadline=None)
@given(
    raw=st.binary(max_size=60)
    | st.builds(bytes.replace, st.just(WRITTEN.encode()), *[st.binary(max_size=4)] * 2)
)
def test_any_bytes_are_rules_or_one_error(raw: bytes) -> None:
    try:
        sets = parse(raw)
    except RulesFileError as error:
        said = str(error)
    else:
        said = ""
        assert set(sets.active) | set(sets.working) <= {rule.name for rule in sets.every}
    assert all(line.startswith("rules.yaml") for line in said.splitlines())


@pytest.mark.parametrize("text", ["52:54:00:12:34:56", "1:30", "yes", "null", "a: b", "- a", "#x", ""])
def test_what_another_reader_would_misread_is_in_quotes(text: str) -> None:
    """YAML 1.1 takes a MAC address of digits for a number to the base 60."""
    assert scalar(text) == f'"{text}"'
    assert yaml.safe_load(f"key: {scalar(text)}") == {"key": text}
