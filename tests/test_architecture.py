"""The shape of the house: who may import whom, how long a file may be, and that every module says what it is for.

docs/explain/architecture.md draws the picture; this keeps it true.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1] / "midwife"
_MODULES = sorted(path for path in _ROOT.rglob("*.py") if "templates" not in path.parts)

# A package may import the packages before it, and itself.
_ORDER = (
    ("resources",),
    ("wire",),
    ("rules",),
    ("site",),
    ("images",),
    ("core",),
    ("store", "customize"),
    ("engine",),
    ("serve",),
    ("cli",),
    ("__main__",),
)
_RANK = {name: rank for rank, names in enumerate(_ORDER) for name in names}

# The same inside midwife/images, whose own modules (errors, disk, flow …) are the ground that all stand on. What
# can be booted knows how to read neither VIBs nor depots; only an export brings the two together.
_IMAGES = {
    "": set(),
    "objects": set(),
    "vib": {"objects"},
    "depot": {"objects", "vib"},
    "profile": {"objects", "vib", "depot"},
    "boot": {"objects"},
    "export": {"objects", "vib", "depot", "profile", "boot"},
}


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _imports(path: Path) -> frozenset[str]:
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _package(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


def _module(path: Path) -> str:
    parts = path.relative_to(_ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", _MODULES, ids=_module)
def test_imports_point_one_way(path: Path) -> None:
    mine = _package(_module(path))
    if not mine:
        return
    others = {_package(name) for name in _imports(path) if name.startswith("midwife.")} - {
        mine,
        "__version__",
    }
    wrong = sorted(other for other in others if _RANK[other] >= _RANK[mine])
    assert not wrong, f"{_module(path)} imports {wrong}, which come after {mine}"


def _part(module: str) -> str:
    """``vib`` for midwife.images.vib.ar; "" for a module of the ground, and for what is not of images."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["midwife", "images"] and len(parts) > 2 and parts[2] in _IMAGES else ""


@pytest.mark.parametrize("path", sorted((_ROOT / "images").rglob("*.py")), ids=_module)
def test_imports_point_one_way_inside_images(path: Path) -> None:
    mine = _part(_module(path))
    others = {_part(name) for name in _imports(path)} - {mine, ""}
    if path == _ROOT / "images" / "__init__.py":
        others.discard("objects")  # it offers them to Python users
    assert others <= _IMAGES[mine], f"{_module(path)} imports {sorted(others - _IMAGES[mine])}"


@pytest.mark.parametrize("path", sorted((_ROOT / "images/depot").rglob("*.py")), ids=_module)
def test_a_depot_is_documents_then_sources_then_the_library(path: Path) -> None:
    order = ("formats", "sources", "kept")
    mine = path.parent.name
    later = order[order.index(mine) + 1 :] if mine in order else order
    wrong = [
        name for name in _imports(path) for one in later if name.startswith(f"midwife.images.depot.{one}.")
    ]
    assert not wrong, f"{_module(path)} imports {sorted(wrong)}"


def test_every_part_of_images_has_its_place() -> None:
    assert {path.parent.name for path in (_ROOT / "images").glob("*/__init__.py")} == _IMAGES.keys() - {""}


def test_no_circles_between_modules() -> None:
    names = {_module(path): path for path in _MODULES}
    graph = {
        name: {other for other in _imports(path) if other in names and other != name}
        for name, path in names.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("path", _MODULES, ids=_module)
def test_a_file_is_one_idea(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(_parsed(path)), "a module opens with what it is for"
    assert len(text.splitlines()) <= 420, "longer than one idea"


def test_pure_packages_open_no_sockets_and_no_clocks() -> None:
    impure = {"socket", "asyncio", "time", "subprocess", "sqlite3", "sqlalchemy", "paramiko", "aiohttp"}
    for path in _MODULES:
        if _package(_module(path)) in ("wire", "rules", "core"):
            found = impure & {name.split(".")[0] for name in _imports(path)}
            assert not found, f"{_module(path)} imports {sorted(found)}"
