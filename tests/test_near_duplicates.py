"""Compositions that are nearly equal are on one side of a random split."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hclmp.config import load_config
from hclmp.data.formula import Fractions, parse_formula
from hclmp.data.near_duplicates import TOLERANCE, NearDuplicates
from hclmp.data.splits import split_rows
from hclmp.data.tables import read_targets
from tests.conftest import Command
from tests.made_up.tables import config_for, set_up

TARGETS = "data/processed/targets.parquet"


def compared(*formulas: str) -> NearDuplicates:
    return NearDuplicates.of([parse_formula(formula) for formula in formulas])


def series(steps: int, step: float, start: float = 0.2) -> list[Fractions]:
    """Compositions of Fe and Ti in steps of the fraction of Fe."""
    return [{"Fe": start + i * step, "Ti": 1 - start - i * step} for i in range(steps)]


def test_roundings_of_one_composition_are_one_group() -> None:
    near = compared("FeTi2", "Fe0.3333Ti0.6667", "Fe3Ti2", "Fe0.33Ti0.67", "Ti4Fe2", "Fe0.34Ti0.66")
    assert near.groups.tolist() == [0, 0, 2, 0, 0, 5]
    assert near.grouped() == 4


def test_other_elements_are_another_composition() -> None:
    near = compared("TiO2", "Nb0.001TiO2", "Nb0.0012TiO2", "Ta0.001TiO2", "Ti")
    assert near.groups.tolist() == [0, 1, 1, 3, 4]


@given(
    st.lists(
        st.dictionaries(st.sampled_from("BCN"), st.integers(1, 400), min_size=1),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=80, deadline=None)
def test_groups_and_pairs_are_those_of_a_direct_comparison(amounts: list[dict[str, int]]) -> None:
    fractions = [{e: a / sum(row.values()) for e, a in sorted(row.items())} for row in amounts]
    near = NearDuplicates.of(fractions)

    def apart(i: int, j: int) -> float:
        a, b = fractions[i], fractions[j]
        return max(abs(a[e] - b[e]) for e in a) if a.keys() == b.keys() else 1.0

    everything = set(itertools.combinations(range(len(fractions)), 2))
    close = {pair for pair in everything if apart(*pair) <= TOLERANCE + 1e-9}
    assert {(min(pair), max(pair)) for pair in near.pairs.tolist()} == close
    together = {(i, j) for i, j in everything if near.groups[i] == near.groups[j]}
    assert together <= close
    for group in set(near.groups.tolist()):
        assert near.groups.tolist().index(group) == group
    # what is nearly equal to nothing but to each other is one group
    alone = {p for p in close if not any(set(p) & set(q) for q in close - {p})}
    assert alone <= together


def test_a_series_in_steps_of_half_a_percent_is_not_grouped() -> None:
    assert NearDuplicates.of(series(100, 0.005)).grouped() == 0


def test_a_chain_of_smaller_steps_is_cut_into_small_groups() -> None:
    fractions = series(500, 0.001)
    near = NearDuplicates.of(fractions)
    iron = np.array([row["Fe"] for row in fractions])
    for group in np.unique(near.groups):
        members = iron[near.groups == group]
        assert np.ptp(members) <= TOLERANCE + 1e-9
    assert near.grouped() > 400
    assert len(np.unique(near.groups)) >= 100
    some, others = np.split(np.arange(500), [100])
    assert near.near(some, others) == 4  # at the ends of the two halves
    assert near.near(np.array([0]), np.array([400])) == 0


def near_table() -> pd.DataFrame:
    """Forty compositions that are written twice, and forty that are written once."""
    rng = np.random.default_rng(0)
    iron = np.arange(5, 85)
    once = [f"Fe{x}Ti{100 - x}" for x in iron]
    twice = [f"Fe{x + 0.03:.2f}Ti{100 - x - 0.03:.2f}" for x in iron[:40]]
    order = rng.permutation(120)
    frame = pd.DataFrame({"formula": [*once, *twice], "gap": rng.uniform(1.0, 3.0, 120)})
    return frame.iloc[order].reset_index(drop=True)


def prepared(command: Command, config: Path) -> tuple[str, dict[str, int]]:
    answer = command("prepare-targets", "--config", config)
    assert answer.code == 0, answer.text
    (record,) = Path("data/processed").glob("*.json")
    return answer.text, json.loads(record.read_text())["facts"]


@pytest.mark.parametrize("seed", range(3))
def test_a_random_split_keeps_nearly_equal_rows_on_one_side(
    workdir: Path, command: Command, seed: int
) -> None:
    keys = {"split": "random", "training": {"seed": seed}}
    file = set_up(workdir, near_table(), config=config_for() | keys)
    said, facts = prepared(command, file)
    assert "80 compositions are nearly equal to another (within 0.4 at%)" in said
    assert "test compositions are nearly equal" not in said
    assert (facts["grouped_compositions"], facts["tests_nearly_seen"]) == (80, 0)
    table = read_targets(TARGETS)
    rows = split_rows(load_config(file), "random", table)
    assert len(rows.test) == 24
    parts = (rows.train, rows.validation, rows.test)
    sides = [{round(100 * parse_formula(table.formula[i])["Fe"]) for i in p} for p in parts]
    assert sum(map(len, sides)) == 80


def test_a_chain_on_both_sides_is_said(workdir: Path, command: Command) -> None:
    formulas = [f"Fe{x:.1f}Ti{100 - x:.1f}" for x in np.arange(200, 300) / 10]
    table = pd.DataFrame({"formula": formulas, "gap": np.random.default_rng(0).uniform(1, 3, 100)})
    file = set_up(workdir, table, config=config_for() | {"split": "random"})
    said, facts = prepared(command, file)
    assert facts["tests_nearly_seen"] > 0
    assert (
        f"{facts['tests_nearly_seen']} test compositions are nearly equal (within 0.4 at%)" in said
    )


def test_a_given_split_is_kept_and_its_near_duplicates_are_counted(
    workdir: Path, command: Command
) -> None:
    table = near_table()
    twice = table["formula"].str.contains(r"\.03")
    table["part"] = np.where(twice, "test", "train")
    table.loc[table.index[~twice][:5], "part"] = "val"
    config = config_for(split_column="part") | {"split": "column"}
    said, facts = prepared(command, set_up(workdir, table, config=config))
    assert (facts["grouped_compositions"], facts["tests_nearly_seen"]) == (0, 40)
    assert "40 test compositions are nearly equal (within 0.4 at%) to one that models" in said
    assert "is on the same side" not in said


def test_folds_of_systems_say_nothing_of_near_duplicates(workdir: Path, command: Command) -> None:
    said, facts = prepared(command, set_up(workdir))
    assert "nearly equal" not in said
    assert not {"grouped_compositions", "tests_nearly_seen"} & facts.keys()
