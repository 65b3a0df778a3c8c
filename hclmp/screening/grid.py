"""Candidates of a screen: a grid over many systems, whose points are numbered, not stored."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hclmp.data.composition import Compositions
from hclmp.data.formula import DECIMALS, Fractions, formula_text
from hclmp.errors import UserError, join_some

Numbers = NDArray[np.int64]
MOST = 2**62  # numbers are 64-bit integers
ROWS_AT_ONCE = 2_000  # of a part: bounds the memory of a screen


@dataclass(frozen=True)
class Grid:
    """All compositions of exactly k of the given elements, their fractions multiples of a step.

    No fraction is 0. Each composition has a number from 0 to ``size - 1``, system by system, in the
    combinatorial number system (Knuth, TAOCP 7.2.1.3).
    """

    elements: tuple[str, ...]  # alphabetical
    cations: int  # k
    divisions: int  # n = 1 / step

    @classmethod
    def of(cls, elements: Sequence[str], *, cations: int, step: float) -> "Grid":
        """A grid as a user asks for it.

        Raises:
            UserError: an element named twice, too few elements, or a step that does not fit.
        """
        if repeated := sorted({e for e in elements if elements.count(e) > 1}):
            raise UserError(f"--elements names {join_some(repeated)} twice")
        if cations > len(elements):
            raise UserError(
                f"--cations {cations}: only {len(elements)} elements are there to choose from "
                f"({join_some(elements, most=20)})"
            )
        divisions = round(1 / step) if 0 < step <= 1 else 0
        if not divisions or abs(divisions * step - 1) > 1e-5:
            near = f"; {1 / divisions:.7g} would" if divisions else ", or is not from 0 to 1"
            raise UserError(f"--step {step:g} does not divide 1{near}")
        if divisions < cations:
            raise UserError(
                f"--step {step:g} is too coarse for {cations} cations, each of which has at least "
                f"one step: at most {1 / cations:.7g}"
            )
        grid = cls(tuple(sorted(elements)), cations, divisions)
        if grid.size >= MOST:
            raise UserError(
                f"--step {step:g}: {float(grid.size):.1e} compositions are more than can be "
                "counted; a larger one, fewer --elements or fewer --cations"
            )
        return grid

    @property
    def systems(self) -> int:
        """How many systems there are."""
        return math.comb(len(self.elements), self.cations)

    @property
    def per_system(self) -> int:
        """How many compositions each system has."""
        return math.comb(self.divisions - 1, self.cations - 1)

    @property
    def size(self) -> int:
        """How many compositions there are."""
        return self.systems * self.per_system

    def steps(self, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """Compositions [b] as positions in ``elements``, ascending, and steps of each: [b, k]."""
        system, inside = np.divmod(numbers, self.per_system)
        chosen = _subsets(system, _binomials(len(self.elements), self.cations))[:, ::-1]
        # a composition is a choice of k - 1 cuts among the n - 1 places between n steps
        cuts = (
            self.divisions - 1 - _subsets(inside, _binomials(self.divisions - 1, self.cations - 1))
        )
        ends = np.pad(cuts, ((0, 0), (1, 1)), constant_values=(0, self.divisions))
        return chosen, np.diff(ends, axis=1)

    def compositions(self, numbers: Numbers, vocabulary: Sequence[str]) -> Compositions:
        """The compositions [b], over a vocabulary that has all elements."""
        index = np.array([vocabulary.index(element) for element in self.elements])
        chosen, steps = self.steps(numbers)
        fractions = (steps / self.divisions).astype(np.float32)
        return Compositions(tuple(vocabulary), index[chosen], fractions)

    def formulas(self, numbers: Numbers) -> list[str]:
        """Their formulas: ``Fe0.3Ti0.5W0.2``."""
        return [
            formula_text([self.elements[i] for i in chosen], steps / self.divisions)
            for chosen, steps in zip(*self.steps(numbers), strict=True)
        ]

    def number(self, fractions: Fractions) -> int | None:
        """The number of a composition; None for one that is not on the grid."""
        if len(fractions) != self.cations or not set(fractions) <= set(self.elements):
            return None
        elements = sorted(fractions)
        given = np.array([fractions[e] for e in elements])
        steps = np.rint(given * self.divisions).astype(np.int64)
        distance = np.abs(steps / self.divisions - given).max()
        if distance >= 10.0**-DECIMALS or steps.min() < 1 or steps.sum() != self.divisions:
            return None
        chosen = [self.elements.index(e) for e in reversed(elements)]
        cuts = self.divisions - 1 - np.cumsum(steps[:-1])
        return _number(chosen) * self.per_system + _number(cuts.tolist())

    def parts(
        self, *, samples: int | None = None, seed: int = 0, rows: int = ROWS_AT_ONCE
    ) -> Iterator[Numbers]:
        """The numbers of all compositions, or of a random sample, in parts of so many rows.

        A sample has one composition, drawn evenly, from each of ``samples`` equal stretches of all
        numbers: none twice, and as many of each system as of any other. What is drawn does not
        depend on the parts.

        Raises:
            UserError: the sample is larger than the grid.
        """
        total = self.size if samples is None else samples
        if total > self.size:
            raise UserError(
                f"--samples {total}: the grid has {self.size} compositions; leave --samples out to "
                "screen them all, or give a finer --step"
            )
        rng = np.random.default_rng(seed)
        for start in range(0, total, rows):
            stop = min(start + rows, total)
            if samples is None:
                yield np.arange(start, stop)
                continue
            bounds = np.array([i * self.size // total for i in range(start, stop + 1)])
            widths = np.diff(bounds)
            within = (rng.random(len(widths)) * widths).astype(np.int64)
            yield bounds[:-1] + np.minimum(within, widths - 1)


@cache
def _binomials(most: int, k: int) -> Numbers:
    """``table[i - 1, c]`` is c over i, for i from 1 to k and c below ``most``: [k, most]."""
    rows = [[min(math.comb(c, i), MOST) for c in range(most)] for i in range(1, k + 1)]
    return np.array(rows, dtype=np.int64).reshape(k, most)


def _subsets(numbers: Numbers, table: Numbers) -> Numbers:
    """The subsets of size k that numbers [b] stand for, each in descending order: [b, k]."""
    left, members = numbers.copy(), np.empty((len(numbers), len(table)), dtype=np.int64)
    for column, counts in enumerate(table[::-1]):
        members[:, column] = np.searchsorted(counts, left, side="right") - 1
        left -= counts[members[:, column]]
    return members


def _number(descending: Sequence[int]) -> int:
    """The number of a subset given in descending order."""
    k = len(descending)
    return sum(math.comb(c, k - i) for i, c in enumerate(descending))
