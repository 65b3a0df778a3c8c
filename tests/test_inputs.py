"""Which of the user's files a run watches, and its estimate where rows cannot be counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hclmp.cli.estimate import estimate
from hclmp.config import Config, DosConfig, TargetsConfig, resolve
from hclmp.errors import UserError
from hclmp.sources.inputs import count_rows, input_files
from tests.conftest import Command, assert_refused
from tests.made_up.archive import DOS, UVIS, files, write_folder, write_zip
from tests.made_up.plates import store, two_plates
from tests.made_up.tables import (
    config_for,
    good_table,
    set_up,
    write,
)


def targets(source: Any, path: str | None) -> list[str]:
    return input_files(TargetsConfig(source=source, path=path))


def test_only_what_the_source_reads_is_an_input(workdir: Path) -> None:
    """The run's own outputs, in a folder of the user's, would make a circle."""
    store(workdir / "ten_replicas", two_plates())
    write_folder(workdir / "data", files())
    write(workdir / "table.csv", good_table())
    for other in ("data/processed/targets.parquet", f"data/{UVIS}/.DS_Store"):
        (workdir / other).parent.mkdir(exist_ok=True)
        (workdir / other).touch()
    (workdir / "ten_replicas" / "notes.txt").touch()
    plates = ["ten_replicas/p1.csv", "ten_replicas/p2.csv"]
    assert targets("plates", ".") == targets("plates", "ten_replicas") == plates
    labels = targets("reference", "data")
    assert targets("reference", ".") == labels
    assert f"data/{UVIS}/uvis_dict.chkpt" in labels
    assert labels == sorted(f"data/{n}" for n in files() if n.startswith(UVIS))
    dos = input_files(DosConfig(source="reference", path="data"))
    assert dos == sorted(f"data/{n}" for n in files() if n.startswith(DOS))
    assert targets("table", "table.csv") == ["table.csv"]
    write_zip(Path("data.zip"), files())
    assert targets("reference", "data.zip") == ["data.zip"]
    assert targets("demo", None) == []


@pytest.mark.parametrize(
    ("source", "path", "words"),
    [
        ("table", "none.csv", "no such file or folder"),
        ("table", "empty", "empty: a folder, not a file"),
        ("plates", "empty", "no .csv file here"),
    ],
)
def test_what_cannot_be_an_input_is_said(workdir: Path, source: str, path: str, words: str) -> None:
    (workdir / "empty").mkdir()
    with pytest.raises(UserError, match=words):
        targets(source, path)


def test_a_folder_where_a_table_belongs_is_called_one(workdir: Path, command: Command) -> None:
    config = set_up(workdir, config=config_for("tables"))
    (workdir / "tables").mkdir()
    answer = command("prepare-targets", "--config", config)
    assert_refused(answer, "tables: a folder, not a file; name the .csv or .parquet file itself")


def test_rows_are_counted_where_that_is_cheap(workdir: Path) -> None:
    table, limited = (TargetsConfig(source="table", path="t.csv", limit=n) for n in (None, 7))
    assert count_rows(table) is None
    assert count_rows(limited) == 7
    write(workdir / "t.csv", good_table())
    assert count_rows(table) == len(good_table())
    assert count_rows(limited) == 7
    assert (count_rows(TargetsConfig()), count_rows(DosConfig())) == (1500, 1048)
    assert count_rows(DosConfig(source="materials_project")) is None


def run(**sections: Any) -> Config:
    """A configuration of three folds."""
    Path("three.tsv").write_text("system\tfold\nCu-Fe\ta\nFe-Ti\tb\nTi-W\tc\n")
    return resolve({"systems": "three.tsv", **sections}, origin="test")


def test_an_estimate_does_not_make_up_rows(workdir: Path) -> None:
    store(workdir / "plates", two_plates())
    none = {"dos": {"source": "none"}, "variants": ["ridge", "mean"]}
    plates: dict[str, Any] = {"source": "plates", "path": "plates"}
    text = estimate(run(targets=plates, **none))
    assert "2 variants x 3 folds)" in text
    assert "not known before the source is read" in text
    assert "1500" not in text
    assert "minutes" not in text
    text = estimate(run(targets=plates | {"limit": 70}, **none))
    assert "70 rows)" in text


def test_an_estimate_does_not_make_up_materials(workdir: Path) -> None:
    project = {"source": "materials_project"}
    text = estimate(run(dos=project))
    assert "1500 rows)" in text
    assert "and what the generator takes, which is not known" in text
    assert "not known" not in estimate(run(dos=project | {"limit": 50}))
    assert "not known" not in estimate(run())
