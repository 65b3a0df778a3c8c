"""The order of the rooms of ``hclmp/``: imports go downwards only, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hclmp.provenance import PACKAGE

# From the ground up: a room may import what stands before it, and itself.
ROOMS = [
    "errors",
    "progress",
    "files",
    "provenance",
    "tensors",
    "config",
    "data",
    "sources",
    "models",
    "evaluation",
    "model",
    "screening",
    "pipeline",
    "cli",
]
MOST_MODULES = 9  # directly in hclmp/


def modules(package: Path) -> dict[str, Path]:
    """Dotted name -> file, of all modules of a package."""
    files = sorted(package.rglob("*.py"))
    parts = [(package.name, *file.relative_to(package).with_suffix("").parts) for file in files]
    names = [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts]
    return dict(zip(names, files, strict=True))


def imports(package: Path) -> Iterator[tuple[str, str]]:
    """Importing and imported module of every import statement, those within functions too."""
    known = modules(package)
    for name, file in known.items():
        for node in ast.walk(ast.parse(file.read_text())):
            found: list[str] = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found = [n if n in known else node.module for n in names]
            yield from ((name, n) for n in found if n in known and n != name)


def upward(package: Path) -> list[str]:
    """The imports that go up from a room to a later one."""
    found = []
    for importing, imported in imports(package):
        rooms = [name.split(".")[1] for name in (importing, imported) if "." in name]
        if len(rooms) == 2 and ROOMS.index(rooms[0]) < ROOMS.index(rooms[1]):
            found.append(f"{importing} imports {imported}")
    return found


def circles(package: Path) -> list[str]:
    """The modules that import themselves through others; a package's own face does not count."""
    edges: dict[str, set[str]] = {}
    for importing, imported in imports(package):
        edges.setdefault(importing, set()).add(imported)
    found = []
    for start in edges:
        seen, todo = set[str](), list(edges[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += edges.get(name, ())
        if start in seen:
            found.append(start)
    return found


def test_every_room_is_in_the_list() -> None:
    rooms = {name.split(".")[1] for name in modules(PACKAGE) if "." in name}
    assert rooms == set(ROOMS)


def test_imports_go_downwards_and_in_no_circle() -> None:
    assert upward(PACKAGE) == []
    assert circles(PACKAGE) == []


def test_few_modules_lie_at_the_top() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_MODULES


@pytest.mark.parametrize(
    ("file", "text", "up", "circle"),
    [
        ("errors.py", "from hclmp.config import Config\n", True, False),
        ("data/tables.py", "def f():\n    import hclmp.cli.main\n", True, False),
        ("cli/main.py", "from hclmp.data import tables\n", False, False),
        ("data/tables.py", "from hclmp.data.folds import fold\n", False, True),
    ],
)
def test_an_upward_import_and_a_circle_are_found(
    tmp_path: Path, file: str, text: str, up: bool, circle: bool
) -> None:
    package = tmp_path / "hclmp"
    files = {
        "__init__.py": "",
        "errors.py": "",
        "config/__init__.py": "",
        "data/__init__.py": "",
        "data/tables.py": "",
        "data/folds.py": "from hclmp.data.tables import table\n",
        "cli/__init__.py": "",
        "cli/main.py": "",
    }
    for name, content in {**files, file: text}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert bool(upward(package)) == up
    assert bool(circles(package)) == circle
