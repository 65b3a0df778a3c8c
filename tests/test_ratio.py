"""The interval of a ratio of errors: by hand, and how often it holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from benchmarks.ratio_interval import METHODS, SHAPES, share_held
from hclmp.evaluation import ratio
from hclmp.evaluation.ratio import FEWEST_SYSTEMS, effective_number, ratio_interval, too_few


def column(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_the_interval_by_hand() -> None:
    own, other, n = [3.0, 1, 2, 4, 2, 5, 1, 3], [4.0, 2, 2, 5, 4, 5, 2, 6], [2.0] * 8
    logs = [
        math.log((sum(own) - a) / 14) - math.log((sum(other) - b) / 14)
        for a, b in zip(own, other, strict=True)
    ]
    mean = sum(logs) / 8
    error = math.sqrt(7 / 8 * sum((x - mean) ** 2 for x in logs))
    middle = math.log(sum(own) / sum(other))
    half = student.ppf(0.975, 7) * error
    found = ratio_interval(column(own), column(other), column(n))
    assert found == pytest.approx((math.exp(middle - half), math.exp(middle + half)))
    backwards = ratio_interval(column(other), column(own), column(n))
    assert backwards == pytest.approx((1 / found[1], 1 / found[0])), "that of the reciprocal"


def test_a_few_large_systems_count_like_few_systems() -> None:
    assert effective_number(column([5.0] * 9)) == pytest.approx(9)
    assert effective_number(column([100.0, 100.0] + [0.001] * 7)) == pytest.approx(2, rel=1e-3)
    both = np.array([[3.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 0.0]])
    # of the labels of the two properties the systems have 1/4, 1/4, 1/2 and none
    assert effective_number(both) == pytest.approx(1 / (1 / 16 + 1 / 16 + 1 / 4))
    assert effective_number(np.c_[both, np.zeros(4)]) == pytest.approx(8 / 3)


def test_a_property_counts_without_the_systems_that_lack_it() -> None:
    """Systems are alike but for labels: their ratio is 0.5, left out or not."""
    counts = np.array([[4.0, 0.0]] * 4 + [[0.0, 2.0]] + [[2.0, 0.0]] * 4)
    assert ratio_interval(counts * 0.3, counts * 0.6, counts) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("systems", [1, 2, FEWEST_SYSTEMS - 1])
def test_of_few_systems_there_is_no_interval(systems: int) -> None:
    sums = np.ones((systems, 2))
    assert all(map(math.isnan, ratio_interval(sums, sums, sums)))
    assert too_few(systems).startswith(f"{systems} held-out system")
    enough = np.ones((FEWEST_SYSTEMS, 2))
    assert ratio_interval(enough, enough, enough) == (1.0, 1.0)


def test_of_no_error_there_is_no_interval() -> None:
    zero, one = np.zeros((20, 1)), np.ones((20, 1))
    for own, other in ((zero, one), (one, zero), (zero, zero)):
        with np.errstate(all="raise"):
            assert all(map(math.isnan, ratio_interval(own, other, one)))


@pytest.mark.parametrize("systems", [8, 20])
def test_the_interval_holds_the_truth_as_often_as_it_says(systems: int) -> None:
    """In small; 3.3 standard deviations of 1,000 trials are 0.023."""
    for name in ("equal sizes", "by 1", "by 1, heavy tails"):
        held = share_held(SHAPES[name], systems, trials=1000)
        assert 0.95 - 0.043 < held < 0.95 + 0.043, name
    # what it was before
    bootstrap = METHODS["percentile bootstrap"]
    assert share_held(SHAPES["by 1"], 8, trials=200, method=bootstrap) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("systems", [8, 12, 20, 50])
def test_the_interval_holds_the_truth_in_full(name: str, systems: int) -> None:
    """The table of docs/method.md; two standard deviations of 4,000 trials are 0.007."""
    held = share_held(SHAPES[name], systems, trials=4000, seed=1)
    assert 0.93 - 0.007 < held < 0.97 + 0.007


@pytest.mark.slow
def test_with_fewer_systems_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is why there is none."""
    monkeypatch.setattr(ratio, "FEWEST_SYSTEMS", 2)
    held = [share_held(shape, 4, trials=4000, seed=1) for shape in SHAPES.values()]
    assert max(held) > 0.97
