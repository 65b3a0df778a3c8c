"""A user's mistake ends in one message that names it, exit code 2, and nothing written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors import SafetensorError

from hclmp import tensors
from hclmp.errors import UserError
from hclmp.sources.table import read_frame
from tests.conftest import Command, assert_refused
from tests.made_up.tables import (
    config_for,
    good_dos,
    good_table,
    set_up,
    wide_dos,
    write,
)

SUFFIXES = (".csv", ".parquet")


def spoiled(column: str, value: object, row: int = 3) -> pd.DataFrame:
    """The good table with one other cell, in a data row counted from 1."""
    frame = good_table().astype(object)
    frame.loc[row - 1, column] = value
    return frame


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("Xx2O3", "row 3: 'Xx2O3' names no real element: Xx"),
        ("Fe2O3)", "row 3: 'Fe2O3)' does not parse as a formula"),
        ("", "row 3: '' is not a formula"),
        ("O2", "row 3: 'O2' has no element left once O is left out"),
        ("Rf2O3", "the `matscholar` vectors lack elements of row 3 (Rf2O3: Rf)"),
        ("CfO2", "the `magpie` vectors lack elements of row 3 (CfO2: Cf)"),
    ],
)
def test_a_bad_formula(
    workdir: Path, command: Command, suffix: str, value: str, words: str
) -> None:
    config = set_up(workdir, spoiled("formula", value).convert_dtypes(), suffix=suffix)
    assert_refused(command("prepare-targets", "--config", config), f"table{suffix}", words, "emove")


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_a_csv_file_without_commas(
    workdir: Path, command: Command, separator: str, name: str
) -> None:
    config = set_up(workdir)
    good_table().to_csv("table.csv", sep=separator, decimal=",", index=False)
    words = f"table.csv: separated by {name}; save it with commas"
    assert_refused(command("prepare-targets", "--config", config), words)
    assert_refused(command("new", "mine", "--targets", "table.csv"), words)
    assert not Path("mine").exists()


def test_commas_in_the_names_of_a_table_with_semicolons(workdir: Path) -> None:
    (workdir / "table.csv").write_text("formula;gap, eV;rate\nFe2O3;1,5;2\n")
    with pytest.raises(UserError, match=r"table\.csv: separated by semicolons"):
        read_frame("table.csv")


@pytest.mark.parametrize("first", ["sep=;", "sep=,", "# measured in May, at 300 K", "# ours"])
def test_a_line_before_the_names_of_the_columns(workdir: Path, first: str) -> None:
    (workdir / "table.csv").write_text(f"{first}\nformula,gap,rate\nFe2O3,1.5,2\n")
    with pytest.raises(UserError, match=f"its first line, `{first}`, is no .*: remove it"):
        read_frame("table.csv")


def test_semicolons_in_the_cells_of_a_table_with_commas(workdir: Path) -> None:
    (workdir / "table.csv").write_text("formula,gap; eV\nFe2O3,1.5\n")
    assert list(read_frame("table.csv")) == ["formula", "gap; eV"]
    (workdir / "table.csv").write_text('#,formula,"a;b;c;d"\n1,Fe2O3,1.5\n')
    assert list(read_frame("table.csv")) == ["#", "formula", "a;b;c;d"]
    (workdir / "table.csv").write_text("formula\nFe2O3;TiO2\n")
    assert read_frame("table.csv")["formula"].tolist() == ["Fe2O3;TiO2"]


def test_a_formula_cell_without_a_value_in_parquet(workdir: Path, command: Command) -> None:
    config = set_up(workdir, spoiled("formula", None).convert_dtypes(), suffix=".parquet")
    assert_refused(command("prepare-targets", "--config", config), "row 3: ", "is not a formula")


@pytest.mark.parametrize(
    ("value", "shown"),
    [("", "''"), ("nan", "'nan'"), ("inf", "'inf'"), ("about 3", "'about 3'"), ("1;5", "'1;5'")],
)
def test_a_csv_cell_that_is_no_finite_number(
    workdir: Path, command: Command, value: str, shown: str
) -> None:
    config = set_up(workdir, spoiled("gap", value))
    answer = command("prepare-targets", "--config", config)
    assert_refused(
        answer, f"table.csv: column `gap` is not a finite number in row 3 ({shown})", "Correct or"
    )


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        ([float("nan")], "row 3 (nan)"),
        ([float("inf")], "row 3 (inf)"),
        ([None], "row 3 (nan)"),
        (["about 3"], "row 3 ('about 3')"),
        ([True] * 25, "row 1 (True), row 2 (True)"),
        (list(pd.date_range("2020-01-01", periods=25)), "row 1 (2020-01-01 00:00:00), row 2"),
    ],
)
def test_a_parquet_cell_that_is_no_finite_number(
    workdir: Path, command: Command, cells: list[Any], shown: str
) -> None:
    frame = good_table()
    if len(cells) == 1:  # in row 3 of numbers, or of their text
        kind = type(cells[0]) if isinstance(cells[0], str) else float
        values = [kind(value) for value in frame["gap"]]
        cells = [*values[:2], *cells, *values[3:]]
    frame["gap"] = cells
    config = set_up(workdir, frame, suffix=".parquet")
    answer = command("prepare-targets", "--config", config)
    assert_refused(answer, "table.parquet: column `gap` is not a finite number in", shown)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [0.0, -2.0])
def test_a_value_without_a_logarithm(
    workdir: Path, command: Command, suffix: str, value: float
) -> None:
    frame = good_table()
    frame.loc[2, "rate"] = value
    properties = {"gap": {}, "rate": {"transform": "log10"}}
    config = config_for(f"table{suffix}", properties=properties)
    answer = command(
        "prepare-targets", "--config", set_up(workdir, frame, config=config, suffix=suffix)
    )
    assert_refused(
        answer, f"column `rate` is to be learned as log10, but is not positive in row 3 ({value:g})"
    )


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (
            {"formula_column": "name"},
            "no column name (`targets.formula_column`); the table has formula, gap, rate",
        ),
        (
            {"properties": {"gap": {}, "gop": {}}},
            "no column gop (`targets.properties`); the table has formula, gap, rate",
        ),
        ({"left_out": ["o"]}, "elements to be left out: o is no element"),
        ({"path": "none.csv"}, "none.csv: no such file"),
        ({"path": "book.xlsx"}, "book.xlsx: not a .csv or .parquet file; save it as CSV"),
        ({"path": "zero.csv"}, "zero.csv: cannot be read: No columns"),
        ({"path": "zero.parquet"}, "zero.parquet: cannot be read: "),
        ({"path": "header.csv"}, "header.csv: the table is empty"),
        ({"path": "header.parquet"}, "header.parquet: the table is empty"),
        ({"path": "long.csv"}, "long.csv: cannot be read: Expected 3 fields in line 2, saw 4. "),
        ({"path": "twice.csv"}, "twice.csv: columns named twice: gap"),
        ({"path": "alone.csv"}, "alone.csv: no property column beside formula"),
        ({"path": "all.csv"}, "all.csv: a property cannot be called all"),
    ],
)
def test_a_bad_table(workdir: Path, command: Command, targets: dict[str, Any], words: str) -> None:
    (workdir / "book.xlsx").write_bytes(b"PK")
    (workdir / "zero.csv").touch()
    (workdir / "zero.parquet").touch()
    write(workdir / "header.csv", good_table().head(0))
    write(workdir / "header.parquet", good_table().head(0))
    (workdir / "long.csv").write_text("formula,gap,rate\nFe,1,2,3\nTi,1,2,3\n")
    (workdir / "twice.csv").write_text("formula,gap,gap\nFe,1,2\n")
    (workdir / "alone.csv").write_text("formula,sample_id\nFe,1\n")
    (workdir / "all.csv").write_text("formula,all\nFe,1\n")
    config = set_up(workdir, config=config_for(**{"path": "table.csv", **targets}))
    assert_refused(command("prepare-targets", "--config", config), words)


@pytest.mark.parametrize("allow_missing", [True, False])
@pytest.mark.parametrize(("cut", "cells"), [(1, 2), (2, 1)])
def test_a_file_that_is_cut_off(
    workdir: Path, command: Command, cut: int, cells: int, allow_missing: bool
) -> None:
    config = set_up(workdir, config=config_for(allow_missing=allow_missing))
    whole = (workdir / "table.csv").read_text()
    (workdir / "table.csv").write_text("\n" + whole.rstrip().rsplit(",", cut)[0])
    answer = command("prepare-targets", "--config", config)
    assert_refused(answer, f"names 3 columns, but fewer cells are in row 25 ({cells}). Is the file")


def test_blank_cells_with_their_commas_are_no_cut(workdir: Path, command: Command) -> None:
    """Nor are empty lines, cells with commas in them, or a comma after the last name alone."""
    table = good_table().assign(note="a, b")[["formula", "note", "gap", "rate"]]
    table.loc[24, "rate"] = np.nan
    file = set_up(workdir, table, config=config_for(properties={"gap": {}, "rate": {}}))
    text = (workdir / "table.csv").read_text().replace("rate\n", "rate,\n\n")
    (workdir / "table.csv").write_text("\ufeff" + text + "\n\n")
    assert_refused(command("prepare-targets", "--config", file), "`rate` is not a finite number in")
    allowed = config_for(properties={"gap": {}, "rate": {}}, allow_missing=True)
    file.write_text(yaml.safe_dump(allowed))
    answer = command("prepare-targets", "--config", file)
    assert answer.code == 0, answer.text
    assert "1 values missing" in answer.text


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"sample_id": ["x"] * 25}, "column `sample_id` must be unique; repeated are x"),
        ({"sample_id": ["", *map(str, range(24))]}, "column `sample_id` is empty in row 1"),
        ({"gap": [1.5] * 25}, "gap has one value in every row: there is nothing to learn"),
        (
            {"gap_std": [0.1, -0.5] + [0.1] * 23},
            "column `gap_std` is a standard deviation, but negative in row 2 (-0.5)",
        ),
        ({"gap_std": [0.1, "?"] + [0.1] * 23}, "`gap_std` is not a finite number in row 2 ('?')"),
    ],
)
def test_a_bad_column(
    workdir: Path, command: Command, extra: dict[str, list[Any]], words: str
) -> None:
    config = set_up(workdir, good_table().assign(**extra))
    assert_refused(command("prepare-targets", "--config", config), "table.csv: ", words)


def test_a_property_that_does_not_vary_in_a_folds_training_rows(
    workdir: Path, command: Command
) -> None:
    frame = good_table()
    held_out = frame["formula"].str.contains("Fe") & frame["formula"].str.contains("Ti")
    frame["gap"] = np.where(held_out, frame["gap"], 1.0)
    answer = command("prepare-targets", "--config", set_up(workdir, frame))
    assert_refused(
        answer,
        "fold `a` leaves",
        "training samples, in which gap has fewer than two different values",
    )


@pytest.mark.parametrize(
    ("sheet", "words"),
    [
        ("system\nAl-Fe-Ti\n", "fold `Al-Fe-Ti`: the table has no sample of Al-Fe-Ti"),
        ("system\nFe-Xx\n", "the table has no sample of Fe-Xx"),
        (
            "system\tfold\nFe-Ti-W\ta\nW-Fe-Ti\tb\n",
            "systems.tsv: row 2: system Fe-Ti-W is named twice",
        ),
        ("name\nFe-Ti-W\n", "systems.tsv: no column `system` (columns are separated by tabs)"),
        ("system fold\nFe-Ti-W a\n", "no column `system` (columns are separated by tabs)"),
        ("system\tfold\n", "systems.tsv: no systems in it"),
        ("", "systems.tsv: no column `system`"),
        ("system\tfold\nFe-Ti-W\ta\tb\n", "systems.tsv: row 1 has 3 cells"),
        (
            "system\tfold\n"
            + "".join(f"{e}\tall-at-once\n" for e in ("Cu", "Fe", "Mn", "Ti", "W")),
            "fold `all-at-once` leaves no training data",
        ),
    ],
)
def test_a_bad_sheet(workdir: Path, command: Command, sheet: str, words: str) -> None:
    config = set_up(workdir, sheet=sheet)
    assert_refused(command("prepare-targets", "--config", config), words)


def test_no_sheet(workdir: Path, command: Command) -> None:
    config = set_up(workdir)
    (workdir / "systems.tsv").unlink()
    answer = command("prepare-targets", "--config", config)
    assert_refused(answer, "systems.tsv: no such sheet; `hclmp systems` makes one")


def test_too_few_rows_for_a_random_split(workdir: Path, command: Command) -> None:
    config = config_for() | {"split": "random"}
    answer = command(
        "prepare-targets", "--config", set_up(workdir, good_table().head(4), config=config)
    )
    assert_refused(answer, "a random split needs at least 5 samples, the table has 4")


def test_what_was_there_stays_when_new_input_is_bad(workdir: Path, command: Command) -> None:
    config = set_up(workdir)
    assert command("prepare-targets", "--config", config).code == 0
    before = {p: p.read_bytes() for p in Path("data/processed").iterdir()}
    write(workdir / "table.csv", spoiled("gap", "?"))
    assert command("prepare-targets", "--config", config).code == 2
    assert {p: p.read_bytes() for p in Path("data/processed").iterdir()} == before


def dos_config(path: str, **dos: Any) -> dict[str, Any]:
    energies = {"start": -1, "stop": 0.75, "n": 8, "unit": "eV"}
    return config_for() | {"dos": {"source": "table", "path": path, "energies": energies, **dos}}


def spoiled_dos(row: int, values: object) -> pd.DataFrame:
    frame = good_dos()
    frame.at[row - 1, "dos"] = values
    return frame


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (spoiled_dos(3, [1.0] * 7), "lists of one length; most have 8 values, but row 3 (7)"),
        (spoiled_dos(3, None), "lists of one length; most have 8 values, but row 3 (0)"),
        (spoiled_dos(3, [1.0] * 7 + [-2.0]), "is negative in row 3 (Cu3Fe2Mn3O9: -2)"),
        (spoiled_dos(3, [1.0] * 7 + [np.nan]), "is not finite in row 3 (Cu3Fe2Mn3O9: nan)"),
        (spoiled_dos(3, [1.0] * 7 + [np.inf]), "is not finite in row 3 (Cu3Fe2Mn3O9: inf)"),
        (spoiled_dos(3, [1.0] * 7 + [None]), "is not finite in row 3 (Cu3Fe2Mn3O9: nan)"),
        (good_dos(5), "5 DOS values per row, but `dos.energies.n` is 8: set `dos.energies`"),
        (good_dos().rename(columns={"dos": "x"}), "no column dos (`dos.dos_column`)"),
        (good_dos().drop(columns="formula"), "no column formula (`dos.formula_column`)"),
        (good_dos().assign(dos=1.0), "must hold lists of one length"),
        (good_dos().assign(dos=[["a"] * 8] * 25), "column `dos` holds more than numbers"),
        (good_dos().assign(material_id="m"), "column `material_id` must be unique; repeated are m"),
        (good_dos().head(0), "d.parquet: the table is empty"),
        (
            good_dos().assign(formula=["Xx", *good_dos()["formula"][1:]]),
            "row 1: 'Xx' names no real",
        ),
    ],
)
def test_a_bad_dos_table(workdir: Path, command: Command, frame: pd.DataFrame, words: str) -> None:
    lists = pa.Table.from_pandas(frame)
    pq.write_table(lists, workdir / "d.parquet")
    config = set_up(workdir, config=dos_config("d.parquet"))
    assert_refused(command("pull-dos", "--config", config), "d.parquet", words)


@pytest.mark.parametrize(
    ("row", "column", "value", "words"),
    [
        (3, "-0.5", "-1", "the density of states is negative in row 3 (Cu3Fe2Mn3O9: -1)"),
        (3, "-0.5", "", "column `-0.5` is not a finite number in row 3 ('')"),
        (3, "-0.5", "nan", "column `-0.5` is not a finite number in row 3 ('nan')"),
        (3, "formula", "Fe?", "row 3: 'Fe?' does not parse"),
        (1, "note", "text", "column `note` is not a finite number in row 1 ('text')"),
    ],
)
def test_a_bad_wide_dos_table(
    workdir: Path, command: Command, row: int, column: str, value: str, words: str
) -> None:
    frame = wide_dos().astype(object)
    frame.loc[row - 1, column] = value
    write(workdir / "d.csv", frame)
    config = set_up(workdir, config=dos_config("d.csv"))
    answer = command("pull-dos", "--config", config)
    assert_refused(answer, "d.csv", words)
    assert "targets.properties" not in answer.text


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (config_for(), "`dos.source` is `none`, so there is no density of states to pull"),
        (dos_config("none.parquet"), "none.parquet: no such file"),
        (dos_config("d.csv", id_column="mp"), "d.csv: no column mp (`dos.id_column`)"),
        (
            {"dos": {"source": "demo", "energies": {"n": 5}}},
            "`dos.energies`: the demo's grid is -8.0 to 8.0 eV, 161 energies",
        ),
        (config_for() | {"variants": ["hclmp_t"]}, "variant `hclmp_t` needs density of states"),
    ],
)
def test_a_bad_dos_source(
    workdir: Path, command: Command, config: dict[str, Any], words: str
) -> None:
    write(workdir / "d.csv", wide_dos())
    assert_refused(command("pull-dos", "--config", set_up(workdir, config=config)), words)


def test_no_results(command: Command) -> None:
    assert_refused(command("results"), "results/metrics/summary.csv: no results here yet")


def test_the_real_program_prints_one_message(workdir: Path) -> None:
    """The same through a new process, as a shell sees it."""
    import subprocess
    import sys

    config = set_up(workdir, spoiled("gap", "?"))
    program = [sys.executable, "-m", "hclmp.cli.main", "prepare-targets", "--config", str(config)]
    ended = subprocess.run(program, cwd=workdir, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: table.csv: column `gap` is not a finite number in row 3")
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not Path("data").exists()


@pytest.mark.parametrize("name", ["distance", "warning", "gap_low", "rank", "probability"])
def test_a_property_named_as_a_column_of_predictions(
    workdir: Path, command: Command, name: str
) -> None:
    config = set_up(workdir, good_table().rename(columns={"rate": name}))
    answer = command("prepare-targets", "--config", config)
    assert_refused(answer, f"a property cannot be called {name}", "Rename the column")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "no space left on the disk. Free some and repeat the command."),
        (errno.EROFS, "Read-only file system. Choose another folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_in_one_message(
    workdir: Path, command: Command, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def refused(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    file = set_up(workdir)
    monkeypatch.setattr("hclmp.files.os.fsync", refused)
    answer = command("prepare-targets", "--config", file)
    assert answer.code == 2
    assert words in answer.text
    assert not [path for path in Path("data").rglob("*") if path.is_file()]


def test_safetensors_on_a_full_disk_are_an_error_of_the_system(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space (os error 28)")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(OSError, match=r"a\.safetensors") as error:
        tensors.write_tensors("a.safetensors", {"x": np.zeros(2)}, {})
    assert error.value.errno == errno.ENOSPC
    assert list(workdir.iterdir()) == []
