"""``rules.yaml`` read, created and changed by commands, with the comments of whoever wrote it.

The file is written only if it is still as it was read, and only if it says afterwards what it should. Knows what
a rule is, not whether its image exists: ``site.load`` checks the site as a whole, with the new text before it is
written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from midwife.rules.sets import RuleSets
from midwife.site import files
from midwife.site.checks.rules import check_names, rule_sets
from midwife.site.draft import Draft, read_rules
from midwife.site.files import FileRefused
from midwife.site.model import Rule
from midwife.site.problems import Problem
from midwife.site.validate import validate
from midwife.site.yaml import MAX_BYTES, Document, Place
from midwife.site.yamltext import NotEditable, Section, YamlText
from midwife.site.yamlwrite import Tree, pair_lines

__all__ = [
    "FILE",
    "RulesFile",
    "RulesFileError",
    "changed",
    "make_rule",
    "parse",
    "read",
    "save",
    "write_text",
]

FILE = "rules.yaml"


class RulesFileError(ValueError):
    """The file cannot be read or written, or a rule is none. The message has a line for each thing to mend."""


@dataclass(frozen=True, slots=True)
class RulesFile:
    """The file as it was read. ``save`` and ``write_text`` refuse if it has changed since."""

    root: Path
    """The site directory."""
    raw: bytes | None
    """None: the site has no rules.yaml yet."""
    sets: RuleSets[Rule]


def read(root: Path) -> RulesFile:
    """The site's rules. Raises RulesFileError with everything that is wrong with them."""
    try:
        raw = files.read(root, FILE, MAX_BYTES)
    except FileRefused as error:
        raise RulesFileError(str(error)) from None
    return RulesFile(root, raw, parse(raw)) if raw is not None else RulesFile(root, None, RuleSets())


def make_rule(name: str, patterns: Sequence[str] | None, items: Mapping[str, str]) -> Rule:
    """A rule out of texts; ``patterns`` None: for every host. Raises RulesFileError with all that is wrong."""
    data = {"name": name, "patterns": "all" if patterns is None else list(patterns), "items": dict(items)}
    problems: list[Problem] = []
    if patterns is not None and not patterns:
        problems.append(
            Problem(FILE, 0, 0, "patterns: no pattern", "a rule for every host says so: --all-hosts")
        )
    rule = validate(Rule, data, Place(Document(FILE, None)), problems)
    if rule is None or problems:
        raise RulesFileError("\n".join(problem.said for problem in problems))
    return rule


def changed(file: RulesFile, sets: RuleSets[Rule]) -> bytes:
    """The file's text, changed so that it says ``sets``; whatever it says already stays as it is written.

    Raises RulesFileError for a file that is written in a way that cannot be changed.
    """
    bom, text = _decoded(file.raw or b"")
    try:
        raw = bom + _edited(text, file.sets, sets).encode()
    except NotEditable as error:
        raise RulesFileError(
            f"{FILE} is not changed: {error}; write it in plain lines, or change it yourself"
        ) from None
    if parse(raw) != sets:
        raise RulesFileError(
            f"{FILE} is not changed: it is written in a way that midwife does not understand well enough; "
            "write one key or list entry a line, or change it yourself"
        )
    return raw


def save(file: RulesFile, sets: RuleSets[Rule]) -> RulesFile:
    """``changed`` and ``write_text`` in one."""
    return write_text(file, changed(file, sets))


def write_text(file: RulesFile, raw: bytes) -> RulesFile:
    """The file with another text. Raises RulesFileError: the text is none, or somebody else changed the file."""
    sets = parse(raw)
    try:
        files.replace(file.root, FILE, file.raw, raw)
    except FileRefused as error:
        raise RulesFileError(str(error)) from None
    return RulesFile(file.root, raw, sets)


def _edited(text: str, old: RuleSets[Rule], new: RuleSets[Rule]) -> str:
    if not old.every and not _has_keys(text):
        newline = "" if not text or text.endswith("\n") else "\n"
        return text + newline + _fresh(new)
    editor = YamlText(text)
    _edit_rules(editor, old.every, new.every)
    document = _draft(text.encode())
    implied = tuple(rule.name for rule in new.every)
    if document.active is not None or new.active != implied:
        lines = {} if new.pending else {name: name for name in editor.written("working")}
        active = [lines.get(name, name) for name in new.active]
        _edit_list(editor, "active", old.active if document.active else (), active, ("rules",))
    if new.pending:
        was = old.working if document.working else ()
        _edit_list(editor, "working", was, new.working, ("rules", "active"))
    elif old.pending or old.working != new.working:
        editor.remove("working")
    return editor.result()


def _edit_rules(editor: YamlText, old: Sequence[Rule], new: Sequence[Rule]) -> None:
    places = {rule.name: number for number, rule in enumerate(new)}
    kept = {index: places[rule.name] for index, rule in enumerate(old) if rule.name in places}
    gone = [index for index in range(len(old)) if index not in kept]
    came = [number for number in range(len(new)) if number not in kept.values()]
    if len(gone) == len(came) == 1 and len(old) == len(new) and gone == came:
        kept[gone[0]] = came[0]  # another name
    replaced = {
        index: number
        for index, number in kept.items()
        if old[index] != new[number] and not _edit_rule(editor, index, old[index], new[number])
    }
    stays = {index: number for index, number in kept.items() if index not in replaced}
    if tuple(old) != tuple(new):
        editor.change_list("rules", [_entry(rule) for rule in new], stays, replaced, ())


def _edit_rule(editor: YamlText, index: int, old: Rule, new: Rule) -> bool:
    """Change a rule where it stands. False: it is not written line by line, and has to be written anew."""
    try:
        section = editor.entry("rules", index)
    except NotEditable:
        return False
    if old.name != new.name:
        section.set("name", new.name, ())
    if old.patterns != new.patterns:
        if new.patterns:
            _edit_list(section, "patterns", old.patterns, new.patterns, ("name",))
        else:
            section.set("patterns", "all", ("name",))
    if old.items != new.items:
        section.change_mapping("items", new.items.given(), ("name", "patterns"))
    return True


def _edit_list(
    section: Section, key: str, old: Sequence[str], new: Sequence[str], before: Sequence[str]
) -> None:
    free: dict[str, list[int]] = {}
    for number, text in enumerate(new):
        free.setdefault(text, []).append(number)
    kept = {index: free[text].pop(0) for index, text in enumerate(old) if free.get(text)}
    section.change_list(key, [{"entry": text} for text in new], kept, {}, before)


def _entry(rule: Rule) -> dict[str, Tree]:
    return {"name": rule.name, "patterns": rule.patterns or "all", "items": rule.items.given()}


def _fresh(sets: RuleSets[Rule]) -> str:
    """A whole file."""
    lines = pair_lines("rules", [_entry(rule) for rule in sets.every], 0)
    if sets.active != tuple(rule.name for rule in sets.every):
        lines += ["", *pair_lines("active", sets.active, 0)]
    if sets.pending:
        lines += ["", *pair_lines("working", sets.working, 0)]
    return "\n".join(lines) + "\n"


def _has_keys(text: str) -> bool:
    """Whether there is anything in the text but comments."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())


def parse(raw: bytes) -> RuleSets[Rule]:
    """The sets that a text says. Raises RulesFileError with everything that is wrong with it."""
    draft = _draft(raw)
    problems = [*draft.problems, *(problem for problem in check_names(draft) if problem.level == "error")]
    if problems:
        raise RulesFileError("\n".join(map(str, problems)))
    return rule_sets(draft)


def _draft(raw: bytes) -> Draft:
    draft = Draft(Path(), Path())
    read_rules(draft, raw)
    return draft


def _decoded(raw: bytes) -> tuple[bytes, str]:
    """Byte order mark and text; the text was read before, so it is UTF-8."""
    bom = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
    return bom, raw[len(bom) :].decode("utf-8")
