"""A site as far as it could be read: every part that is valid by itself, with the place where it stands.

Broken parts leave a problem and are missing here (a host with a broken MAC address is here without it); their
names are kept, so that a reference to a broken host configuration is not reported as a second mistake. The
checks across files (``midwife.site.checks``) read it.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from midwife.site.imageprofile import ImageProfileFile
from midwife.site.model import Configuration, Host, Image, Items, Main, Rule, Step
from midwife.site.problems import Problem, nearest
from midwife.site.validate import salvage, validate
from midwife.site.yaml import Document, Place, parse_yaml, read_yaml

__all__ = ["Draft", "Found", "read_draft", "read_pins", "read_rules"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A valid part and where it stands."""

    value: T
    place: Place
    whole: bool = True
    """False: parts of it were broken, and are missing from the value."""


@dataclass(slots=True)
class Draft:
    """What was read so far. ``problems`` grows while reading and checking."""

    root: Path
    data: Path
    """The data directory, also of a site whose midwife.yaml is broken elsewhere."""
    problems: list[Problem] = field(default_factory=list)
    main: Found[Main] | None = None
    images: dict[str, Found[Image]] = field(default_factory=dict)
    secrets: dict[str, Found[str]] = field(default_factory=dict)
    hosts: list[Found[Host]] = field(default_factory=list)
    rules: list[Found[Rule]] = field(default_factory=list)
    items: list[Found[Items]] = field(default_factory=list)
    """Of all rules, those with a broken pattern too, and of all pins."""
    rule_names: list[Found[str]] = field(default_factory=list)
    """The broken ones' too."""
    active: Found[tuple[str, ...]] | None = None
    """None: rules.yaml does not say; then all rules are active, in their order."""
    working: Found[tuple[str, ...]] | None = None
    """None: as the active set."""
    pins: list[tuple[str, Found[Items]]] = field(default_factory=list)
    """With the name as it is written: a host's name or a MAC address."""
    configurations: list[Found[Configuration]] = field(default_factory=list)
    steps: list[Found[Step]] = field(default_factory=list)
    image_profiles: list[Found[ImageProfileFile]] = field(default_factory=list)
    image_names: set[str] = field(default_factory=set)
    """Images of midwife.yaml, the broken ones too."""
    configuration_names: set[str] = field(default_factory=set)
    """The broken ones too."""
    imported: set[str] = field(default_factory=set)
    """Images in the image library."""


def read_draft(root: Path, rules: bytes | None = None) -> Draft:
    """Reads the site's files. Raises nothing; what is wrong is in ``problems``.

    ``rules``: read this in place of what is in rules.yaml.
    """
    draft = Draft(root, root / "data")
    if reason := _not_a_directory(root):
        draft.problems.append(Problem(str(root), 0, 0, reason, f"create a site with: midwife init {root}"))
        return draft
    _read_main(draft)
    for document in _documents(draft, "hosts"):
        _read_hosts(draft, document)
    for document in _documents(draft, "host-configurations"):
        _read_configuration(draft, document)
    for document in _documents(draft, "image-profiles"):
        _add(draft, draft.image_profiles, ImageProfileFile, _named(document), Place(document))
    read_rules(draft, rules)
    read_pins(draft)
    return draft


def _read_main(draft: Draft) -> None:
    path = draft.root / "midwife.yaml"
    if not os.path.lexists(path):
        what = f"is missing: {draft.root} is not a site directory"
        hint = "create one with: midwife init DIRECTORY, or name yours with --site or MIDWIFE_SITE"
        draft.problems.append(Problem("midwife.yaml", 0, 0, what, hint))
        return
    document = read_yaml(path, "midwife.yaml", draft.problems)
    if document is None:
        return
    place = Place(document)
    data = {} if document.data is None else document.data
    main = validate(Main, data, place, draft.problems)
    if main is not None:
        draft.main = Found(main, place)
    folder = _mapping(data, "server").get("data")
    draft.data = draft.root / folder if isinstance(folder, str) else draft.data
    for name, entry in _mapping(data, "images").items():
        draft.image_names.add(name)
        spot = place.at("images", name)
        image = validate(Image, entry, spot, [])  # what is wrong with it was reported with the whole file
        if image is not None:
            draft.images[name] = Found(image, spot)
    for name, entry in _mapping(data, "secrets").items():
        draft.secrets[name] = Found(entry if isinstance(entry, str) else "", place.at("secrets", name))


def _read_hosts(draft: Draft, document: Document) -> None:
    place = Place(document)
    if isinstance(document.data, dict) and "hosts" in document.data:
        for index, entry in enumerate(_list_under(draft, place, "hosts")):
            _add(draft, draft.hosts, Host, entry, place.at("hosts", index))
    else:
        _add(draft, draft.hosts, Host, _named(document), place)


def _read_configuration(draft: Draft, document: Document) -> None:
    place = Place(document)
    data = _named(document)
    if isinstance(data, dict):
        draft.configuration_names.add(str(data["name"]))
        steps = data.get("steps", [])
        for index, entry in enumerate(steps if isinstance(steps, list) else []):
            spot = place.at("steps", index)
            step = validate(Step, entry, spot, [])  # reported with the whole configuration
            if step is not None:
                draft.steps.append(Found(step, spot))
    _add(draft, draft.configurations, Configuration, data, place)


def read_rules(draft: Draft, raw: bytes | None = None) -> None:
    """rules.yaml alone, or what it would say."""
    path = draft.root / "rules.yaml"
    if raw is not None:
        document = parse_yaml(raw, "rules.yaml", draft.problems)
    elif os.path.lexists(path):
        document = read_yaml(path, "rules.yaml", draft.problems)
    else:
        return  # a site may name every host's image in its host file
    if document is None or document.data is None:
        return
    place = Place(document)
    for index, entry in enumerate(_list_under(draft, place, "rules", others=("active", "working"))):
        spot = place.at("rules", index)
        if isinstance(entry, dict) and entry.get("patterns") == []:
            hint = "a rule for every host says so: patterns: all"
            draft.problems.append(spot.at("patterns").problem(f"{spot.name}.patterns: no pattern", hint))
        _add(draft, draft.rules, Rule, entry, spot)
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str):
            draft.rule_names.append(Found(name, spot.at("name")))
        items = salvage(Items, _mapping(entry, "items"))
        if items is not None:
            draft.items.append(Found(items, spot.at("items")))
    draft.active = _read_set(draft, place, "active")
    draft.working = _read_set(draft, place, "working")


def read_pins(draft: Draft, raw: bytes | None = None) -> None:
    """pins.yaml alone, or what it would say."""
    path = draft.root / "pins.yaml"
    if raw is not None:
        document = parse_yaml(raw, "pins.yaml", draft.problems)
    elif os.path.lexists(path):
        document = read_yaml(path, "pins.yaml", draft.problems)
    else:
        return
    if document is None or document.data is None:
        return
    place = Place(document)
    if not isinstance(document.data, dict):
        what, hint = (
            "host names and MAC addresses are expected",
            "write midwife rule pin HOST, or NAME: and items",
        )
        draft.problems.append(place.problem(what, hint))
        return
    for name, entry in document.data.items():
        spot = place.at(name)
        items = validate(Items, entry, spot, draft.problems)
        if items is None and isinstance(entry, dict):
            items = salvage(Items, entry)
        if items is not None:
            found = Found(items, spot)
            draft.pins.append((str(name), found))
            draft.items.append(found)


def _read_set(draft: Draft, place: Place, key: str) -> Found[tuple[str, ...]] | None:
    """Names of rules; None where the file does not say."""
    data = place.document.data
    if not isinstance(data, dict) or key not in data:
        return None
    names = data[key]
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return Found(tuple(names), place.at(key))
    what, hint = f"{key}: a list of rule names is expected", "write one name a line, each with - in front"
    draft.problems.append(place.at(key).problem(what, hint))
    return None


def _add(draft: Draft, to: list[Found[Any]], model: type[BaseModel], data: Any, place: Place) -> None:
    value = validate(model, data, place, draft.problems)
    if value is not None:
        to.append(Found(value, place))
    elif (rest := salvage(model, data)) is not None:
        to.append(Found(rest, place, whole=False))


def _list_under(draft: Draft, place: Place, key: str, others: tuple[str, ...] = ()) -> list[Any]:
    """The list under a key of the file; what it may have besides are ``others``."""
    data = place.document.data
    if not isinstance(data, dict):
        draft.problems.append(place.problem(f"the file must begin with {key}:", "and a list below it"))
        return []
    for other in data:
        if other != key and other not in others:
            hint = nearest(other, [key, *others])
            draft.problems.append(place.at(other).problem(f"unknown key {other!r}", hint, key=True))
    entries = data.get(key, [])
    if not isinstance(entries, list):
        what, hint = f"{key}: a list is expected", "write one entry a line, each with - in front"
        draft.problems.append(place.at(key).problem(what, hint))
        return []
    return entries


def _named(document: Document) -> Any:
    """The data with ``name``, by default the file's name."""
    if not isinstance(document.data, dict):
        return document.data
    return {"name": Path(document.file).stem, **document.data}


def _documents(draft: Draft, folder: str) -> Iterator[Document]:
    directory = draft.root / folder
    if not os.path.lexists(directory):
        return
    try:
        paths = sorted(directory.iterdir())
    except OSError as error:
        draft.problems.append(Problem(folder, 0, 0, f"cannot be read: {error.strerror}", "mend its mode"))
        return
    for path in paths:
        file = f"{folder}/{path.name}"
        if path.name.startswith(".") or path.name.endswith("~"):
            continue  # editors' and version control's own
        if not _not_a_directory(path):
            hint = f"put the files into {folder}/ itself"
            draft.problems.append(Problem(file, 0, 0, "is a directory; it is not read", hint, "warning"))
        elif path.suffix in (".yaml", ".yml"):
            document = read_yaml(path, file, draft.problems)
            if document is None:
                draft.configuration_names.add(path.stem)
            elif document.data is None:
                draft.problems.append(Problem(file, 1, 1, "the file is empty", "fill it or delete it"))
            else:
                yield document


def _not_a_directory(path: Path) -> str:
    """Why the path is no directory, "" if it is one. ``Path.is_dir`` raises where it may not look."""
    try:
        return "" if stat.S_ISDIR(path.stat().st_mode) else "is not a directory"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _mapping(data: Any, key: str) -> dict[str, Any]:
    entry = data.get(key) if isinstance(data, dict) else None
    return entry if isinstance(entry, dict) else {}
