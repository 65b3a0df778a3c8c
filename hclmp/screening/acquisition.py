"""How good candidates are: the probability of meeting conditions, the expected improvement.

A prediction is Gaussian in the transformed space. Probabilities are computed there and hold in
property units too, because the transforms are monotonic. Expected improvements are in property
units: those of a log10 property are integrals over a log-normal distribution.

Conditions and goals are taken together, with the learned correlation of the properties. The
conditions are integrated one after the other, each truncated by those before it (Genz, J. Comput.
Graph. Stat. 1, 141, 1992), over fixed quasi-random points. A single goal follows in closed form, so
that without conditions nothing is approximate.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from hclmp.data.tables import Floats, correlation_of
from hclmp.models.interface import Prediction
from hclmp.screening.question import Question

POINTS = 256  # of an integral; a power of 2, as a Sobol sequence needs
RIDGE = 1e-6  # on the correlation, which is singular where properties always go together
TINY = 1e-300
LN10 = math.log(10.0)


class Record(NamedTuple):
    """The best measured values, which candidates are compared with.

    Attributes:
        front: [m, goals], the measured rows that meet all conditions and that no other one beats
            (``on_front``). In the transformed space, negated where a goal is to be low, first goal
            ascending; m = 0 where no row meets the conditions.
    """

    front: Floats
    rows: NDArray[np.int64]  # [m] which rows of the table they are

    @classmethod
    def of(cls, question: Question, values: Floats) -> "Record":
        """Of measured rows [n, L], in property units, NaN where not measured."""
        columns = zip(question.properties, values.T, strict=True)
        goals = question.directed(np.stack([p.forward(column) for p, column in columns], axis=1))
        rows = np.flatnonzero(question.fulfilled(values) & ~np.isnan(goals).any(axis=1))
        rows = rows[on_front(goals[rows])]
        rows = rows[np.argsort(goals[rows, 0], kind="stable")]
        return cls(goals[rows], rows)


def on_front(points: Floats) -> NDArray[np.bool_]:
    """Which of n points [n, 1 or 2] no other beats: at least as good in all, better in one.

    More is better. Of equal points all stay.
    """
    if not len(points):
        return np.zeros(0, dtype=bool)
    if points.shape[1] == 1:
        best: NDArray[np.bool_] = points[:, 0] == points[:, 0].max()
        return best
    unique, where = np.unique(points, axis=0, return_inverse=True)  # both goals ascending
    second = unique[::-1, 1]
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], second[:-1]]))
    kept: NDArray[np.bool_] = (second > best_before)[::-1]
    return kept[where.ravel()]


class Chances(NamedTuple):
    """How good n candidates are: [n] each.

    Attributes:
        feasible: probability that all conditions are met.
        probability: that all are met *and* the record is broken: better than the best measured
            value; with two goals, no measured row at least as good in both. Where no measured row
            meets the conditions, as ``feasible`` (Gelbart et al., UAI 2014).
        improvement: expected improvement over the record, in the goal's unit; 0 where the
            conditions are not met. NaN with two goals or without a record.
    """

    feasible: Floats
    probability: Floats
    improvement: Floats


def chances(question: Question, record: Record, predicted: Prediction) -> Chances:
    """How likely candidates meet the conditions and break the record."""
    columns = [c.column for c in question.conditions] + [g.column for g in question.goals]
    factor = _factor(predicted.covariance, columns)
    mean, std = predicted.mean[:, columns], predicted.std[:, columns]
    points = _points(len(question.conditions) + len(question.goals) - 1)
    drawn: list[Floats] = []
    weight = np.ones((len(mean), len(points)))
    for i, condition in enumerate(question.conditions):
        shift = _shift(factor, i, drawn)
        bounds = condition.transformed(question.properties[condition.column])
        low, high = (((b - mean[:, i]) / std[:, i])[:, None] - shift for b in bounds)
        share, draw = _truncated(low / factor[i, i], high / factor[i, i], points[:, i])
        weight = weight * share
        drawn.append(draw)
    feasible = weight.mean(axis=1)
    no_improvement = np.full(len(mean), np.nan)
    if not len(record.front):
        return Chances(feasible, feasible, no_improvement)
    given = _Given(factor, mean, std, drawn, len(question.conditions))
    if len(question.goals) == 2:
        better = _beyond(question, record, given, points[:, -1])
        return Chances(feasible, (weight * better).mean(axis=1), no_improvement)
    (goal,) = question.goals
    best = goal.sign * float(record.front[0, 0])
    log10 = question.properties[goal.column].transform == "log10"
    center, spread = given.of(0)
    better = ndtr(goal.sign * (center - best) / spread)
    gain = improvement(center, spread, best, sign=goal.sign, log10=log10)
    return Chances(feasible, (weight * better).mean(axis=1), (weight * gain).mean(axis=1))


def improvement(mean: Floats, std: Floats, best: float, *, sign: int, log10: bool) -> Floats:
    """Expected improvement over the record ``best``, in property units.

    ``mean``, ``std`` and ``best`` are in the transformed space. If that is the space of the
    logarithm, the expectation is over a log-normal distribution, with its whole upper tail. The
    sign is 1 if more is better, -1 if less.
    """
    if not log10:
        z = sign * (mean - best) / std
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        plain: Floats = std * (z * ndtr(z) + density)
        return np.maximum(plain, 0.0)
    center, spread, record = LN10 * mean, LN10 * std, LN10 * best
    z = sign * (center - record) / spread
    share = np.exp(center + spread**2 / 2) * ndtr(z + sign * spread)  # mean over the better side
    gain: Floats = sign * (share - math.exp(record) * ndtr(z))
    return np.maximum(gain, 0.0)


class _Given(NamedTuple):
    """The goals, given what was drawn for the conditions (and for an earlier goal)."""

    factor: Floats
    mean: Floats
    std: Floats
    drawn: list[Floats]
    first: int

    def of(self, goal: int) -> tuple[Floats, Floats]:
        """Mean and standard deviation of a goal: [n, q] and [n, 1]."""
        i = self.first + goal
        mean, std = self.mean[:, i, None], self.std[:, i, None]
        return mean + std * _shift(self.factor, i, self.drawn), std * self.factor[i, i]


def _beyond(question: Question, record: Record, given: _Given, points: Floats) -> Floats:
    """Probability that no measured row is at least as good in both goals: [n, q]."""
    first, second = question.goals
    center, spread = given.of(0)
    normal = np.broadcast_to(ndtri(points), (len(center), len(points)))
    reached = first.sign * (center + spread * normal)
    # the front's second goal falls as its first rises: the first row not passed is to be beaten
    to_beat = np.append(record.front[:, 1], -np.inf)
    mark = to_beat[np.searchsorted(record.front[:, 0], reached, side="left")]
    center, spread = given._replace(drawn=[*given.drawn, normal]).of(1)
    out: Floats = ndtr((second.sign * center - mark) / spread)
    return out


def _factor(covariance: Floats | None, columns: Sequence[int]) -> Floats:
    """Cholesky factor of the correlation of these columns, which may repeat: [m, m]."""
    if covariance is None:
        correlation = (np.array(columns)[:, None] == np.array(columns)).astype(np.float64)
    else:
        correlation = correlation_of(covariance[np.ix_(columns, columns)])
    factor: Floats = np.linalg.cholesky((1 - RIDGE) * correlation + RIDGE * np.eye(len(columns)))
    return factor


def _points(dimensions: int) -> Floats:
    """Points of an integral over the unit cube: [q, dimensions], always the same ones."""
    if not dimensions:
        return np.empty((1, 0))
    points: Floats = qmc.Sobol(dimensions, rng=np.random.default_rng(0)).random(POINTS)
    return points.clip(1e-12, 1 - 1e-12)


def _shift(factor: Floats, i: int, drawn: Sequence[Floats]) -> Floats | float:
    """How far earlier draws move variable i: [n, q], in its standard deviations."""
    return sum((factor[i, j] * draw for j, draw in enumerate(drawn)), 0.0)


def _truncated(low: Floats, high: Floats, points: Floats) -> tuple[Floats, Floats]:
    """Probability of a standard normal within bounds [n, q], and its draws there: [n, q]."""
    if np.isneginf(low).all():
        share = ndtr(high)
        return share, ndtri(np.maximum(points * share, TINY))
    if np.isposinf(high).all():  # by the other tail, whose small probabilities are exact
        share = ndtr(-low)
        return share, -ndtri(np.maximum(points * share, TINY))
    below = ndtr(low)
    share = ndtr(high) - below
    return share, ndtri((below + points * share).clip(TINY, 1 - 1e-16))
