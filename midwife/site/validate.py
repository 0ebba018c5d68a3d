"""Plain data to the types of ``midwife.site.model``: every pydantic error becomes a Problem at its position.

pydantic speaks to programmers ("Input should be a valid integer, unable to parse string as an integer"); here
it is said again for the person who wrote the file, with the nearest known key for a mistyped one. A value is
never repeated where it could be a secret. Knows nothing of files.
"""

import copy
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from midwife.site.problems import Problem, nearest
from midwife.site.yaml import Place

__all__ = ["known_keys", "salvage", "validate"]

M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], data: Any, place: Place, problems: list[Problem]) -> M | None:
    """The value, or None and at least one problem in the list. Raises nothing."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=True)
    problems.extend(_problem(model, place, entry) for entry in errors)
    return None


def salvage(model: type[M], data: Any) -> M | None:
    """The value without its broken parts, so that checks across files see the rest; None if too little is left.

    For finding more problems only: a site with a broken part is never served.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        places = [entry["loc"] for entry in error.errors(include_url=False)]
    rest = copy.deepcopy(data)
    for place in sorted(places, key=_by_position, reverse=True):  # of a list's items the last first
        _take_out(rest, place)
    try:
        return model.model_validate(rest)
    except ValidationError:
        return None


def _by_position(place: tuple[str | int, ...]) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in place]


def _take_out(data: Any, place: tuple[str | int, ...]) -> None:
    """Remove what stands at the place; of a path that leads further than the data, as much as there is."""
    *way, last = [part for part in place if part != "[key]"] or [""]
    for part in way:
        inside = data.get(part) if isinstance(data, dict) else None
        if isinstance(data, list) and isinstance(part, int) and part < len(data):
            inside = data[part]
        if not isinstance(inside, dict | list):
            last = part
            break
        data = inside
    if isinstance(data, dict):
        data.pop(last, None)
    elif isinstance(data, list) and isinstance(last, int) and last < len(data):
        del data[last]


def known_keys(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a mapping in the site, as people write them (``token-lifetime``)."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _problem(model: type[BaseModel], place: Place, entry: Any) -> Problem:
    loc: tuple[str | int, ...] = entry["loc"]
    in_key = bool(loc) and loc[-1] == "[key]"
    if in_key:
        loc = loc[:-1]
    name = ".".join(str(part) for part in place.loc + loc)
    kind, value, context = entry["type"], entry["input"], entry.get("ctx", {})
    if kind == "extra_forbidden":
        spot = place.at(*loc[:-1])
        inside = f" in {spot.name}" if spot.loc else ""
        hint = nearest(str(loc[-1]), known_keys(_model_at(model, loc[:-1])))
        return place.at(*loc).problem(f"unknown key {str(loc[-1])!r}{inside}", hint, key=True)
    if kind == "missing":
        return place.at(*loc).problem(f"{name} is missing", f"add {loc[-1]}: …")
    what, _, hint = _said(kind, value, context, entry["msg"]).partition("; ")
    return place.at(*loc).problem(f"{name}: {what}" if name else what, hint, key=in_key)


def _said(kind: str, value: Any, context: Any, message: str) -> str:
    """What and hint, with ``; `` between. Never with the value where that may be a mapping or a list."""
    shown = repr(value if len(value) <= 80 else value[:77] + "…") if isinstance(value, str) else _shape(value)
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind in ("int_parsing", "int_type", "int_parsing_size"):
        return f"{shown} is not a whole number; write it in digits"
    if kind in ("bool_parsing", "bool_type"):
        return f"{shown} is neither true nor false"
    if kind == "literal_error":
        return f"{shown} is not one of them; write {context['expected']}"
    if kind in ("string_type", "path_type"):
        return f"{shown} stands where a text is expected"
    if kind in ("tuple_type", "list_type"):
        return f"{shown} stands where a list is expected; write one item a line, each with - in front"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{shown} stands where keys and values are expected; write key: value lines below it"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = "at least" if kind.startswith("greater") else "at most"
        return f"{shown} is out of bounds; it must be {bound} {context.get('ge', context.get('le'))}"
    if kind == "string_pattern_mismatch":
        return f"{shown} does not have the right form; it must match {context['pattern']}"
    if kind in ("string_too_short", "string_too_long"):
        limit = context.get("min_length", context.get("max_length"))
        return f"the text is {'shorter' if kind.endswith('short') else 'longer'} than {limit} characters"
    return message


def _shape(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else "this"


def _model_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel]:
    """The model of the mapping at ``loc`` within ``model``."""
    current: Any = model
    for part in loc:
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = current.model_fields
            found = [field for name, field in fields.items() if part in (name, field.alias)]
            current = found[0].annotation if found else model
    return next(_models(current), model)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
