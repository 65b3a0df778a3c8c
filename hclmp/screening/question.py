"""What a screen is asked: goals and conditions."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hclmp.data.tables import Floats, Property
from hclmp.errors import UserError, join_some

CONDITION = re.compile(r"\s*(?P<name>.*\S)\s*(?P<operator><=|>=|<|>)\s*(?P<value>[^<>=\s]+)\s*")
NO_NAME = re.compile(r"[<>=]|^[-+]?[\d.]+(e[-+]?\d+)?$")  # before the operator: 0.1<gap<0.2, 1<gap


@dataclass(frozen=True)
class Goal:
    """A property, by its column, to maximise (sign 1) or to minimise (sign -1)."""

    column: int
    sign: int


@dataclass(frozen=True)
class Condition:
    """Bounds of a property in its unit, or infinite; ``<= 2`` is ``<`` the next number above 2."""

    column: int
    low: float
    high: float

    def transformed(self, prop: Property) -> tuple[float, float]:
        """The bounds in the transformed space."""
        ends = (self.low, self.high)
        low, high = (float(prop.forward(np.array(b))) if math.isfinite(b) else b for b in ends)
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
        """A question as a user asks it: names of properties, conditions (``alpha_1 < 0.2``).

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
        signs = [1] * len(maximize) + [-1] * len(minimize)
        goals = (Goal(_column(n, properties), s) for n, s in zip(named, signs, strict=True))
        return cls(tuple(properties), tuple(goals), _conditions(where, properties))

    def fulfilled(self, values: Floats) -> NDArray[np.bool_]:
        """Which measured rows [n, L] meet all conditions: [n]; NaN (not measured) does not."""
        met = np.ones(len(values), dtype=bool)
        for c in self.conditions:
            met &= (values[:, c.column] > c.low) & (values[:, c.column] < c.high)
        return met

    def directed(self, values: Floats) -> Floats:
        """The goals' columns of [n, L], negated where a goal is to be low: [n, goals]."""
        out: Floats = np.stack([g.sign * values[:, g.column] for g in self.goals], axis=1)
        return out


def _column(name: str, properties: Sequence[Property]) -> int:
    names = [p.name for p in properties]
    if name not in names:
        raise UserError(f"no property `{name}`; the model predicts {join_some(names, most=20)}")
    return names.index(name)


def _conditions(where: Sequence[str], properties: Sequence[Property]) -> tuple[Condition, ...]:
    """The conditions; several on one property become one."""
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
            "there are no other operators"
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
