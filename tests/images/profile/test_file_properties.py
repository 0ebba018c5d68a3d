"""Whatever somebody wrote into a profile's file: changed, it keeps its comments; else it gives one error."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midwife.images.errors import ProfileError
from midwife.images.objects.profile import ProfileVib
from midwife.images.profile.file import read, save

BASE = "VMware_bootbank_esx-base_8.0.3-0.35.24280767"


def vibs(*ids: str) -> tuple[ProfileVib, ...]:
    return tuple(ProfileVib(vib_id) for vib_id in sorted(ids))


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30)
_LINE = _TEXT.filter(str.isprintable)
_GAP = st.sampled_from(["", "\n", "# a comment\n", "\n# one\n\n# two\n", "   # indented\n"])


@st.composite
def _one_of_each(draw: st.DrawFn) -> list[str]:
    names = draw(st.permutations("abcd"))[: draw(st.integers(0, 4))]
    return [f"Lab_bootbank_vib-{name}_{draw(st.sampled_from(['1.0-1', '2.0-1']))}" for name in names]


@st.composite
def _files(draw: st.DrawFn) -> str:
    keys = {
        "name": draw(st.sampled_from(["lab", '"lab"', "'lab'", "8.0"])),
        "vendor": "Lab",
        "author": draw(st.sampled_from(["", "Ann", '"A: b"', "|-\n  Ann", ">-\n  Ann\n  Bob"])),
        "description": draw(
            st.sampled_from(["", "x", "|\n  one\n\n  two\n", "'it''s'", "two\n   lines", '""'])
        ),
        "read-only": draw(st.sampled_from(["yes", "false", ""])),
    }
    order = [*draw(st.permutations([key for key in keys if key != "read-only"])), "read-only"]
    ids = draw(_one_of_each())
    indent = draw(st.sampled_from(["", "  ", "     "]))
    style = draw(st.sampled_from(["block", "flow", "none"]))
    lines = [draw(_GAP)]
    for key in order:
        lines.append(f"{key}: {keys[key]}".rstrip() + draw(st.sampled_from(["\n", "\n", "  # why\n"]))
                     if "\n" not in keys[key] else f"{key}: {keys[key]}".rstrip() + "\n")  # fmt: skip
        # below a block, an indented comment is a part of its text
        lines.append(draw(_GAP) if "\n" not in keys[key] else draw(st.sampled_from(["", "# a comment\n"])))
    if style == "block":
        lines.append(f"vibs:{draw(st.sampled_from(['', '  # the list']))}\n")
        for vib_id in ids:
            item = draw(
                st.sampled_from(["{id}", "'{id}'", "id: {id}", "id: {id}\n{i}  depot: far", "\n{i}    {id}"])
            )
            lines += [
                draw(_GAP),
                f"{indent}- {item.format(id=vib_id, i=indent)}",
                draw(st.sampled_from(["\n", " # c\n"])),
            ]
    elif style == "flow":
        lines.append(f"vibs: [{', '.join(ids)}]\n")
    lines.append(draw(_GAP))
    text = "".join(lines)
    if draw(st.booleans()):
        text = text.rstrip("\n")
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    text=_files(),
    ids=_one_of_each(),
    author=_LINE,
    description=_TEXT,
    depots=st.sampled_from([(), ("far",), ("near", "far")]),
)
def test_any_file_can_be_made_to_say_anything_and_keeps_its_comments(
    tmp_path_factory: pytest.TempPathFactory, text: str, ids: list[str], author: str, description: str,
    depots: tuple[str, ...],
) -> None:  # fmt: skip
    root = tmp_path_factory.getbasetemp() / "property"
    (root / "image-profiles").mkdir(parents=True, exist_ok=True)
    (root / "image-profiles/x.yaml").write_bytes(text.encode())
    found = read(root, "image-profiles/x.yaml")
    wanted = replace(found.profile, vibs=vibs(*ids), author=author, description=description, read_only=True)
    after = save(found, wanted, depots)
    assert read(root, "image-profiles/x.yaml").profile == wanted
    assert after.depots == depots
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            assert line in after.raw.decode().splitlines(), (text, after.raw.decode())


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=st.binary(max_size=120) | st.text("namevdor: -[]{}&*#|>\n'\"\\", max_size=120).map(str.encode))
def test_any_bytes_are_a_profile_or_one_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    root = tmp_path_factory.getbasetemp() / "bytes"
    (root / "image-profiles").mkdir(parents=True, exist_ok=True)
    for start in (b"", b"name: x\nvendor: y\n"):
        (root / "image-profiles/x.yaml").write_bytes(start + raw)
        try:
            found = read(root, "image-profiles/x.yaml")
            save(found, replace(found.profile, author="Ann", vibs=vibs(BASE)), ("d",))
        except ProfileError:
            continue
        assert read(root, "image-profiles/x.yaml").profile.author == "Ann"
