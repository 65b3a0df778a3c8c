"""Coverage of intervals: in parts, beside chance, and at every level."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hclmp.data.tables import Z90
from hclmp.evaluation.coverage import Part, coverage_at, extremes, inside, is_chance, parts, wrong


def frame_of(held: dict[str, list[bool]], properties: int = 1) -> pd.DataFrame:
    """Labels in systems, inside or outside of the interval -1 to 1 around a prediction of 0."""
    rows = [
        (f"{system}{i}", system, f"p{p}", 0.5 if is_held else 2.0)
        for p in range(properties)
        for system, cells in held.items()
        for i, is_held in enumerate(cells)
    ]
    frame = pd.DataFrame(rows, columns=["sample_id", "system", "property", "t_true"])
    return frame.assign(t_pred=0.0, t_low=-1.0, t_high=1.0)


def test_a_system_that_is_wrong_is_named_and_chance_is_not() -> None:
    """On average 0.9 of the labels are held; in one system 0.6, in others all."""
    held = {f"A-{i}": [True] * 40 for i in range(3)}
    held |= {"A-B": [True] * 24 + [False] * 16, "C-D": [True, False], "C-E": [False]}
    held |= {"A-C": [True] * 37 + [False] * 3}
    frame = frame_of(held, properties=2)
    assert inside(frame).mean() == pytest.approx(0.9, abs=0.01)
    found = {part.name: part for part in parts(frame) if part.kind == "system"}
    assert found["A-B"].coverage == pytest.approx(0.6)
    assert found["A-B"].n == 40, "compositions, whose properties are not independent"
    assert found["A-0"].coverage == 1.0
    assert [part.name for part in wrong(parts(frame)) if part.kind == "system"] == ["A-B"]


def test_of_many_right_systems_hardly_one_is_named_by_chance() -> None:
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(100):
        n = rng.integers(2, 60, size=40)
        found = [Part("system", str(i), rng.binomial(k, 0.9) / k, int(k)) for i, k in enumerate(n)]
        named += bool(wrong(found))
    assert named <= 10  # 5 expected, at most


def test_a_difference_that_is_sure_but_small_is_not_named() -> None:
    assert wrong([Part("property", "gap", 0.86, 1_000_000)]) == []
    assert wrong([Part("property", "gap", 0.84, 1_000_000)]) != []
    assert wrong([Part("property", "gap", 1.0, 1_000_000)]) != [], "too wide"


def test_few_compositions_tell_nothing() -> None:
    assert is_chance(Part("values", "all", 0.8, 20))
    assert not is_chance(Part("values", "all", 0.8, 200))
    assert not is_chance(Part("system", "A-B", 0.75, 60))
    assert is_chance(Part("system", "A-B", 0.75, 60), parts_like_it=1000)


def test_the_extremes_are_the_lowest_and_highest_of_every_property() -> None:
    n = 200
    true = np.linspace(-1, 1, n)
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)] * 2,
            "system": "A-B",
            "property": ["x"] * n + ["y"] * n,
            "t_true": np.concatenate([true, 100 - true]),
        }
    )
    frame = frame.assign(t_pred=frame["t_true"], t_low=frame["t_true"], t_high=frame["t_true"])
    frame.loc[n - 4 : n - 1, "t_low"] = 99.0  # four of the ten highest of x
    low, high = extremes(frame)
    assert (low.name, low.coverage, low.n) == ("lowest", 1.0, 20)
    assert (high.name, high.coverage, high.n) == ("highest", pytest.approx((0.6 + 1.0) / 2), 20)
    assert extremes(frame.iloc[:10]) == [], "too few to have a twentieth"


def test_calibration_curve_of_gaussian_errors() -> None:
    rng = np.random.default_rng(0)
    n = 40_000
    frame = pd.DataFrame({"property": ["x", "y"] * (n // 2), "t_true": rng.normal(size=n)})
    frame = frame.assign(t_pred=0.0, t_low=-Z90, t_high=Z90)
    levels = (0.1, 0.5, 0.9, 0.95)
    assert coverage_at(frame, levels) == pytest.approx(levels, abs=0.01)
    assert coverage_at(frame, [0.9])[0] == pytest.approx(inside(frame).mean())
    half = frame.assign(t_low=-Z90 / 2, t_high=Z90 / 2)
    assert coverage_at(half, [0.9])[0] == pytest.approx(0.589, abs=0.01)


def test_both_sides_of_an_interval_are_scaled_alone() -> None:
    """Near a limit an interval is not symmetrical."""
    frame = pd.DataFrame({"property": "x", "t_true": [-0.9, -1.1, 2.9, 3.1], "t_pred": 0.0})
    frame = frame.assign(t_low=-1.0, t_high=3.0)
    assert coverage_at(frame, [0.9])[0] == 0.5
    assert coverage_at(frame, [0.5, 0.99]).tolist() == [0.0, 1.0]
    exact = frame.assign(t_pred=frame["t_true"], t_low=frame["t_true"], t_high=frame["t_true"])
    assert coverage_at(exact, [0.1])[0] == 1.0, "an interval holds its own ends"
