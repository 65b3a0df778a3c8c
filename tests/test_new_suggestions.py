"""``hclmp new``: what it suggests for a property, and that no held-out label decides it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hclmp.cli.suggestions import suggest_limits, suggest_log10, visible_rows
from hclmp.config import load_config
from hclmp.data.tables import Property
from tests.conftest import Command
from tests.made_up.tables import TERNARIES, good_table, write
from tests.new_command import made

CONFIG = Path("mine/config/config.yaml")


def spanning(*, low: int, high: int) -> pd.DataFrame:
    """Values about 1, but for 0.01 and 100 in two rows; rows 0 to 4 are of the first system."""
    rate = np.linspace(1.0, 2.0, 25)
    rate[[low, high]] = 0.01, 100.0
    return good_table().assign(rate=rate)


def learned_as_log10(command: Command, table: pd.DataFrame, *options: object) -> tuple[bool, str]:
    write(Path("table.csv"), table)
    config, said = made(command, *options)
    return config.targets.properties["rate"].transform == "log10", said


def test_folds_that_agree_suggest_log10(workdir: Path, command: Command) -> None:
    """The single cations, rows 20 to 24, are never held out."""
    chosen, said = learned_as_log10(command, spanning(low=20, high=21), "--log10", "auto")
    assert chosen
    assert "is not suggested" not in said


@pytest.mark.parametrize("folds", [[], ["--folds", 2]])
def test_held_out_rows_alone_do_not_suggest_log10(
    workdir: Path, command: Command, folds: list[object]
) -> None:
    """Both ends are in one system: the models of its fold would not learn a logarithm."""
    table = spanning(low=0, high=1)
    chosen, said = learned_as_log10(command, table, "--log10", "auto", *folds)
    assert not chosen
    assert "log10 is not suggested for rate: the rows that are not held out by fold" in said
    one = "fold Cu-Fe-Mn" if not folds else "fold fold-"
    assert f"those of {one}" in said
    assert "`--log10 rate` learns it as log10 all the same" in said


def test_whoever_names_the_property_decides(workdir: Path, command: Command) -> None:
    chosen, said = learned_as_log10(command, spanning(low=0, high=1), "--log10", "rate")
    assert chosen
    assert "is not suggested" not in said


def test_rows_that_a_column_holds_out_do_not_suggest_log10(workdir: Path, command: Command) -> None:
    """All folds of systems agree, but the table has a split of its own."""
    table = spanning(low=20, high=21)
    for word in ("test", ""):
        role = ["train"] * 15 + ["val", "test"] * 2 + [""] + [word] * 5
        write(Path("table.csv"), table.assign(role=role))
        _, said = made(command, "--log10", "auto")
        assert "those of column role do not" in said
        for file in Path("mine/config").iterdir():
            file.unlink()


def test_a_value_that_has_no_logarithm_is_named(workdir: Path, command: Command) -> None:
    """Row 3 is held out by one fold: that fold alone would learn a logarithm."""
    table = spanning(low=20, high=21)
    table.loc[2, "rate"] = -1.0
    chosen, said = learned_as_log10(command, table, "--log10", "auto")
    assert not chosen
    assert "log10 is not suggested for rate: it is not positive in row 3 (-1)" in said


def test_supersets_of_a_held_out_system_have_no_vote() -> None:
    systems = ["Fe-Ti", "Fe-Ti-W", "Fe-W", "Ti", "Ti"]
    rows = visible_rows(systems, {"Fe-Ti": "a", "Fe-W": "b"}, pd.DataFrame({"x": [0] * 5}))
    assert {fold: mask.tolist() for fold, mask in rows.items()} == {
        "fold a": [False, False, True, True, True],
        "fold b": [True, False, False, True, True],
    }
    values = np.array([[1.0], [1000.0], [1.0], [1.0], [np.nan]])
    assert suggest_log10(["x"], values, rows) == (set(), {})


@pytest.mark.parametrize("seed", range(5))
def test_labels_of_a_fold_cannot_bring_log10_about(seed: int) -> None:
    """Whatever is held out: if log10 is suggested, the rest of the rows suggests it too."""
    rng = np.random.default_rng(seed)
    systems = [s for s in TERNARIES for _ in range(5)]
    rows = visible_rows(systems, {s: s for s in TERNARIES}, pd.DataFrame(index=range(20)))
    values = 10.0 ** rng.uniform(-0.8, 0.8, (20, 40))
    values[rng.integers(20, size=20), np.arange(20)] = 100.0
    names = [f"p{i}" for i in range(40)]
    suggested, disputed = suggest_log10(names, values, rows)
    everything = {"all": np.ones(20, dtype=bool)}
    assert suggested < suggest_log10(names, values, everything)[0] == suggested | set(disputed)
    for mask in rows.values():
        changed = np.where(mask[:, None], values, 1e9)
        assert suggested <= suggest_log10(names, changed, {"rest": mask})[0]


def limits_of(
    values: list[float], *, name: str = "x", unit: str = "", log10: bool = False
) -> dict[str, int]:
    column = np.array([*values, np.nan])[:, None]
    return suggest_limits([Property(name, unit)], column, [name] if log10 else []).get(name, {})


def test_limits_are_those_that_no_value_contradicts() -> None:
    assert limits_of([0.0, 3.0]) == {"minimum": 0}
    assert limits_of([-0.1, 0.5]) == {}
    assert limits_of([0.2, 1.0]) == {"minimum": 0, "maximum": 1}
    assert limits_of([0.2, 1.0], unit="eV") == {"minimum": 0}
    assert limits_of([0.2, 1.0], log10=True) == {"maximum": 1}
    for name, unit in (("x", "%"), ("x", "at%"), ("porosity (%)", "")):
        assert limits_of([0.2, 1.0], name=name, unit=unit) == {"minimum": 0, "maximum": 100}
        assert limits_of([0.2, 101.0], name=name, unit=unit) == {"minimum": 0}
    assert limits_of([0.2, 1.0], unit="%/K") == {"minimum": 0}


def test_suggested_limits_are_comments_to_uncomment(workdir: Path, command: Command) -> None:
    table = good_table().assign(share=np.linspace(0.0, 1.0, 25), shift=np.linspace(-1.0, 3.0, 25))
    write(workdir / "table.csv", table.rename(columns={"gap": "minimum"}))
    config, said = made(command, "--log10", "auto")
    assert all(p.minimum is p.maximum is None for p in config.targets.properties.values())
    assert (
        "limits that the values suggest, comments in mine/config/config.yaml: minimum (minimum 0), "
        "share (minimum 0, maximum 1)"
    ) in said
    text = CONFIG.read_text()
    assert "Remove its `# `" in text
    CONFIG.write_text(text.replace("      # m", "      m"))
    limits = {n: (p.minimum, p.maximum) for n, p in load_config(CONFIG).targets.properties.items()}
    none = (None, None)
    assert limits == {"minimum": (0, None), "rate": none, "share": (0, 1), "shift": none}


def test_the_units_of_a_file_say_what_is_a_percentage(workdir: Path, command: Command) -> None:
    table = pa.Table.from_pandas(good_table().assign(porous=np.linspace(0.0, 60.0, 25)))
    i = table.schema.get_field_index("porous")
    field = table.schema.field(i).with_metadata({"unit": "%"})
    pq.write_table(table.set_column(i, field, table["porous"]), "table.parquet")
    write(workdir / "table.csv", good_table())
    answer = command("new", "mine", "--targets", "table.parquet", "--left-out", "O")
    assert answer.code == 0, answer.text
    assert "porous (minimum 0, maximum 100)" in answer.text


def test_without_a_limit_nothing_is_said_of_them(workdir: Path, command: Command) -> None:
    write(workdir / "table.csv", good_table()[["formula"]].assign(x=np.linspace(-1.0, 1.0, 25)))
    _, said = made(command)
    assert "limits" not in said
    assert "# A limit" not in CONFIG.read_text()
