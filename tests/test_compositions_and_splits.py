"""Tables that give columns of elements instead of a formula, or divide their rows themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hclmp.config import load_config
from hclmp.data.formula import composition_key, formula_text, parse_formula
from hclmp.data.tables import read_predictions, read_targets
from tests.conftest import Command, assert_refused
from tests.made_up.tables import (
    config_for,
    good_table,
    set_up,
    write,
)

ELEMENTS = ["Cu", "Fe", "Mn", "Ti", "W"]
TARGETS = "data/processed/targets.parquet"


def wide_table() -> pd.DataFrame:
    """The good table with the amounts of its cations (in percent) instead of formulas."""
    table = good_table()
    fractions = [parse_formula(f, left_out=["O"]) for f in table["formula"]]
    amounts = [{e: 100 * f.get(e, 0.0) for e in ELEMENTS} for f in fractions]
    return pd.concat([pd.DataFrame(amounts), table.drop(columns="formula")], axis=1)


def test_a_formula_is_written_so_that_it_reads_back() -> None:
    text = formula_text(["Fe", "Ti", "W"], [1 / 3, 2 / 3, 1e-15])
    assert text == "Fe0.3333333333Ti0.6666666667"
    want = {"Fe": 1 / 3, "Ti": 2 / 3}
    assert composition_key(parse_formula(text)) == composition_key(want)
    assert formula_text(["Fe", "Ti"], [100, 20]) == "Fe100Ti20"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_of_elements_give_the_same_systems(
    workdir: Path, command: Command, suffix: str
) -> None:
    table = wide_table()
    if suffix == ".csv":
        table = table.replace({e: {0.0: np.nan} for e in ELEMENTS})  # blank is 0
    config = config_for(f"table{suffix}", composition_columns=ELEMENTS)
    answer = command(
        "prepare-targets", "--config", set_up(workdir, table, config=config, suffix=suffix)
    )
    assert answer.code == 0, answer.text
    wide = read_targets(TARGETS)
    assert [p.name for p in wide.properties] == ["gap", "rate"]
    assert command("prepare-targets", "--config", set_up(workdir)).code == 0
    assert wide.system == read_targets(TARGETS).system


@pytest.mark.parametrize(
    ("row", "column", "value", "words"),
    [
        (2, "Fe", -1.0, "negative in row 3"),
        (24, "W", 0.0, "all 0 in row 25"),
        (4, "Ti", "much", "`Ti` is not a finite number in row 5 ('much')"),
    ],
)
def test_bad_amounts_are_named(
    workdir: Path, command: Command, row: int, column: str, value: object, words: str
) -> None:
    table = wide_table().astype({column: object})
    table.loc[row, column] = value
    config = set_up(workdir, table, config=config_for(composition_columns=ELEMENTS))
    assert_refused(command("prepare-targets", "--config", config), "table.csv", words)


def test_columns_of_elements_are_pointed_out(workdir: Path, command: Command) -> None:
    config = set_up(workdir, wide_table())
    answer = command("prepare-targets", "--config", config)
    assert_refused(answer, "no column `formula`", "Cu, Fe, Mn, Ti, W", "composition_columns")


def test_a_column_that_is_no_element_is_named(workdir: Path, command: Command) -> None:
    config = config_for(composition_columns=["Fe", "gap"])
    answer = command("prepare-targets", "--config", set_up(workdir, wide_table(), config=config))
    assert_refused(answer, "gap, no element symbol")


def test_small_amounts_are_fractions_of_their_row(workdir: Path, command: Command) -> None:
    table = wide_table()
    table[ELEMENTS] *= 1e-10  # mol, say
    config = config_for(composition_columns=ELEMENTS)
    config_file = set_up(workdir, table, config=config)
    assert command("prepare-targets", "--config", config_file).code == 0
    small = read_targets(TARGETS)
    assert command("prepare-targets", "--config", set_up(workdir)).code == 0
    for ours, text in zip(small.formula, read_targets(TARGETS).formula, strict=True):
        want = parse_formula(text, left_out=["O"])
        assert composition_key(parse_formula(ours)) == composition_key(want)


def test_an_element_named_twice_is_refused(workdir: Path, command: Command) -> None:
    config = config_for(composition_columns=[*ELEMENTS, "Fe"])
    answer = command("prepare-targets", "--config", set_up(workdir, wide_table(), config=config))
    assert_refused(answer, "`targets.composition_columns` names Fe more than once")


def test_a_forgotten_element_is_no_property(workdir: Path, command: Command) -> None:
    config = config_for(composition_columns=ELEMENTS[:-1])
    table = wide_table().iloc[:5]
    answer = command("prepare-targets", "--config", set_up(workdir, table, config=config))
    assert_refused(answer, "not in `targets.composition_columns`: W. Add them there, or name")
    named = config_for(composition_columns=ELEMENTS, properties={"gap": {}, "K": {}})
    bulk = wide_table().assign(K=np.arange(25.0))
    assert command("prepare-targets", "--config", set_up(workdir, bulk, config=named)).code == 0
    assert {p.name for p in read_targets(TARGETS).properties} == {"gap", "K"}


def test_new_takes_columns_of_elements(workdir: Path, command: Command) -> None:
    write(workdir / "wide.csv", wide_table())
    answer = command("new", "mine", "--targets", "wide.csv")
    assert answer.code == 0, answer.text
    assert "compositions from the columns Cu, Fe, Mn, Ti, W" in answer.text
    config = load_config("mine/config/config.yaml").targets
    assert config.composition_columns == ELEMENTS
    assert list(config.properties) == ["gap", "rate"]
    assert command("systems", "wide.csv", "--out", "sheet.tsv").code == 0
    sheet = (workdir / "mine/config/systems.tsv").read_text()
    assert (workdir / "sheet.tsv").read_text() == sheet


def test_new_allows_blanks_when_asked(workdir: Path, command: Command) -> None:
    table = good_table()
    table.loc[[1, 4], "gap"] = np.nan
    write(workdir / "holes.csv", table)
    refused = command("new", "mine", "--targets", "holes.csv")
    assert refused.code == 2
    assert "allow_missing" in refused.text
    assert (
        command("new", "mine", "--targets", "holes.csv", "--left-out", "O", "--allow-missing").code
        == 0
    )
    assert load_config("mine/config/config.yaml").targets.allow_missing


def moduli(**columns: object) -> pd.DataFrame:
    """Formulas under another name, beside properties with the names of elements."""
    table = good_table().rename(columns={"gap": "K", "rate": "C"})
    return table.rename(columns={"formula": "composition"}).assign(**columns)


@pytest.mark.parametrize("arguments", [["new", "mine", "--targets"], ["systems"]])
def test_moduli_are_not_taken_for_elements(
    workdir: Path, command: Command, arguments: list[str]
) -> None:
    write(workdir / "moduli.csv", moduli())
    answer = command(*arguments, "moduli.csv")
    assert_refused(
        answer,
        "no column `formula`; column `composition` looks like one: give --formula-column composit",
    )
    assert not Path("mine").exists()
    named = ["--formula-column", "composition", "--left-out", "O"]
    assert command(*arguments, "moduli.csv", *named).code == 0


def test_replicas_are_formulas_too(workdir: Path, command: Command) -> None:
    write(workdir / "moduli.csv", pd.concat([moduli()] * 9).sort_values("composition"))
    assert_refused(command("systems", "moduli.csv"), "column `composition` looks like one")


def test_phases_are_no_formulas(workdir: Path, command: Command) -> None:
    """FCC reads as fluorine and two carbons, C14 and B2 as elements."""
    write(workdir / "wide.csv", wide_table().assign(phase=["FCC", "BCC", "B2", "HCP", "C14"] * 5))
    answer = command("new", "mine", "--targets", "wide.csv")
    assert answer.code == 0, answer.text
    assert "not used: phase" in answer.text


def test_neither_formulas_nor_elements(workdir: Path, command: Command) -> None:
    write(workdir / "bare.csv", good_table()[["gap"]].assign(**{"Cu (%)": 50, "fe": 50}))
    answer = command("systems", "bare.csv")
    assert_refused(
        answer,
        "no column `formula`; it has gap, Cu (%), fe. Name the column of formulas with --formula-c",
        "or call columns of amounts by the elements' symbols alone: `Cu`, `Fe`",
    )


def split_table() -> pd.DataFrame:
    words = (["train"] * 3 + ["val", "test"]) * 4 + ["train"] * 4 + [""]
    return good_table().assign(part=words)


def split_config(**targets: object) -> dict[str, object]:
    return config_for(split_column="part", **targets) | {"split": "column"}


def test_a_given_split_is_run(workdir: Path, command: Command) -> None:
    file = set_up(workdir, split_table(), config=split_config())
    for step in ("prepare-targets", "featurize"):
        answer = command(step, "--config", file)
        assert answer.code == 0, answer.text
    targets = read_targets(TARGETS)
    assert [p.name for p in targets.properties] == ["gap", "rate"]
    assert targets.split == split_table()["part"].tolist()
    answer = command("train", "--variant", "ridge", "--fold", "column", "--config", file)
    assert answer.code == 0, answer.text
    assert "16 training, 4 validation and 4 test samples; 1 in no set" in answer.text
    predicted = read_predictions("results/predictions/ridge/column.parquet").frame
    test = split_table().query("part == 'test'")
    assert set(predicted["formula"]) == set(test["formula"])
    assert command("aggregate", "--config", file).code == 0


def test_one_composition_in_two_parts_stays_in_both_and_is_said(
    workdir: Path, command: Command
) -> None:
    table = split_table()
    table.loc[1, "formula"] = table.loc[0, "formula"]  # both train: merged
    table.loc[4, "formula"] = table.loc[2, "formula"]  # test and train
    answer = command("prepare-targets", "--config", set_up(workdir, table, config=split_config()))
    assert answer.code == 0, answer.text
    assert "1 rows merged by composition" in answer.text
    assert "1 compositions stand in more than one part of the given split" in answer.text
    assert len(read_targets(TARGETS)) == 24


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"] * 24 + ["holdout"], "row 25 ('holdout')"),
        (["train"] * 25, "0 `test`"),
    ],
)
def test_a_bad_split_is_refused(
    workdir: Path, command: Command, words: list[str], message: str
) -> None:
    table = good_table().assign(part=words)
    answer = command("prepare-targets", "--config", set_up(workdir, table, config=split_config()))
    assert_refused(answer, message)


def test_no_such_split_column(workdir: Path, command: Command) -> None:
    answer = command("prepare-targets", "--config", set_up(workdir, config=split_config()))
    assert_refused(answer, "no column part (`targets.split_column`)")
