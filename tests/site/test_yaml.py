"""One YAML file: texts with their positions, or a problem at the right place. Both of PyYAML's parsers are held
to it, because some distributions build PyYAML without the fast one.
"""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from midwife.site.problems import Problem
from midwife.site.yaml import MAX_BYTES, Document, Mark, Place, parse_yaml


@pytest.fixture(params=["libyaml", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pure":
        monkeypatch.delattr(yaml, "CBaseLoader", raising=False)
    elif not hasattr(yaml, "CBaseLoader"):
        pytest.skip("this PyYAML was built without libyaml")
    return str(request.param)


def parse(raw: str | bytes) -> tuple[Document | None, list[str]]:
    problems: list[Problem] = []
    document = parse_yaml(raw.encode() if isinstance(raw, str) else raw, "x.yaml", problems)
    return document, [str(problem) for problem in problems]


@pytest.mark.usefixtures("parser")
def test_values_are_texts_and_know_their_place() -> None:
    document, problems = parse(
        "mac: 52:54:00:12:34:56\nsteps:\n  - run: |\n      äöü\n    mode: 0644\nnone:\n"
    )
    assert problems == []
    assert document is not None
    assert document.data == {"mac": "52:54:00:12:34:56", "steps": [{"run": "äöü\n", "mode": "0644"}]}
    assert document.mark(("mac",)) == Mark(1, 6)
    assert document.mark(("mac",), key=True) == Mark(1, 1)
    assert document.mark(("steps", 0, "mode")) == Mark(5, 11)
    assert document.mark(("steps", 0, "run")) == Mark(3, 10, block=True)
    # What is not there stands where its parent stands; a key without a value counts as not written.
    assert document.mark(("steps", 0, "timeout")) == Mark(3, 5)
    assert document.mark(("none",)) == Mark(6, 6)
    assert Place(document, ("steps", 0, "run")).problem("x", line=1).line == 4


@pytest.mark.usefixtures("parser")
def test_columns_count_characters_not_bytes() -> None:
    _, problems = parse("{ää: 1, ää: 2}\n")
    assert problems == ["x.yaml:1:9: the key 'ää' is here twice (first in line 1); take one out"]


@pytest.mark.usefixtures("parser")
def test_an_alias_is_a_copy() -> None:
    document, problems = parse("a: &x [1, 2]\nb: *x\n")
    assert problems == []
    assert document is not None
    assert document.data == {"a": ["1", "2"], "b": ["1", "2"]}
    assert document.mark(("b", 1)) == Mark(1, 11)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("raw", ["", "# only a comment\n", "---\n", "\ufeff", "~\n"])
def test_an_empty_file_has_no_data(raw: str) -> None:
    document, problems = parse(raw)
    assert document is not None
    assert document.data is None
    assert problems == []


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a:\n\tb: 1\n", "2:1: a tab in the indentation; YAML wants blanks"),
        ("a: 1\n  \tb: 2\n", "2:3: a tab in the indentation; YAML wants blanks"),
        ("a: 'x\nb: 1\n", "1:4: a quote that is opened here is never closed; close it"),
        ("a: 1\na: 2\n", "2:1: the key 'a' is here twice (first in line 1); take one out"),
        ("a: b: c\n", "1:5: a colon where none can be; mend the indentation, or quote the text"),
        ("a: 1\nfoo\nb: 2\n", "2:1: a key without its colon; write key: value, with a blank after the colon"),
        ("a: 1\n b: 2\n", "2:3: a colon where none can be; mend the indentation, or quote the text"),
        ("a: @x\n", "1:4: this character cannot begin a value; put the value in quotes"),
        ("a: *y\n", "1:4: no anchor &y before this *y; quote a text with *"),
        ("a: &x [*x]\n", "1:8: no anchor &x before this *x; quote a text with *"),
        ("a: !!int 5\n", "1:4: the tag tag:yaml.org,2002:int means nothing here; every value is a text"),
        ("a: !!python/object/apply:os.system [x]\n", "1:4: the tag tag:yaml.org,2002:python/object/apply"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "3:3: merge keys (<<) are not read; write the keys out"),
        ("? [a]\n: b\n", "1:3: this key is not a text; write key: value"),
        ("a: 1\n---\nb: 2\n", "3:1: a second document begins here; one document (---) a file"),
        ("a: \x01\n", "1:4: control character U+0001; take it out"),
        ("a: 1\nb: '\ud800'\n".encode("utf-8", "surrogatepass"), "2:5: this byte is not UTF-8"),
        ("a: ä\n".encode("latin-1"), "1:4: this byte is not UTF-8; save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), "1:1: this byte is not UTF-8; save the file as UTF-8"),
        ('a: "\\0"\n', "1:4: control character U+0000 in this text; take it out"),
        ("a: " + "[" * 100, "1:44: nested deeper than 40 levels; nothing in a site is"),
        ("a: " + "{a: " * 100, "nested deeper than 40 levels; nothing in a site is"),
    ],
)
def test_broken_yaml_and_where(raw: str | bytes, expected: str) -> None:
    _, problems = parse(raw)
    assert len(problems) == 1, problems
    assert expected in problems[0]


@pytest.mark.usefixtures("parser")
def test_an_impossible_character_is_a_problem() -> None:
    document, problems = parse('a: "\\UFFFFFFFF"\n')
    assert document is None
    assert len(problems) == 1


@pytest.mark.usefixtures("parser")
def test_a_billion_laughs_stop_early() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    document, problems = parse("\n".join(lines))
    assert document is None
    assert len(problems) == 1
    assert "aliases make this file far too large" in problems[0]


def test_a_huge_file_is_not_parsed() -> None:
    document, problems = parse(b"a" * (MAX_BYTES + 1))
    assert document is None
    assert problems == ["x.yaml: is larger than 4 MiB; spread it over several files"]


# fmt: off
_TOKENS = [
    "a", "b: ", "- ", "\n", "  ", "\t", "[", "]", "{", "}", ",", "&x ", "*x", "'", '"', "|\n", ">-\n", "#", "? ",
    "!!", "!<", "%", "---\n", "...\n", "<<: ", "\\U", "\\x", "\x85", "\u2028", "\ufeff", "~", "@",
]
# fmt: on
_YAML_LIKE = st.lists(st.sampled_from(_TOKENS), max_size=60).map("".join)


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    return all(map(_is_plain, value)) if isinstance(value, list) else isinstance(value, str)


@given(
    st.binary() | st.text().map(lambda text: text.encode(errors="replace")) | _YAML_LIKE.map(str.encode),
    st.booleans(),
)
def test_any_bytes_give_plain_data_or_a_problem(raw: bytes, pure: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if pure:
            patch.delattr(yaml, "CBaseLoader", raising=False)
        document, problems = parse(raw)
    if document is None:
        assert problems
    elif document.data is not None:
        assert _is_plain(document.data)
