"""What a screen is for: goals, conditions, and how likely a prediction meets them.

A prediction is Gaussian in the transformed space, so probabilities are computed there and hold in
property units too, the transforms being monotonic. Expected improvements are in property units:
those of a log10 property are integrals over a log-normal distribution.

Conditions and goals are taken together, with the correlation of the properties that the model
learned (as ``Prediction.samples`` has it): to ask for a high absorption here *and* a low one there
is not to ask for two things by chance. The conditions are integrated one after the other, each
truncated by those before it (Genz, J. Comput. Graph. Stat. 1, 141, 1992), over fixed quasi-random
points; a single goal follows in closed form, so that without conditions nothing is approximate.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from hclmp.data.tables import Floats, Property, correlation_of
from hclmp.errors import UserError, join_some
from hclmp.models.interface import Prediction

POINTS = 256  # of an integral; a power of 2, as Sobol' points want it
RIDGE = 1e-6  # of the correlation: properties that always go together leave no Cholesky factor
TINY = 1e-300
CONDITION = re.compile(r"\s*(?P<name>.*\S)\s*(?P<operator><=|>=|<|>)\s*(?P<value>[^<>=\s]+)\s*")
NO_NAME = re.compile(r"[<>=]|^[-+]?[\d.]+(e[-+]?\d+)?$")  # before the operator: 0.1<gap<0.2, 1<gap
LN10 = math.log(10.0)


@dataclass(frozen=True)
class Goal:
    """A property to be as high, or as low, as can be.

    Attributes:
        column: of the property, among the model's.
        sign: 1 to maximise, -1 to minimise.
    """

    column: int
    sign: int


@dataclass(frozen=True)
class Condition:
    """A property to be between two bounds, in its unit; what is not bounded is infinite.

    The bounds themselves do not meet it: ``<= 2`` has the next number above 2 for its bound.
    """

    column: int
    low: float
    high: float

    def transformed(self, prop: Property) -> tuple[float, float]:
        """The bounds in the transformed space."""
        low, high = (
            float(prop.forward(np.array(b))) if math.isfinite(b) else b
            for b in (self.low, self.high)
        )
        return low, high


@dataclass(frozen=True)
class Question:
    """One or two goals, and conditions on different properties."""

    properties: tuple[Property, ...]
    goals: tuple[Goal, ...]
    conditions: tuple[Condition, ...]

    @classmethod
    def of(
        cls,
        properties: Sequence[Property],
        *,
        maximize: Sequence[str] = (),
        minimize: Sequence[str] = (),
        where: Sequence[str] = (),
    ) -> "Question":
        """A question as a user asks it.

        Args:
            properties: the model's.
            maximize, minimize: names of properties.
            where: conditions such as ``alpha_1 < 0.2``.

        Raises:
            UserError: no goal or more than two, an unknown property, or a condition that cannot be
                read or met.
        """
        named = [*maximize, *minimize]
        if not 1 <= len(named) <= 2:
            raise UserError(
                f"{len(named)} goals ({join_some(named) or 'none'}): name one or two with "
                "--maximize and --minimize; ask for the others with --where"
            )
        if len(set(named)) < len(named):
            raise UserError(f"`{named[0]}` is a goal twice")
        goals = [Goal(_column(n, properties), 1) for n in maximize]
        goals += [Goal(_column(n, properties), -1) for n in minimize]
        return cls(tuple(properties), tuple(goals), _conditions(where, properties))

    def fulfilled(self, values: Floats) -> NDArray[np.bool_]:
        """Which measured rows [n, L] meet all conditions; NaN, not measured, does not: [n]."""
        met = np.ones(len(values), dtype=bool)
        for c in self.conditions:
            met &= (values[:, c.column] > c.low) & (values[:, c.column] < c.high)
        return met

    def directed(self, values: Floats) -> Floats:
        """The goals' columns of [n, L], turned so that more is better: [n, goals]."""
        out: Floats = np.stack([g.sign * values[:, g.column] for g in self.goals], axis=1)
        return out


def _column(name: str, properties: Sequence[Property]) -> int:
    names = [p.name for p in properties]
    if name not in names:
        raise UserError(f"no property `{name}`; the model predicts {join_some(names, most=20)}")
    return names.index(name)


def _conditions(where: Sequence[str], properties: Sequence[Property]) -> tuple[Condition, ...]:
    """Conditions, those on one property joined."""
    bounds: dict[int, tuple[float, float]] = {}
    for text in where:
        column, low, high = _condition(text, properties)
        before = bounds.get(column, (-math.inf, math.inf))
        bounds[column] = max(low, before[0]), min(high, before[1])
        if bounds[column][0] >= bounds[column][1]:
            raise UserError(
                f"--where {text!r}: with the other conditions on `{properties[column].name}` no "
                "value is left"
            )
    return tuple(Condition(column, *pair) for column, pair in sorted(bounds.items()))


def _condition(text: str, properties: Sequence[Property]) -> tuple[int, float, float]:
    """Column, lower and upper bound of a condition."""
    found = CONDITION.fullmatch(text)
    known = {p.name for p in properties}
    if found is None or (found["name"] not in known and NO_NAME.search(found["name"])):
        raise UserError(
            f"--where {text!r}: write PROPERTY<VALUE or PROPERTY>VALUE, quoted, such as "
            f'--where "{properties[0].name}<0.2": property first; two conditions for a range; '
            "other operators there are none"
        )
    column = _column(found["name"], properties)
    try:
        value = float(found["value"])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"--where {text!r}: {found['value']!r} is not a finite number")
    if properties[column].transform == "log10" and value <= 0:
        raise UserError(
            f"--where {text!r}: `{found['name']}` is learned as log10 and so always positive; "
            "choose a positive bound"
        )
    operator = found["operator"]
    beyond = math.inf if operator.startswith("<") else -math.inf
    bound = math.nextafter(value, beyond) if operator.endswith("=") else value
    return (column, -math.inf, bound) if beyond > 0 else (column, bound, math.inf)


class Record(NamedTuple):
    """What has been measured, against which candidates are held.

    Attributes:
        front: [m, goals], the measured rows that meet all conditions and that no other is better
            than in all goals: with one goal the best. In the transformed space, turned so that more
            is better, first goal ascending; m = 0 where no measured row meets the conditions.
        rows: [m] which rows of the table they are.
    """

    front: Floats
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, question: Question, values: Floats) -> "Record":
        """Of measured rows [n, L], in property units, NaN where not measured."""
        transformed = np.stack(
            [p.forward(values[:, i]) for i, p in enumerate(question.properties)], axis=1
        )
        goals = question.directed(transformed)
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
        improvement: expected improvement over the record, in the goal's unit, nothing where the
            conditions are not met. NaN with two goals or without a record.
    """

    feasible: Floats
    probability: Floats
    improvement: Floats


def chances(question: Question, record: Record, predicted: Prediction) -> Chances:
    """How likely candidates meet the conditions and break the record."""
    columns = [c.column for c in question.conditions] + [g.column for g in question.goals]
    factor = _factor(predicted.covariance, columns)
    std = np.hypot(predicted.std_aleatoric, predicted.std_epistemic)
    mean, std = predicted.mean[:, columns], std[:, columns]
    points = _points(len(question.conditions) + len(question.goals) - 1)
    drawn: list[Floats] = []
    weight = np.ones((len(mean), len(points)))
    for i, condition in enumerate(question.conditions):
        shift = _shift(factor, i, drawn)
        bounds = condition.transformed(question.properties[condition.column])
        low, high = (((b - mean[:, i]) / std[:, i])[:, None] - shift for b in bounds)
        share, next_ = _truncated(low / factor[i, i], high / factor[i, i], points[:, i])
        weight = weight * share
        drawn.append(next_)
    feasible = weight.mean(axis=1)
    nothing = np.full(len(mean), np.nan)
    if not len(record.front):
        return Chances(feasible, feasible, nothing)
    given = _Given(factor, mean, std, drawn, len(question.conditions))
    if len(question.goals) == 2:
        better = _beyond(question, record, given, points[:, -1])
        return Chances(feasible, (weight * better).mean(axis=1), nothing)
    (goal,) = question.goals
    best = goal.sign * float(record.front[0, 0])
    log10 = question.properties[goal.column].transform == "log10"
    center, spread = given.of(0)
    better = ndtr(goal.sign * (center - best) / spread)
    gain = improvement(center, spread, best, sign=goal.sign, log10=log10)
    return Chances(feasible, (weight * better).mean(axis=1), (weight * gain).mean(axis=1))


def improvement(mean: Floats, std: Floats, best: float, *, sign: int, log10: bool) -> Floats:
    """Expected improvement over ``best``, in property units.

    Args:
        mean, std: of the prediction, in the transformed space.
        best: what is to be improved on, in the transformed space.
        sign: 1 if more is better, -1 if less.
        log10: whether that space is that of the logarithm. The expectation is then one over a
            log-normal distribution, whose upper tail counts in full.
    """
    if not log10:
        z = sign * (mean - best) / std
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        plain: Floats = std * (z * ndtr(z) + density)
        return np.maximum(plain, 0.0)
    center, spread, mark = LN10 * mean, LN10 * std, LN10 * best
    z = sign * (center - mark) / spread
    share = np.exp(center + spread**2 / 2) * ndtr(z + sign * spread)  # of the mean, where better
    gain: Floats = sign * (share - math.exp(mark) * ndtr(z))
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
        center = self.mean[:, i : i + 1] + self.std[:, i : i + 1] * _shift(
            self.factor, i, self.drawn
        )
        return center, self.std[:, i : i + 1] * self.factor[i, i]


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
