"""Lists of things that esxcli prints, in whatever form, as records: the field's name in small letters to its text.

Forms: the table, indented blocks (``vib get``), and the formatters csv, xml, keyvalue and json. Seen on ESXi 5.0
to 9.0 and in esxcli's client; knows nothing of what the fields mean.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from midwife.images.errors import FormatError
from midwife.images.xmlsafe import parse_xml

__all__ = ["read_records"]

MOST_TEXT = 16 << 20
"""Characters. A list of 200 VIBs has 20,000, and ``vib get`` of all of them 300,000."""

_RULER = re.compile(r"\s*-{2,}(?:\s+-{2,})+\s*")
_PROMPT = re.compile(r"""\s*(?:\[[\w.-]+@[^\]"]*\]|(?:~|/\S*)\s[#$])""")
"""``[root@esx-01:~] esxcli …``, ``~ # esxcli …``: people copy more than the output."""
_FIELD = re.compile(r"[ \t]+([A-Za-z][A-Za-z ]*):(?:[ \t]+(.*)|)")
_KEYVALUE = re.compile(r"\s*[A-Za-z]\w*\[(\d{1,6})\]\.[A-Za-z]\w*\.(\w+)\.\w+=(.*)")


def read_records(text: str) -> Iterator[Mapping[str, str]]:
    """Keys without blanks and in small letters (``acceptancelevel``). Raises FormatError."""
    if len(text) > MOST_TEXT:
        raise FormatError(f"{len(text)} characters: no output of esxcli is that long")
    text = text.removeprefix("\ufeff")
    start = text.lstrip()[:1]
    if start == "{" or (start == "[" and not _PROMPT.match(text)):
        return _from_json(text)
    if start == "<":
        return _from_xml(text)
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if _RULER.fullmatch(line):
            return _from_table(lines, number)
        if _KEYVALUE.fullmatch(line):
            return _from_keyvalue(lines)
        if line.count(",") > 2 and {"name", "version"} <= {_key(cell) for cell in line.split(",")}:
            return _from_csv("\n".join(lines[number:]))
    if any(_FIELD.fullmatch(line) for line in lines):
        return _from_blocks(lines)
    raise FormatError(
        "this is no list that esxcli prints: neither a table with a line of dashes below its heads,"
        " nor csv, xml, keyvalue or json"
    )


def _key(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def _from_table(lines: list[str], ruler: int) -> Iterator[Mapping[str, str]]:
    columns = [match.start() for match in re.finditer(r"-+", lines[ruler])]
    heads = [_key(head) for head in re.split(r"\s{2,}", lines[ruler - 1].strip())] if ruler else []
    if len(heads) != len(columns):
        raise FormatError(
            f"line {ruler + 1}: {len(columns)} columns of dashes under {len(heads)} heads; the table was cut or"
            " wrapped: give it as esxcli prints it"
        )
    ends = [*columns[1:], None]
    for number, line in enumerate(lines[ruler + 1 :], ruler + 2):
        if not line.strip() or _PROMPT.match(line):
            return
        if any(
            column and not line[column - 1 : column].isspace() for column in columns if column < len(line)
        ):
            cells = re.split(r"\s{2,}", line.strip())  # moved to the side when it was copied
        else:
            cells = [line[start:end].strip() for start, end in zip(columns, ends, strict=True)]
        if len(cells) != len(heads):
            raise FormatError(
                f"line {number}: {len(cells)} cells under {len(heads)} heads: {line.strip()[:60]!r}"
            )
        yield dict(zip(heads, cells, strict=True))


def _from_blocks(lines: list[str]) -> Iterator[Mapping[str, str]]:
    """``vib get``: the id on a line of its own, then a field on each line."""
    record: dict[str, str] = {}
    for line in lines:
        if match := _FIELD.fullmatch(line):
            record.setdefault(_key(match[1]), (match[2] or "").strip())
            continue
        if line.strip() and not line[:1].isspace():  # further lines of a description are indented
            if "name" in record:
                yield record
            record = {"id": line.strip()}
    if "name" in record:
        yield record


def _from_keyvalue(lines: list[str]) -> Iterator[Mapping[str, str]]:
    records: dict[int, dict[str, str]] = {}
    for line in lines:
        if match := _KEYVALUE.fullmatch(line):
            records.setdefault(int(match[1]), {})[_key(match[2])] = match[3].strip()
    yield from (records[number] for number in sorted(records))


def _from_csv(text: str) -> Iterator[Mapping[str, str]]:
    try:
        rows = csv.reader(io.StringIO(text, newline=""))
        heads = [_key(head) for head in next(rows)]
        for row in rows:
            if any(cell.strip() for cell in row) and not _PROMPT.match(row[0]):
                # esxcli ends each line with a comma; nested lists end with one, too
                yield {head: cell.strip().rstrip(",") for head, cell in zip(heads, row, strict=False) if head}
    except csv.Error as error:
        raise FormatError(f"csv of esxcli: {error}") from None


def _from_json(text: str) -> Iterator[Mapping[str, str]]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"json of esxcli: {str(error)[:200]}") from None
    for entry in read if isinstance(read, list) else [read]:
        if not isinstance(entry, dict):
            raise FormatError("json of esxcli: a list of objects was expected")
        yield {_key(key): _text(value) for key, value in entry.items()}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(one) for one in value if not isinstance(one, list | dict))
    return value.strip() if isinstance(value, str) else str(value)[:200]


def _from_xml(text: str) -> Iterator[Mapping[str, str]]:
    root = parse_xml(text.encode("utf-8", "surrogatepass"), "xml of esxcli")
    for structure in root.iter("{*}structure"):
        record = {}
        for field in structure.iterchildren("{*}field"):
            # <field name="Name"><string>esx-base</string></field>; lists have several
            texts = [one.strip() for one in map(str, field.itertext()) if one.strip()]
            record[_key(field.get("name", ""))] = ",".join(texts)
        yield record
