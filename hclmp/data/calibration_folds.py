"""Calibration folds: what the final model is not told, so that its errors can be measured.

The final model is asked for systems of every size that are in no table, some with an element that
no sample has. The held-out systems of a sheet are often of one size, and leave out no element. So
the widths of the final model's intervals come from folds of their own.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hclmp.data.folds import CALIBRATION, FoldRows, rows_of
from hclmp.data.tables import Floats

PARTS = 5  # a fold holds out one part in five of the systems of every size
ELEMENTS_LEFT_OUT = 3  # that a fold leaves out, with all of their systems
# Share of the systems that may hold an element that is left out: a common one would take too much.
RARE = 0.05


@dataclass(frozen=True)
class Outside:
    """What a calibration fold holds out."""

    systems: frozenset[str]
    elements: frozenset[str]
    needed: frozenset[str]  # systems that training needs: neither held out nor for validation

    def holds(self, system: str) -> bool:
        """Whether a system is held out."""
        return system in self.systems or not self.elements.isdisjoint(system.split("-"))


def draw_outside(systems: Sequence[str], values: Floats, *, fold: str, seed: int) -> Outside:
    """Draw what a calibration fold holds out.

    One system in five of every size, no system in two folds; and up to ``ELEMENTS_LEFT_OUT`` rare
    elements, no element in two folds. Supersets of held-out systems stay: a scientist who asks for
    Fe-Ti may well have measured Fe-Ti-O.

    Args:
        systems: the system of each of n samples.
        values: [n, L], NaN where missing. What a property needs to have two different values stays
            in training.
        fold: one of ``CALIBRATION``.
        seed: of the draw.
    """
    number, rng = CALIBRATION.index(fold), np.random.default_rng([seed, 4])
    needed = _needed(systems, values)
    drawn = _shuffled(sorted(set(systems) - needed), rng)
    counts = Counter(e for system in sorted(set(systems)) for e in system.split("-"))
    kept = {element for system in needed for element in system.split("-")}
    most = RARE * len(set(systems))
    rare = [e for e, count in sorted(counts.items()) if count <= most and e not in kept]
    order = [rare[i] for i in rng.permutation(len(rare))]
    elements = order[number :: len(CALIBRATION)][:ELEMENTS_LEFT_OUT]
    return Outside(frozenset(drawn[number::PARTS]), frozenset(elements), needed)


def split_calibration(
    systems: Sequence[str],
    values: Floats,
    *,
    fold: str,
    validation_fraction: float,
    seed: int,
) -> FoldRows:
    """Divide samples around what a calibration fold holds out.

    Validation: whole systems, a share of the rest of every size.

    Args:
        systems, values, fold, seed: as for ``draw_outside``.
        validation_fraction: share of the rest.
    """
    outside = draw_outside(systems, values, fold=fold, seed=seed)
    known = {s for s in systems if not outside.holds(s)}
    rest = sorted(known - outside.needed) or sorted(known)
    every = max(2, round(1 / validation_fraction))  # some are left for training
    drawn = _shuffled(rest, np.random.default_rng([seed, 5, CALIBRATION.index(fold)]))
    validation = set(drawn[::every])
    test = set(systems) - known
    return rows_of(systems, train=known - validation, validation=validation, test=test)


def _shuffled(systems: Sequence[str], rng: np.random.Generator) -> list[str]:
    """In random order, small systems first: every k-th is one k-th of those of each size."""
    order: NDArray[np.int64] = rng.permutation(len(systems))
    return sorted((systems[i] for i in order), key=lambda system: system.count("-"))


def _needed(systems: Sequence[str], values: Floats) -> frozenset[str]:
    """A few systems that leave every property two different values."""
    alone = pd.DataFrame(values).groupby(np.array(systems)).nunique() > 1  # one row per system
    needed, missing = set(), np.ones(values.shape[1], dtype=bool)
    while (covers := alone.to_numpy()[:, missing].sum(axis=1)).any():
        needed.add(alone.index[covers.argmax()])
        missing &= ~alone.to_numpy()[covers.argmax()]
    for column in np.flatnonzero(missing):
        labelled = np.flatnonzero(~np.isnan(values[:, column]))
        other = labelled[values[labelled, column] != values[labelled[0], column]]
        needed |= {systems[row] for row in (labelled[0], *other[:1])}
    return frozenset(needed)
