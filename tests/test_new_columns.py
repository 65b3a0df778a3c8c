"""``hclmp new``: which columns of someone's table are learned, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hclmp.data.formula import parse_formulas
from tests.conftest import Command, assert_refused
from tests.made_up.tables import (
    good_table,
    write,
)
from tests.new_command import made, new


def test_columns_without_numbers_are_left_out_and_said(workdir: Path, command: Command) -> None:
    table = good_table().assign(note="from the second batch", **{"gap [eV]": np.arange(25) * 0.1})
    write(workdir / "table.csv", table)
    config, said = made(command)
    assert "note" not in config.targets.properties
    assert "gap [eV]" in config.targets.properties
    assert "columns without numbers, not used: note ('from the second batch')" in said
    assert "gap [eV]" in said


def with_amounts(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the amounts of its elements in columns before the properties."""
    parsed = parse_formulas(table["formula"].tolist(), left_out=["O"], origin="")
    amounts = pd.DataFrame(parsed).fillna(0.0).round(3)
    return pd.concat([table[["formula"]], amounts, table.drop(columns="formula")], axis=1)


@pytest.mark.parametrize("blank", [False, True])
def test_amounts_beside_a_formula_are_no_properties(
    workdir: Path, command: Command, blank: bool
) -> None:
    table = with_amounts(good_table())
    write(workdir / "table.csv", table.replace(0.0, np.nan) if blank else table)
    config, said = made(command)
    assert list(config.targets.properties) == ["gap", "rate"]
    assert "columns of the amounts that the formulas say, not used: Cu, Fe, Mn, Ti, W" in said


def test_amounts_alone_are_nothing_to_learn(workdir: Path, command: Command) -> None:
    write(workdir / "table.csv", with_amounts(good_table()[["formula"]]))
    assert_refused(new(command), "Cu, Fe, Mn, Ti, W. There is nothing to learn")


def test_every_column_that_is_not_learned_is_named(workdir: Path, command: Command) -> None:
    ids = [f"s-{i}" for i in range(25)]
    table = good_table().assign(sample_id=ids, system="x", t=300, t_std=1.0, gap_std=0.1)
    table.to_csv(workdir / "table.csv")  # with the number of the row in a column without name
    config, said = made(command)
    assert list(config.targets.properties) == ["gap", "rate"]
    assert "columns that are never a property: sample_id, system, (no name)" in said
    assert "standard deviations of columns that are not learned, not used: t_std" in said


def test_properties_with_the_name_of_an_element_are_learned(
    workdir: Path, command: Command
) -> None:
    """Bulk modulus and volume, of compounds some of which have potassium or vanadium."""
    table = good_table().assign(K=np.linspace(50, 90, 25), V=np.linspace(9, 7, 25))
    table["formula"] = table["formula"].str.replace("Mn", "K").str.replace("Cu", "V")
    write(workdir / "table.csv", table)
    assert list(made(command)[0].targets.properties) == ["gap", "rate", "K", "V"]


@pytest.mark.parametrize(
    "cell", ["{},01", "{},5 %", "{}.1%", "{}.1 ± 0.2", "-{},1±0,2", "{} +/- 1"]
)
def test_numbers_that_cannot_be_read_are_no_words(
    workdir: Path, command: Command, cell: str
) -> None:
    cells = [cell.format(i) for i in range(25)]
    write(workdir / "table.csv", good_table().assign(rate=cells, note="1, 2 and 3", bare=""))
    assert_refused(new(command), f"comma, `%` or `±` in rate ({cells[0]!r}). Write plain numbers")
    assert not Path("mine").exists()


@pytest.mark.parametrize("cell", ["batch 2,01", "2,01 eV", "1,2,3", "<2", "2024-05-01", "2-3"])
def test_words_with_numbers_are_words(workdir: Path, command: Command, cell: str) -> None:
    write(workdir / "table.csv", good_table().assign(note=cell, bare=""))
    _, said = made(command)
    assert f"columns without numbers, not used: note ({cell!r}), bare (blank)" in said


def test_a_column_of_one_value_is_left_out_and_said(
    workdir: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workdir / "table.csv", good_table().assign(temperature=300))
    config, said = made(command)
    assert list(config.targets.properties) == ["gap", "rate"]
    assert "columns with one value in every row, not used: temperature (300)" in said
    monkeypatch.chdir("mine")
    answer = command("prepare-targets", "--config", "config/config.yaml")
    assert answer.code == 0, answer.text
