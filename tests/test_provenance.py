"""Provenance: each fact that determines a result, no other; files whole or not at all."""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from hclmp import __version__
from hclmp import provenance as module
from hclmp.files import atomic_write, write_csv, write_json
from hclmp.provenance import (
    PACKAGE,
    hash_of,
    provenance,
    run_record,
    sha256,
    source_files,
    source_hash,
)
from tests.conftest import Command
from tests.made_up.tables import (
    set_up,
)

STEPS = sorted(
    p.stem for p in (PACKAGE / "pipeline" / "steps").glob("*.py") if p.stem != "__init__"
)


def names(step: str) -> set[str]:
    return {str(path.relative_to(PACKAGE)) for path in source_files(step)}


def test_a_step_depends_on_what_it_imports() -> None:
    train, gan, dos = names("train"), names("pretrain_gan"), names("pull_dos")
    assert "models/hclmp/network.py" in train
    assert "models/hclmp/network.py" not in gan
    assert "models/generator/network.py" in gan
    assert {
        "pipeline/steps/pull_dos.py",
        "sources/table.py",
        "data/composition.py",
        "__init__.py",
    } <= dos
    for step in STEPS:
        assert f"pipeline/steps/{step}.py" in names(step)
        assert "cli/main.py" not in names(step)


@pytest.mark.parametrize("step", ["pull_dos", "prepare_targets"])
def test_steps_on_tables_depend_on_no_module_with_torch(step: str) -> None:
    users = [p for p in source_files(step) if "import torch" in p.read_text()]
    users += [p for p in source_files(step) if "from torch" in p.read_text()]
    assert users == []
    assert not any(name.startswith("models/") for name in names(step))


def test_the_closure_holds_what_the_interpreter_loads() -> None:
    """Modules that Python itself loads for a step are all in the closure found without running."""
    program = (
        "import hclmp.pipeline.steps.pull_dos, sys; "
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'hclmp'))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = {Path(name) for name in answer.stdout.split()}
    assert PACKAGE / "pipeline" / "steps" / "pull_dos.py" in loaded
    assert loaded <= set(source_files("pull_dos"))


@pytest.mark.parametrize(
    "name", ["hclmp.cli.main", "hclmp.pipeline.jobs", "hclmp.pipeline.steps.prepare_targets"]
)
def test_an_import_does_not_bring_torch(name: str) -> None:
    """A dry run and the help text must not wait for it."""
    program = f"import sys, {name}; print(sorted(sys.modules.keys() & {{'torch', 'numba'}}))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


def test_the_source_hash_follows_bytes_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "hclmp"
    (package / "pipeline" / "steps").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "pipeline/__init__.py": "",
        "pipeline/steps/__init__.py": "",
        "pipeline/steps/one.py": "from hclmp.tool import x\n",
        "pipeline/steps/two.py": "def later() -> None:\n    import hclmp.other\n",
        "tool.py": "x = 1\n",
        "other.py": "y = 1\n",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    monkeypatch.setattr(module, "PACKAGE", package)

    def hashes() -> tuple[str, str]:
        source_hash.cache_clear()
        module._imported.cache_clear()
        return source_hash("one"), source_hash("two")

    try:
        one, two = hashes()
        assert hashes() == (one, two)
        (package / "tool.py").write_text("x = 2\n")
        changed, same = hashes()
        assert changed != one
        assert same == two
        (package / "other.py").write_text("y = 2\n")  # imported within a function
        assert hashes()[1] != two
    finally:
        source_hash.cache_clear()
        module._imported.cache_clear()


def test_the_closure_holds_every_source_though_they_are_imported_by_name() -> None:
    sources = {f"sources/{n}.py" for n in ("demo", "table", "plates/read", "reference/read")}
    assert sources | {"sources/materials_project/read.py"} <= names("prepare_targets")


def test_nothing_volatile_is_in_provenance(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = workdir / "data.csv"
    data.write_text("a\n1\n")

    def made() -> dict[str, object]:
        return provenance("train", config={"seed": 3}, inputs={"targets": data})

    first = made()
    time.sleep(0.01)
    elsewhere = workdir / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr("platform.node", lambda: "another host")
    data.touch()
    assert made() == first
    assert first == {
        "hclmp": __version__,
        "step": "train",
        "config": {"seed": 3},
        "inputs": {"targets": hashlib.sha256(b"a\n1\n").hexdigest()},
        "source": source_hash("train"),
    }
    data.write_text("a\n2\n")
    assert made() != first


def test_hashes(workdir: Path) -> None:
    Path("f").write_bytes(b"abc")
    assert sha256("f") == hashlib.sha256(b"abc").hexdigest()
    assert hash_of({"a": 1, "b": [2]}) == hash_of({"b": [2], "a": 1})
    assert hash_of({"a": 1}) != hash_of({"a": 2})


def test_a_file_is_written_whole_or_not_at_all(workdir: Path) -> None:
    target = workdir / "new" / "file.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("old")
        assert not target.exists()
    assert target.read_text() == "old"

    def interrupted() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


def test_text_formats(workdir: Path) -> None:
    write_json("a.json", {"b": 1, "a": [0.1]})
    assert Path("a.json").read_text() == '{\n  "a": [\n    0.1\n  ],\n  "b": 1\n}\n'
    write_csv("a.csv", pd.DataFrame({"x": [1.5], "y": ["t"]}))
    assert Path("a.csv").read_text() == "x,y\n1.5,t\n"


def test_volatile_facts_go_to_a_record_that_no_step_reads(workdir: Path) -> None:
    with run_record("train.v.f"):
        pass
    record = json.loads(Path("logs/runs/train.v.f.json").read_text())
    assert set(record) == {"started", "seconds", "host", "python", "commit"}
    datetime.datetime.fromisoformat(record["started"])


def test_no_record_of_a_step_that_failed(workdir: Path) -> None:
    def failing() -> None:
        with run_record("x"):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        failing()
    assert not Path("logs").exists()


def test_a_step_writes_its_provenance(workdir: Path, command: Command) -> None:
    assert command("prepare-targets", "--config", set_up(workdir)).code == 0
    record = json.loads(Path("data/processed/targets.json").read_text())
    about = record["provenance"]
    assert about["source"] == source_hash("prepare_targets")
    assert about["config"]["targets"]["path"] == "table.csv"
    assert about["origin"]["sha256"] == sha256("table.csv")
    run = json.loads(Path("logs/runs/prepare-targets.json").read_text())
    text = json.dumps(record)
    assert run["started"] not in text
    assert run["host"] not in text
