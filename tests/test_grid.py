"""The candidates of a screen: each composition once, none left out, whatever the parts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hclmp.data.formula import parse_formula
from hclmp.errors import UserError
from hclmp.screening.grid import Grid

ELEMENTS = ("Co", "Cu", "Fe", "Mn", "Ti", "W")


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    elements = ELEMENTS[: draw(st.integers(1, 6))]
    cations = draw(st.integers(1, len(elements)))
    return Grid(elements, cations, draw(st.integers(cations, 11)))


def every(grid: Grid) -> set[tuple[tuple[str, int], ...]]:
    """All compositions, by brute force."""
    n = grid.divisions
    return {
        tuple(zip(chosen, steps, strict=True))
        for chosen in itertools.combinations(grid.elements, grid.cations)
        for steps in itertools.product(range(1, n + 1), repeat=grid.cations)
        if sum(steps) == n
    }


@given(grids())
@settings(max_examples=40, deadline=None)
def test_each_composition_has_one_number(grid: Grid) -> None:
    if grid.divisions**grid.cations > 50_000:
        return
    systems = math.comb(len(grid.elements), grid.cations)
    assert grid.size == systems * math.comb(grid.divisions - 1, grid.cations - 1)
    chosen, steps = grid.steps(np.arange(grid.size))
    assert (steps.sum(axis=1) == grid.divisions).all()
    found = [
        tuple((grid.elements[e], s) for e, s in zip(row, parts, strict=True))
        for row, parts in zip(chosen.tolist(), steps.tolist(), strict=True)
    ]
    assert len(found) == grid.size
    assert set(found) == every(grid)


@given(grids(), st.data())
@settings(max_examples=40, deadline=None)
def test_formula_and_number_go_both_ways(grid: Grid, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, grid.size - 1))
    (formula,) = grid.formulas(np.array([number]))
    fractions = parse_formula(formula)
    assert grid.number(fractions) == number
    compositions = grid.compositions(np.array([number]), ("Al", *ELEMENTS))
    dense = dict(zip(("Al", *ELEMENTS), compositions.dense()[0].tolist(), strict=True))
    assert {e: x for e, x in dense.items() if x} == pytest.approx(fractions, abs=1e-6)
    assert compositions.fractions.sum() == pytest.approx(1.0, abs=1e-6)


def test_what_is_not_on_the_grid_has_no_number() -> None:
    grid = Grid(("Co", "Fe", "Ti"), 2, 20)
    assert grid.number({"Co": 0.3, "Fe": 0.7}) is not None
    for strange in ({"Co": 1 / 3, "Fe": 2 / 3}, {"Co": 1.0}, {"Co": 0.5, "W": 0.5}):
        assert grid.number(strange) is None


def test_large_grids_are_counted_without_being_held() -> None:
    grid = Grid.of([f"E{i:02}" for i in range(60)], cations=5, step=0.01)
    assert grid.size == math.comb(60, 5) * math.comb(99, 4)
    numbers = np.array([0, grid.size // 3, grid.size - 1])
    chosen, steps = grid.steps(numbers)
    assert (np.diff(chosen, axis=1) > 0).all()
    assert (steps >= 1).all()
    assert (steps.sum(axis=1) == 100).all()
    named = [
        {grid.elements[e]: s / 100 for e, s in zip(*row, strict=True)}
        for row in zip(chosen.tolist(), steps.tolist(), strict=True)
    ]
    assert [grid.number(fractions) for fractions in named] == numbers.tolist()


@pytest.mark.parametrize("samples", [None, 1, 50, 171 * 4])
def test_parts_do_not_matter(samples: int | None) -> None:
    grid = Grid.of(ELEMENTS[:4], cations=3, step=0.05)
    whole = np.concatenate(list(grid.parts(samples=samples, seed=3)))
    parts = list(grid.parts(samples=samples, seed=3, rows=7))
    assert max(map(len, parts)) <= 7
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(set(whole.tolist())) == len(whole) == (samples or grid.size)
    assert whole.min() >= 0
    assert whole.max() < grid.size


def test_a_sample_is_spread_evenly_and_follows_its_seed() -> None:
    grid = Grid.of(ELEMENTS, cations=3, step=0.01)
    one, again, other = (
        np.concatenate(list(grid.parts(samples=2000, seed=seed))) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.9
    assert (np.bincount(one // grid.per_system, minlength=grid.systems) == 100).all()
    _, steps = grid.steps(one)
    # each element of a system has a third on average: the standard error is 0.4 steps
    assert steps.mean(axis=0) == pytest.approx([100 / 3] * 3, abs=2)


@pytest.mark.parametrize(
    ("elements", "cations", "step", "words"),
    [
        (["Fe", "Co"], 3, 0.05, "--cations 3: only 2 elements .* (Fe, Co)"),
        (["Fe", "Fe", "Co"], 2, 0.05, "names Fe twice"),
        (["Fe", "Co"], 2, 0.3, "--step 0.3 does not divide 1; 0.3333333 would"),
        (["Fe", "Co"], 2, 0.0, "--step 0 does not divide 1"),
        (["Fe", "Co"], 2, -0.1, "--step -0.1 does not divide 1"),
        (["Fe", "Co"], 2, 1.0, "--step 1 is too coarse for 2 cations"),
        (list(ELEMENTS), 6, 1e-5, "--step 1e-05: .* more than can be counted"),
    ],
)
def test_what_is_no_grid_is_named(
    elements: list[str], cations: int, step: float, words: str
) -> None:
    with pytest.raises(UserError, match=words.replace("(Fe", r"\(Fe").replace("Co)", r"Co\)")):
        Grid.of(elements, cations=cations, step=step)


def test_no_more_samples_than_there_are_compositions() -> None:
    grid = Grid.of(["Fe", "Co"], cations=2, step=0.05)
    with pytest.raises(UserError, match="--samples 20: the grid has 19 compositions"):
        list(grid.parts(samples=20))
