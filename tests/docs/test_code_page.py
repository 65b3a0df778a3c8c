"""Every path that docs/code.md names exists, and every function of its walks is in its file."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs/code.md").read_text()
PATH = re.compile(r"`((?:hclmp|workflow|config|tests)/[\w./-]*|dvc\.yaml|\.ci/run)`")
ROW = re.compile(r"^\| `([\w/]+\.py)` \| `([\w.]+)` \|", re.MULTILINE)
WALKS = [ROW.findall(part) for part in PAGE.split("## Three walks")[1].split("\n\n| file")[1:]]


def definitions(file: str) -> set[str]:
    """The functions, classes and methods of a module: ``read``, ``Model``, ``Model.predict``."""
    found = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (part.name for part in node.body if isinstance(part, ast.FunctionDef))
            found |= {f"{node.name}.{name}" for name in methods}
    return found


@pytest.mark.parametrize("path", sorted(set(PATH.findall(PAGE))))
def test_a_path_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("file", "function"), sorted({row for walk in WALKS for row in walk}))
def test_a_function_that_a_walk_names_is_in_its_file(file: str, function: str) -> None:
    assert function in definitions(file)


def test_there_are_three_walks_of_at_most_eight_files() -> None:
    assert len(WALKS) == 3
    assert all(4 <= len(walk) <= 8 for walk in WALKS)


def test_every_room_is_on_the_page() -> None:
    rooms = {path.parent.relative_to(ROOT) for path in ROOT.glob("hclmp/*/__init__.py")}
    assert rooms
    missing = [str(room) for room in rooms if f"`{room}/" not in PAGE]
    assert not missing, f"docs/code.md does not name {missing}"
