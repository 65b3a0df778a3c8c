"""What is declared in several places says the same in each."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hclmp import __version__
from tests.conftest import Command

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = [
    Requirement(text) for group in PROJECT["optional-dependencies"].values() for text in group
]


def pinned(lines: list[str]) -> dict[str, str]:
    """Canonical name -> version of lines such as ``numpy==2.0``; each name once, each pinned."""
    pins: dict[str, str] = {}
    for line in lines:
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)", line)
        assert found, f"not an exact version: {line!r}"
        name = canonicalize_name(found[1])
        assert name not in pins, f"named twice: {name}"
        pins[name] = found[2]
    return pins


def lock() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return pinned([line for line in lines if line and not line.startswith("#")])


def environment() -> tuple[list[str], list[str]]:
    """The conda and the pip lines of environment.yml."""
    parts = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = [part for part in parts if isinstance(part, str)]
    (pip,) = [part["pip"] for part in parts if isinstance(part, dict)]
    return conda, pip


def test_the_environment_is_the_runtime_dependencies_at_the_locks_versions() -> None:
    expected = {canonicalize_name(r.name): lock()[canonicalize_name(r.name)] for r in RUNTIME}
    assert pinned(environment()[1]) == expected


def test_the_environments_python_is_allowed() -> None:
    (python,) = [line for line in environment()[0] if line.startswith("python=")]
    (least,) = re.findall(r">=([\d.]+)", PROJECT["requires-python"])
    assert Version(python.split("=")[1]) >= Version(least)


@pytest.mark.parametrize("requirement", RUNTIME + EXTRAS, ids=str)
def test_the_lock_satisfies_the_requirement(requirement: Requirement) -> None:
    if canonicalize_name(requirement.name) == PROJECT["name"]:  # an extra that includes another
        assert requirement.extras <= PROJECT["optional-dependencies"].keys()
        return
    version = lock()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"{requirement} but the lock has {version}"
    assert requirement.specifier, f"{requirement.name} states no least version"


def test_the_lock_has_the_torch_that_results_were_made_with() -> None:
    assert lock()["torch"] == "2.13.0"


def test_the_version_is_the_same_everywhere(command: Command) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    answer = command("version")
    assert PROJECT["version"] == __version__ == str(citation["version"]) == answer.text
    assert str(Version(__version__)) == __version__


def test_the_license_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["license"] == citation["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_every_package_that_is_imported_is_declared() -> None:
    """A third-party module that hclmp imports is a dependency by name, not by luck."""
    import ast
    import sys

    modules = {
        "elementembeddings": "ElementEmbeddings",
        "emmet": "emmet-core",
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
    }
    imported: set[str] = set()
    for path in (ROOT / "hclmp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    others = imported - sys.stdlib_module_names - {"hclmp"}
    needed = {canonicalize_name(modules.get(name, name)) for name in others}
    declared = {canonicalize_name(r.name) for r in RUNTIME}
    assert "numpy" in needed
    # pydantic_core is pydantic's own other half, pinned by it
    assert needed - {"pydantic-core"} <= declared
