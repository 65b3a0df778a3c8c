"""What a screen ranks by, against brute force and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hclmp.data.tables import Floats, Property
from hclmp.models.interface import Prediction
from hclmp.screening.acquisition import Record, chances, improvement, on_front
from hclmp.screening.question import Question

PROPERTIES = (
    Property("gap", "eV"),
    Property("rate", "1/s", "log10"),
    Property("alpha", "1/cm"),
    Property("cost", "", "log10"),
)
DRAWS = 60_000


def question(
    maximize: tuple[str, ...] = (), minimize: tuple[str, ...] = (), where: tuple[str, ...] = ()
) -> Question:
    return Question.of(PROPERTIES, maximize=maximize, minimize=minimize, where=where)


def predicted(n: int = 6, *, seed: int = 0, independent: bool = False) -> Prediction:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(4, 4))
    return Prediction(
        rng.normal(scale=0.5, size=(n, 4)),
        rng.uniform(0.2, 0.6, (n, 4)),
        rng.uniform(0.0, 0.3, (n, 4)),
        None if independent else factor @ factor.T,
    )


def in_units(samples: Floats) -> Floats:
    return np.stack([p.inverse(samples[..., i]) for i, p in enumerate(PROPERTIES)], axis=-1)


def measured(seed: int = 1, n: int = 30) -> Floats:
    return in_units(np.random.default_rng(seed).normal(scale=0.4, size=(n, 4)))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("log10", [False, True])
def test_expected_improvement_is_what_draws_give(sign: int, log10: bool) -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=400_000)
    for mean, std, best in [(0.3, 0.5, 0.4), (-1.0, 0.2, -1.3), (0.0, 0.3, 0.9), (2.0, 0.4, 1.5)]:
        values = mean + std * draws
        if log10:
            gain = np.maximum(sign * (10**values - 10**best), 0)
        else:
            gain = np.maximum(sign * (values - best), 0)
        found = improvement(np.array([mean]), np.array([std]), best, sign=sign, log10=log10)
        error = gain.std() / np.sqrt(len(gain))
        assert found[0] == pytest.approx(gain.mean(), abs=5 * error)


def test_expected_improvement_far_off_is_small_but_orders() -> None:
    for log10 in (False, True):
        found = improvement(np.array([-1.0, -0.5, 0.0]), np.full(3, 0.1), 1.0, sign=1, log10=log10)
        assert (np.diff(found) > 0).all()
        assert (found >= 0).all()
        assert found[-1] < 1e-20


CASES = [
    question(maximize=("gap",)),
    question(minimize=("rate",)),
    question(maximize=("gap",), where=("rate<2",)),
    question(maximize=("rate",), where=("alpha>-0.2", "gap<0.6")),
    question(minimize=("alpha",), where=("cost>0.5", "cost<3", "gap>-0.5", "rate>0.3")),
    question(maximize=("gap", "rate")),
    question(maximize=("gap",), minimize=("cost",), where=("alpha<0.4", "rate>0.5")),
    question(maximize=("gap",), where=("gap>0.1",)),
]


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("asked", CASES, ids=range(len(CASES)))
def test_chances_are_what_joint_draws_give(asked: Question, independent: bool) -> None:
    given_ = predicted(independent=independent)
    values = measured()
    record = Record.of(asked, values)
    assert len(record.front), "a record to break"
    found = chances(asked, record, given_)
    samples = given_.samples(DRAWS, seed=5)
    units = in_units(samples)
    met = np.stack([asked.fulfilled(row) for row in units])
    goals = np.stack([asked.directed(row) for row in samples])
    better = np.ones_like(met)
    for point in record.front:
        better &= (goals > point).any(axis=-1)
    assert found.feasible == pytest.approx(met.mean(axis=1), abs=0.012)
    assert found.probability == pytest.approx((met & better).mean(axis=1), abs=0.012)
    if len(asked.goals) == 2:
        assert np.isnan(found.improvement).all()
        return
    (goal,) = asked.goals
    best = goal.sign * PROPERTIES[goal.column].inverse(goal.sign * record.front[0, 0])
    gain = np.maximum(asked.directed(units.reshape(-1, 4)).reshape(met.shape) - best, 0) * met
    errors = gain.std(axis=1) / np.sqrt(DRAWS)
    assert (np.abs(found.improvement - gain.mean(axis=1)) < 6 * errors + 0.02 * gain.mean()).all()


def test_without_conditions_nothing_is_approximate() -> None:
    asked, given_ = question(maximize=("gap",)), predicted(50)
    record = Record.of(asked, measured())
    std = np.hypot(given_.std_aleatoric, given_.std_epistemic)[:, 0]
    z = (given_.mean[:, 0] - record.front[0, 0]) / std
    found = chances(asked, record, given_)
    np.testing.assert_allclose(found.probability, norm.cdf(z), rtol=1e-12)
    np.testing.assert_allclose(
        found.improvement, std * (z * norm.cdf(z) + norm.pdf(z)), rtol=1e-9, atol=1e-15
    )
    assert (found.feasible == 1).all()
    one = question(maximize=("gap",), where=("alpha<0.3",))
    z = (0.3 - given_.mean[:, 2]) / np.hypot(given_.std_aleatoric, given_.std_epistemic)[:, 2]
    found = chances(one, Record.of(one, measured()), given_)
    np.testing.assert_allclose(found.feasible, norm.cdf(z), rtol=1e-12)


def test_a_row_does_not_depend_on_the_others() -> None:
    asked, given_ = CASES[4], predicted(20)
    record = Record.of(asked, measured())
    whole = chances(asked, record, given_)
    part = Prediction(*(a[5:8] for a in list(vars(given_).values())[:3]), given_.covariance)
    for one, other in zip(chances(asked, record, part), whole, strict=True):
        np.testing.assert_allclose(one, other[5:8], rtol=1e-12)


@pytest.mark.parametrize("where", [("gap>50",), ("gap<-50",), ("gap>50", "gap<51"), ("rate>1e30",)])
def test_what_cannot_be_met_has_no_chance_and_no_nan(where: tuple[str, ...]) -> None:
    asked = question(maximize=("alpha",), where=where)
    record = Record.of(question(maximize=("alpha",)), measured())
    for values in chances(asked, record, predicted()):
        assert np.isfinite(values).all()
        assert (values < 1e-9).all()


def test_properties_that_always_go_together() -> None:
    same = Prediction(np.zeros((1, 4)), np.ones((1, 4)), np.zeros((1, 4)), np.ones((4, 4)))
    asked = question(maximize=("gap",), where=("alpha<0.0",))
    record = Record(np.array([[0.0]]), np.array([0]))
    found = chances(asked, record, same)
    assert found.feasible[0] == pytest.approx(0.5)
    assert found.probability[0] < 0.01, "gap is above 0 only where alpha is"


def test_the_record_is_the_best_that_meets_the_conditions() -> None:
    values = np.array([[1.0, 1, 5, 1], [3.0, 1, 9, 1], [2.0, 1, 4, 1], [9.0, 1, np.nan, 1]])
    assert Record.of(question(maximize=("gap",)), values).rows.tolist() == [3]
    asked = question(maximize=("gap",), where=("alpha<6",))
    assert Record.of(asked, values).rows.tolist() == [2]
    assert Record.of(asked, values).front.tolist() == [[2.0]]
    two = question(maximize=("gap",), minimize=("alpha",))
    assert Record.of(two, values).front.tolist() == [[2.0, -4.0], [3.0, -9.0]]
    none = question(maximize=("gap",), where=("alpha<1",))
    empty = Record.of(none, values)
    found = chances(none, empty, predicted())
    np.testing.assert_array_equal(found.probability, found.feasible)
    assert np.isnan(found.improvement).all()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_front_is_that_of_brute_force(points: list[tuple[int, int]]) -> None:
    found = on_front(np.array(points, dtype=float).reshape(-1, 2))
    for (a, b), kept in zip(points, found, strict=True):
        beaten = any(c >= a and d >= b and (c, d) != (a, b) for c, d in points)
        assert kept == (not beaten)


@pytest.mark.parametrize(
    ("where", "met"),
    [
        (("gap<1.029",), [True, False, False]),
        (("gap<=1.029",), [True, True, False]),
        (("gap>1.029",), [False, False, True]),
        (("gap>=1.029",), [False, True, True]),
        (("gap<=1.029", "gap<1.029"), [True, False, False]),
        (("gap>=1.029", "gap<=1.029"), [False, True, False]),
    ],
)
def test_a_measured_value_at_the_bound_meets_what_has_an_equal_sign(
    where: tuple[str, ...], met: list[bool]
) -> None:
    values = np.array([[gap, 1.0, 1.0, 1.0] for gap in (1.0, 1.029, 1.03)])
    asked = question(maximize=("alpha",), where=where)
    assert asked.fulfilled(values).tolist() == met
    assert np.isfinite(chances(asked, Record.of(asked, values), predicted()).probability).all()
