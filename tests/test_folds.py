"""Folds: no sample that tells of a held-out system is trained on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hclmp.config import Config
from hclmp.data.folds import (
    FoldRows,
    fold_names,
    group_systems,
    is_superset,
    read_systems,
    split_fold,
    split_given,
    split_random,
)
from hclmp.data.formula import parse_formula, system_of
from hclmp.data.splits import split_rows
from hclmp.data.tables import Targets
from hclmp.errors import UserError

SYSTEMS = ["-".join(s) for n in (1, 2, 3, 4) for s in itertools.combinations("BCFNO", n)]
SAMPLES = st.lists(st.sampled_from(SYSTEMS), min_size=3, max_size=60)


def parts(fold: FoldRows) -> list[set[int]]:
    return [set(rows.tolist()) for rows in (fold.train, fold.validation, fold.test, fold.left_out)]


def assert_divides(fold: FoldRows, n: int) -> None:
    """Every row is in one part and one alone, in ascending order."""
    together = np.concatenate([fold.train, fold.validation, fold.test, fold.left_out])
    assert sorted(together.tolist()) == list(range(n))
    for rows in (fold.train, fold.validation, fold.test):
        assert rows.tolist() == sorted(rows.tolist())
        assert len(rows)


@given(SAMPLES, st.data(), st.floats(0.05, 0.45), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_nothing_of_a_held_out_or_validation_system_is_trained_on(
    systems: list[str], data: st.DataObject, fraction: float, seed: int
) -> None:
    held_out = data.draw(st.lists(st.sampled_from(systems), min_size=1, max_size=3, unique=True))

    def divide() -> FoldRows:
        return split_fold(systems, held_out, validation_fraction=fraction, seed=seed, fold="f")

    try:
        fold = divide()
    except UserError as error:
        assume("leaves no training data" not in str(error))
        raise
    assert_divides(fold, len(systems))
    train, validation, test, left_out = ({systems[i] for i in rows} for rows in parts(fold))
    assert test == set(held_out)
    assert not (train | validation) & test
    assert not train & validation
    for system in train | validation:
        assert not is_superset(system, test)
    for system in train:
        assert not is_superset(system, validation)
    for system in left_out:
        assert is_superset(system, test | validation)
    again = divide()
    assert parts(again) == parts(fold)


@given(st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_rows_does_not_choose_the_validation_systems(order: list[int]) -> None:
    systems = ["A-B", "A-C", "B-C", "A-D", "B-D", "C-D", "A", "B", "C", "D", "A-B-C", "B-C-D"]
    shuffled = [systems[i] for i in order]
    drawn = [
        split_fold(rows, ["A-B"], validation_fraction=0.4, seed=3, fold="f")
        for rows in (systems, shuffled)
    ]
    assert {systems[i] for i in drawn[0].validation} == {shuffled[i] for i in drawn[1].validation}


def test_validation_systems_have_the_size_of_the_held_out_ones() -> None:
    systems = ["A-B", "A-C", "B-D", "C-D", "A-D", *"ABCD"] * 3
    fold = split_fold(systems, ["A-B"], validation_fraction=0.3, seed=0, fold="f")
    assert {len(systems[i].split("-")) for i in fold.validation} == {2}
    assert len({systems[i] for i in fold.validation}) == 1  # 0.3 of four, rounded


def test_seeds_draw_different_validation_systems() -> None:
    systems = ["-".join(pair) for pair in itertools.combinations("ABCDEFG", 2)]
    drawn = {
        tuple(split_fold(systems, ["A-B"], validation_fraction=0.1, seed=s, fold="f").validation)
        for s in range(8)
    }
    assert len(drawn) > 1


def test_a_fold_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(UserError, match="fold `f`: the table has no sample of X-Y, Z"):
        split_fold(["A", "B"], ["Z", "X-Y"], validation_fraction=0.2, seed=0, fold="f")
    with pytest.raises(UserError, match="fold `f` leaves no training data"):
        split_fold(["A", "B", "A-B"], ["A"], validation_fraction=0.2, seed=0, fold="f")
    with pytest.raises(UserError, match="leaves no training data"):
        split_fold(["A"], ["A"], validation_fraction=0.2, seed=0, fold="f")


@given(st.integers(5, 200), st.floats(0.05, 0.45), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_a_random_split_divides_all_rows(n: int, fraction: float, seed: int) -> None:
    formulas, groups = ["Fe"] * n, np.arange(n)
    fold = split_random(formulas, groups, validation_fraction=fraction, seed=seed)
    assert_divides(fold, n)
    assert len(fold.test) == round(0.2 * n)
    assert not len(fold.left_out)
    again = split_random(formulas, groups, validation_fraction=fraction, seed=seed)
    assert parts(again) == parts(fold)
    # with no group of two, the split is that of single rows
    drawn = np.random.default_rng([seed, 2]).permutation(n)
    tested = round(0.2 * n)
    validated = tested + max(1, round(fraction * (n - tested)))
    assert set(drawn[:tested]) == parts(fold)[2]
    assert set(drawn[tested:validated]) == parts(fold)[1]


@given(st.lists(st.integers(0, 12), min_size=12, max_size=90), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_a_random_split_divides_no_group(labels: list[int], seed: int) -> None:
    groups = np.array([labels.index(label) for label in labels])
    largest = max(labels.count(label) for label in labels)
    assume(len(set(labels)) > 2 and largest <= len(labels) / 2)
    fold = split_random(["Fe"] * len(labels), groups, validation_fraction=0.2, seed=seed)
    assert_divides(fold, len(labels))
    sides = [set(groups[rows]) for rows in (fold.train, fold.validation, fold.test)]
    assert sum(map(len, sides)) == len(set(labels))


def test_a_large_group_is_trained_on_and_does_not_swallow_the_test() -> None:
    groups = np.array([0] * 40 + list(range(40, 100)))
    for seed in range(5):
        fold = split_random(["Fe"] * 100, groups, validation_fraction=0.2, seed=seed)
        assert len(fold.test) == 20
        assert set(range(40)) <= set(fold.train.tolist())


def test_a_random_split_of_one_group_names_it_and_a_remedy() -> None:
    formulas = ["Fe"] * 3 + ["FeTi2"] * 90
    groups = np.array([0, 1, 2] + [3] * 90)
    words = r"93 samples in 4 groups.*about FeTi2, has 90 samples.*Set `split: systems`"
    with pytest.raises(UserError, match=words):
        split_random(formulas, groups, validation_fraction=0.2, seed=0)


def test_a_random_split_of_few_rows_is_refused() -> None:
    with pytest.raises(UserError, match="at least 5 samples, the table has 4"):
        split_random(["Fe"] * 4, np.arange(4), validation_fraction=0.2, seed=0)


def of_sheet(**keys: Any) -> Config:
    return Config(systems="s.tsv", variants=["mean"], **keys)


def samples(formulas: list[str]) -> Targets:
    """Targets without labels."""
    systems = [system_of(parse_formula(formula)) for formula in formulas]
    none = np.empty((len(formulas), 0))
    return Targets(formulas, formulas, systems, (), none, none, simulated=False)


def test_rows_of_a_run_follow_its_split(workdir: Path) -> None:
    (workdir / "s.tsv").write_text("system\tfold\nFe-Ti\tx\nTi-W\ty\n")
    systems = ["Fe-Ti", "Ti-W", "Fe-W", "Cu-Fe", "Cu-Ti", "Cu-W"]
    table = samples([system.replace("-", "") for system in systems])
    rows = split_rows(of_sheet(), "y", table)
    assert rows.test.tolist() == [1]
    drawn = split_rows(of_sheet(split="random"), "random", table)
    assert len(drawn.test) == 1
    with pytest.raises(UserError, match="no fold `z`; there are x, y"):
        split_rows(of_sheet(), "z", table)
    column = of_sheet(
        split="column", targets={"source": "table", "path": "t.csv", "split_column": "part"}
    )
    assert fold_names(column) == ["column"]
    words = ["test", "train", "", "val", "train", "test"]
    given = split_rows(column, "column", replace(table, split=words))
    parts = (given.train, given.validation, given.test, given.left_out)
    assert [part.tolist() for part in parts] == [[1, 4], [3], [0, 5], [2]]


def test_a_given_split_without_validation_draws_it_from_training() -> None:
    words = ["train"] * 20 + ["test"] * 5
    systems = ["Fe-Ti", "Ti-W", "Fe-W", "Cu-Fe", "Cu-Ti"] * 5  # of all systems in both
    rows = split_given(systems, words, np.arange(25), validation_fraction=0.2, seed=0)
    assert rows.test.tolist() == list(range(20, 25))
    assert len(rows.validation) == 4
    assert sorted([*rows.train, *rows.validation]) == list(range(20))
    words = ["train"] * 20 + ["val"]
    with pytest.raises(UserError, match=r"20 rows `train`.*0 `test`"):
        split_given(["Fe"] * 21, words, np.arange(21), validation_fraction=0.2, seed=0)


def test_validation_rows_are_drawn_in_whole_groups() -> None:
    systems, words = ["Fe-Ti"] * 25, ["train"] * 20 + ["test"] * 5
    groups = np.arange(25) // 2 * 2
    for seed in range(5):
        rows = split_given(systems, words, groups, validation_fraction=0.2, seed=seed)
        assert len(rows.validation) == 4
        assert set(groups[rows.validation]).isdisjoint(groups[rows.train])
    one = split_given(systems, words, np.zeros(25, dtype=int), validation_fraction=0.2, seed=0)
    assert len(one.validation) == 4, "one group alone: rows of it"


HALF: dict[str, Any] = {"validation_fraction": 0.5, "seed": 0}


def test_a_given_split_by_system_is_validated_on_whole_systems() -> None:
    systems = [s for s in ("Cu-Fe", "Cu-Ti", "Fe-Ti", "Fe-W", "Ti-W") for _ in range(5)]
    words = ["train"] * 20 + ["test"] * 5
    drawn = set()
    for seed in range(12):
        rows = split_given(systems, words, np.arange(25), validation_fraction=0.2, seed=seed)
        names = np.array(systems)
        assert set(names[rows.validation]).isdisjoint(names[rows.train])
        assert len(rows.validation) == 5
        assert sorted([*rows.train, *rows.validation]) == list(range(20))
        drawn |= set(names[rows.validation])
    assert drawn == {"Cu-Fe", "Cu-Ti", "Fe-Ti", "Fe-W"}
    words[0] = "test"  # a row of a training system: not by system
    rows = split_given(systems, words, np.arange(25), validation_fraction=0.2, seed=0)
    assert len(rows.validation) == 4
    systems = ["Fe-Ti"] * 20 + ["Ti-W"] * 5
    alone = split_given(systems, ["train"] * 20 + words[20:], np.arange(25), **HALF)
    assert len(alone.train) == len(alone.validation) == 10, "one system alone: rows of it"


@pytest.mark.parametrize(
    ("text", "folds"),
    [
        ("system\tfold\nFe-Ti\ta\nTi-W\tb\nFe-W\ta\n", {"a": ("Fe-Ti", "Fe-W"), "b": ("Ti-W",)}),
        ("system\nTi-Fe\nTi-W\n", {"Fe-Ti": ("Fe-Ti",), "Ti-W": ("Ti-W",)}),
        ("fold\tsystem\n1\tTi-Fe\n", {"1": ("Fe-Ti",)}),
        ("# a comment\nsystem\tfold\n\nFe-Ti\ta # why\n", {"a": ("Fe-Ti",)}),
        ("\ufeffsystem\tfold \r\n Fe - Ti \ta\r\n", {"a": ("Fe-Ti",)}),
        ("system\tfold\nNa\tNA\n", {"NA": ("Na",)}),
    ],
)
def test_a_sheet_is_read(workdir: Path, text: str, folds: dict[str, tuple[str, ...]]) -> None:
    (workdir / "s.tsv").write_text(text, newline="")
    assert read_systems("s.tsv") == folds
    assert fold_names(of_sheet()) == list(folds)
    assert fold_names(of_sheet(split="random")) == ["random"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column `system` (columns are separated by tabs)"),
        (b"system fold\nFe-Ti a\n", "no column `system` (columns are separated by tabs)"),
        (b"name\tfold\nFe-Ti\ta\n", "no column `system`"),
        (b"system\tfold\n", "no systems in it"),
        (b"system\tfold\nFe-Ti\n", "row 1: fold ''"),
        (b"system\tfold\nFe-W\ta\nFe-Ti\ta\tb\n", "row 2 has 3 cells, but the header has 2"),
        (b"system\tfold\nFe-Ti\ta\tb\n", "row 1 has 3 cells, but the header has 2"),
        (b"system\tfold\nFe-Ti\ta\nTi-Fe\tb\n", "row 2: system Fe-Ti is named twice (folds a and"),
        (b"system\tfold\n\ta\n", "row 1: '' is not elements joined by `-`"),
        (b"system\tfold\nFe2Ti\ta\n", "row 1: 'Fe2Ti' is not elements joined by `-`"),
        (b"system\tfold\nFe-Ti\t../x\n", "row 1: fold '../x' must be letters"),
        (
            b"system\tfold\nFe-Ti\tcalibration-1\n",
            "`calibration-1` is the name of a fold",
        ),
        (b"system\tfold\nFe-\xff\ta\n", "not a text file in UTF-8"),
    ],
)
def test_a_bad_sheet_is_refused(workdir: Path, content: bytes, words: str) -> None:
    (workdir / "s.tsv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_systems("s.tsv")
    assert str(caught.value).startswith("s.tsv: ")
    assert words in str(caught.value)


def test_no_sheet_is_refused(workdir: Path) -> None:
    with pytest.raises(UserError, match=r"s\.tsv: no such sheet; `hclmp systems` makes one"):
        read_systems("s.tsv")


@given(st.lists(st.sampled_from(SYSTEMS), min_size=1, max_size=80), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_grouped_systems_are_balanced_and_qualify(systems: list[str], folds: int) -> None:
    qualified = {s for s in systems if s.count("-") == 1 and systems.count(s) >= 2}
    if len(qualified) < folds:
        with pytest.raises(UserError, match=r"too few for|none of the|no sample is of"):
            group_systems(systems, elements_per_system=2, min_samples=2, folds=folds)
        return
    sheet = group_systems(systems, elements_per_system=2, min_samples=2, folds=folds)
    assert set(sheet) == qualified
    assert set(sheet.values()) == {f"fold-{i + 1}" for i in range(folds)}
    sizes = [sum(systems.count(s) for s, f in sheet.items() if f == g) for g in sheet.values()]
    assert max(sizes) - min(sizes) <= max(systems.count(s) for s in qualified)
    alone = group_systems(systems, elements_per_system=2, min_samples=2, folds=None)
    assert alone == {s: s for s in sorted(qualified)}
