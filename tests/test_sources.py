"""Someone's own table becomes the checked tables: what is kept, merged, ignored and said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hclmp.config import DosConfig, TargetsConfig, resolve
from hclmp.data.tables import read_dos, read_targets
from hclmp.pipeline.jobs import job
from hclmp.pipeline.steps.pull_dos import pull_dos
from hclmp.provenance import sha256
from hclmp.sources import demo, table
from hclmp.sources.registry import source_module
from tests.conftest import Command
from tests.made_up.tables import (
    config_for,
    good_dos,
    good_table,
    set_up,
    wide_dos,
    write,
)

TARGETS_FILE = Path("data/processed/targets.parquet")


def facts(name: str = "targets") -> dict[str, object]:
    found: dict[str, object] = json.loads(Path(f"data/processed/{name}.json").read_text())["facts"]
    return found


def prepare(command: Command, config: Path) -> str:
    answer = command("prepare-targets", "--config", config)
    assert answer.code == 0, answer.text
    return answer.text


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_good_table_becomes_the_targets(workdir: Path, command: Command, suffix: str) -> None:
    properties = {"gap": {"unit": "eV", "coordinate": 2}, "rate": {"transform": "log10"}}
    config = config_for(f"table{suffix}", properties=properties)
    said = prepare(command, set_up(workdir, config=config, suffix=suffix))
    assert f"table{suffix}: 25 rows -> 25 compositions of 5 elements in 9 systems" in said
    targets, frame = read_targets(TARGETS_FILE), good_table()
    assert targets.formula == frame["formula"].tolist()
    np.testing.assert_allclose(targets.values, frame[["gap", "rate"]], rtol=1e-12)
    np.testing.assert_allclose(targets.transformed()[:, 1], np.log10(frame["rate"]))
    assert [(p.name, p.unit, p.transform, p.coordinate) for p in targets.properties] == [
        ("gap", "eV", "identity", 2.0),
        ("rate", "", "log10", None),
    ]
    assert targets.system[0] == "Cu-Fe-Mn"
    assert not targets.simulated
    assert facts()["sha256"] == sha256(f"table{suffix}")
    assert targets.provenance["origin"]["sha256"] == sha256(f"table{suffix}")


def test_equal_input_gives_equal_bytes(workdir: Path, command: Command) -> None:
    config = set_up(workdir)
    prepare(command, config)
    first = TARGETS_FILE.read_bytes()
    prepare(command, config)
    assert TARGETS_FILE.read_bytes() == first


def test_rows_of_one_composition_are_merged_by_the_median(workdir: Path, command: Command) -> None:
    more = pd.DataFrame(
        {
            "formula": ["Fe2Ti2W2O6", "FeTiWO9", "TiFeWO3"],
            "gap": [1.0, 7.0, 2.0],
            "rate": [5.0, 3.0, 4.0],
        }
    )
    said = prepare(command, set_up(workdir, pd.concat([good_table(), more])))
    targets = read_targets(TARGETS_FILE)
    merged = targets.formula.index("Fe2Ti2W2O6")
    np.testing.assert_array_equal(targets.values[merged], [2.0, 4.0])
    assert len(targets) == 26
    assert (facts()["rows"], facts()["samples"], facts()["merged_rows"]) == (28, 26, 2)
    assert "2 rows merged by composition (median of the values)" in said


def test_left_out_oxygen_merges_oxidation_states(workdir: Path, command: Command) -> None:
    more = pd.DataFrame({"formula": ["FeO"], "gap": [9.0], "rate": [2.0]})
    frame = pd.concat([good_table(), more])
    prepare(command, set_up(workdir, frame))
    assert facts()["merged_rows"] == 1
    targets, iron = read_targets(TARGETS_FILE), good_table().set_index("formula").loc["Fe2O3"]
    merged = targets.formula.index("Fe2O3")
    assert targets.values[merged, 0] == pytest.approx((9.0 + iron["gap"]) / 2)
    assert "FeO" not in targets.formula
    sheet = "system\nFe-O-Ti-W\n"
    config = config_for(left_out=[])
    prepare(command, set_up(workdir, frame, config=config, sheet=sheet))
    assert facts()["merged_rows"] == 0
    assert {"FeO", "Fe2O3"} <= set(read_targets(TARGETS_FILE).formula)


def test_a_system_column_is_ignored_and_said_so(workdir: Path, command: Command) -> None:
    frame = good_table().assign(system="nonsense", note="text")
    config = config_for(properties={"gap": {}})
    said = prepare(command, set_up(workdir, frame, config=config))
    assert "the table's `system` column is ignored: systems follow from formulas" in said
    assert "columns not used: note, rate" in said
    targets = read_targets(TARGETS_FILE)
    assert "nonsense" not in targets.system
    assert [p.name for p in targets.properties] == ["gap"]
    assert facts()["ignored_columns"] == ["note", "rate", "system"]


def test_noise_columns_are_kept_as_noise(workdir: Path, command: Command) -> None:
    frame = good_table().assign(gap_std=np.linspace(0.1, 0.2, 25))
    prepare(command, set_up(workdir, frame))
    targets = read_targets(TARGETS_FILE)
    assert [p.name for p in targets.properties] == ["gap", "rate"]
    np.testing.assert_allclose(targets.noise[:, 0], frame["gap_std"])
    assert np.isnan(targets.noise[:, 1]).all()


def test_sample_ids_are_kept_or_made_from_row_numbers(workdir: Path, command: Command) -> None:
    prepare(command, set_up(workdir))
    assert read_targets(TARGETS_FILE).sample_id[:2] == ["row-1", "row-2"]
    frame = good_table().assign(sample_id=[f"007-{i}" for i in range(25)])
    prepare(command, set_up(workdir, frame))
    assert read_targets(TARGETS_FILE).sample_id == frame["sample_id"].tolist()


def test_a_numeric_sample_id_keeps_its_zeros(workdir: Path, command: Command) -> None:
    frame = good_table().assign(sample_id=[f"{i:04d}" for i in range(25)])
    prepare(command, set_up(workdir, frame))
    assert read_targets(TARGETS_FILE).sample_id[7] == "0007"


def test_a_formula_nan_is_sodium_nitride_not_a_blank(workdir: Path, command: Command) -> None:
    more = pd.DataFrame({"formula": ["NaN"], "gap": [1.5], "rate": [1.0]})
    prepare(command, set_up(workdir, pd.concat([good_table(), more])))
    targets = read_targets(TARGETS_FILE)
    assert (targets.formula[-1], targets.system[-1]) == ("NaN", "N-Na")


def test_a_column_without_a_name_is_no_property(workdir: Path, command: Command) -> None:
    """pandas writes its row numbers so: learned as a property, they would spoil every mean."""
    config = set_up(workdir)
    good_table().to_csv(workdir / "table.csv")
    said = prepare(command, config)
    assert [p.name for p in read_targets(TARGETS_FILE).properties] == ["gap", "rate"]
    assert "columns not used: (no name)" in said


def test_blanks_around_cells_and_names_do_not_matter(workdir: Path, command: Command) -> None:
    config = set_up(workdir)
    lines = good_table().to_csv(index=False).splitlines()
    text = "\r\n".join(line.replace(",", " , ") for line in lines)
    (workdir / "table.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    prepare(command, config)
    np.testing.assert_allclose(read_targets(TARGETS_FILE).values, good_table()[["gap", "rate"]])


def test_a_limit_takes_the_first_rows(workdir: Path) -> None:
    write(workdir / "table.csv", good_table())
    raw = table.read_targets(TargetsConfig(source="table", path="table.csv", limit=3))
    assert raw.formula == good_table()["formula"].tolist()[:3]
    assert raw.values.shape == (3, 2)


def test_numeric_columns_of_any_kind_are_read(workdir: Path) -> None:
    """Parquet keeps types; whole numbers, decimals and numbers as text are numbers."""
    frame = pd.DataFrame(
        {
            "formula": ["Fe", "Ti"],
            "whole": [1, 2],
            "nullable": pd.array([3, 4], dtype="Int64"),
            "text": ["5", "6.5"],
            "single": np.array([7.0, 8.0], dtype=np.float32),
        }
    )
    write(workdir / "t.parquet", frame)
    raw = table.read_targets(TargetsConfig(source="table", path="t.parquet"))
    np.testing.assert_array_equal(raw.values, [[1, 3, 5, 7], [2, 4, 6.5, 8]])


def dos_config(path: str, n: int = 8) -> DosConfig:
    return DosConfig.model_validate(
        {
            "source": "table",
            "path": path,
            "energies": {"start": -1, "stop": 0.75, "n": n, "unit": "eV"},
        }
    )


def test_list_and_wide_dos_tables_are_one(workdir: Path) -> None:
    write(workdir / "d.parquet", good_dos())
    write(workdir / "d.csv", wide_dos())
    lists, wide = table.read_dos(dos_config("d.parquet")), table.read_dos(dos_config("d.csv"))
    np.testing.assert_allclose(lists.dos, wide.dos)
    np.testing.assert_array_equal(lists.dos, np.stack(good_dos()["dos"].tolist()))
    assert lists.material_id == wide.material_id == [f"row-{i}" for i in range(1, 26)]
    assert lists.formula == wide.formula == good_dos()["formula"].tolist()
    assert (lists.norm, lists.unit) == ("atom", "states/eV/atom")


def test_dos_of_a_table_becomes_the_dos(workdir: Path, command: Command) -> None:
    write(workdir / "d.csv", wide_dos().assign(material_id=[f"m-{i}" for i in range(25)]))
    dos = {**dos_config("d.csv").model_dump(mode="json"), "unit": "states/eV/cell"}
    config = config_for() | {"dos": dos}
    answer = command("pull-dos", "--config", set_up(workdir, config=config))
    assert answer.code == 0, answer.text
    assert "25 densities of states of 5 elements, 8 energies from -1 to 0.75 eV" in answer.text
    found = read_dos("data/processed/dos.parquet")
    assert found.material_id[3] == "m-3"
    np.testing.assert_allclose(found.dos, wide_dos().drop(columns="formula"), rtol=1e-6)
    np.testing.assert_allclose(found.grid.energies(), np.arange(-1, 1, 0.25))
    assert (found.unit, found.norm) == ("states/eV/cell", "cell")
    assert facts("dos")["materials"] == 25


def test_every_source_of_the_config_is_a_module_that_reads() -> None:
    targets = TargetsConfig.model_json_schema()["properties"]["source"]["enum"]
    dos = DosConfig.model_json_schema()["properties"]["source"]["enum"]
    assert all(callable(source_module(name).read_targets) for name in targets)
    assert all(callable(source_module(name).read_dos) for name in dos if name != "none")


def test_the_demo_is_marked_as_simulated(workdir: Path) -> None:
    raw = demo.read_targets(TargetsConfig(limit=6))
    assert raw.simulated
    assert raw.values.shape == (6, 10)
    assert (raw.noise > 0).all()
    config = resolve({"dos": {"limit": 3}})
    pulled = job(config, "pull-dos")
    pull_dos(config, pulled)
    found = read_dos(pulled.outputs["table"])
    assert found.simulated
    assert found.dos.shape == (3, 161)
    assert json.loads(pulled.outputs["record"].read_text())["facts"]["simulated"] is True
