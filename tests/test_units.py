"""Units are checked by pint where they are given."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hclmp.data.tables import read_targets
from hclmp.data.units import check_unit, same_unit
from hclmp.errors import UserError
from tests.conftest import Command, assert_refused
from tests.made_up.tables import (
    config_for,
    good_dos,
    good_table,
    set_up,
)


@pytest.mark.parametrize(
    "unit",
    [
        *("", "GPa", "1/cm", "1e5/cm", "W/m/K", "W m^-1 K^-1", "states/eV/atom", "uV/K", "%"),
        *("wt%", "at%", "emu/g", "emu/cm^3"),
    ],
)
def test_units_of_the_field_are_known(unit: str) -> None:
    check_unit(unit, "x")


@pytest.mark.parametrize("unit", ["furlongz", "GPa/", "__import__('os')", "arb. unit"])
def test_other_text_is_refused(unit: str) -> None:
    with pytest.raises(UserError, match=r"column x: unit .* cannot be read"):
        check_unit(unit, "column x")


def test_a_unit_of_the_configuration_is_checked(workdir: Path, command: Command) -> None:
    config = config_for(properties={"gap": {"unit": "eVV"}, "rate": {"unit": "1/s"}})
    answer = command("prepare-targets", "--config", set_up(workdir, config=config))
    assert_refused(answer, "table.csv: property `gap`", "'eVV'")


def test_a_unit_of_the_dos_is_checked(workdir: Path, command: Command) -> None:
    good_dos().to_parquet(workdir / "dos.parquet")
    energies = {"start": 0, "stop": 7, "n": 8, "unit": "cm-1x"}
    dos = {"source": "table", "path": "dos.parquet", "energies": energies}
    config = config_for() | {"dos": dos, "variants": ["hclmp_t"]}
    answer = command("pull-dos", "--config", set_up(workdir, config=config))
    assert_refused(answer, "dos.parquet: energies", "'cm-1x'")


def parquet_with_units(workdir: Path, unit: str) -> None:
    table = pa.Table.from_pandas(good_table(), preserve_index=False)
    field = table.schema.field("gap").with_metadata({"unit": unit})
    schema = table.schema.set(table.schema.get_field_index("gap"), field)
    pq.write_table(table.cast(schema), workdir / "table.parquet")


def test_the_unit_that_a_file_gives_is_taken(workdir: Path, command: Command) -> None:
    config = set_up(workdir, config=config_for("table.parquet"), suffix=".parquet")
    parquet_with_units(workdir, "eV")
    assert command("prepare-targets", "--config", config).code == 0
    properties = read_targets("data/processed/targets.parquet").properties
    assert [p.unit for p in properties] == ["eV", ""]


def test_one_unit_may_be_written_in_two_ways(workdir: Path, command: Command) -> None:
    config = config_for("table.parquet", properties={"gap": {"unit": "1/cm"}, "rate": {}})
    file = set_up(workdir, config=config, suffix=".parquet")
    parquet_with_units(workdir, "cm^-1")
    answer = command("prepare-targets", "--config", file)
    assert answer.code == 0, answer.text
    assert read_targets("data/processed/targets.parquet").properties[0].unit == "1/cm"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("W/m/K", "W m^-1 K^-1", True),
        ("emu/g", "A*m^2/kg", True),
        ("arb. u.", "arb. u. ", True),
        ("wt%", "at%", False),
        ("states/eV/atom", "1/eV", False),
        ("degC", "K", False),
        ("arb. u.", "eV", False),
    ],
)
def test_units_are_compared_by_what_they_mean(one: str, other: str, same: bool) -> None:
    assert same_unit(one, other) == same


def test_two_units_of_one_column_are_refused(workdir: Path, command: Command) -> None:
    config = config_for("table.parquet", properties={"gap": {"unit": "meV"}, "rate": {}})
    file = set_up(workdir, config=config, suffix=".parquet")
    parquet_with_units(workdir, "eV")
    answer = command("prepare-targets", "--config", file)
    assert_refused(answer, "`gap`", "'eV' by the file's own metadata", "'meV'")
