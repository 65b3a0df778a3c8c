"""Whether the intervals hold as many labels as they should: on average, in parts, at every level.

Frames are predictions of one variant with labels, columns as in ``PREDICTION_COLUMNS``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

from hclmp.data.tables import COVERAGE, Z90, Floats

RIGHT_COVERAGE = 0.03  # largest difference from 0.9 on average that counts as right
RIGHT_IN_PARTS = 0.05  # the same of a part
CHANCE = 0.05  # probability that any of the parts of one kind is called wrong by chance, at most
EXTREME = 0.05  # share of the labels at either end
Kind = Literal["property", "system", "values"]


@dataclass(frozen=True)
class Part:
    """A part of the labels: how many of them lie in their 90 % interval."""

    kind: Kind
    name: str
    coverage: float
    n: int  # of compositions: the properties of one are not independent

    @property
    def difference(self) -> float:
        """Below zero, the intervals are too narrow; above, too wide."""
        return self.coverage - COVERAGE


def inside(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a label lies in its 90 % interval."""
    held: pd.Series[bool] = frame["t_true"].between(frame["t_low"], frame["t_high"])
    return held


def coverage_at(frame: pd.DataFrame, levels: Sequence[float]) -> Floats:
    """The share of the labels in the interval of each level: [levels], mean over the properties.

    An interval of another level than 0.9 is the 90 % interval with both sides scaled like those of
    a Gaussian.
    """
    error = frame["t_true"] - frame["t_pred"]
    side = np.where(error < 0, frame["t_pred"] - frame["t_low"], frame["t_high"] - frame["t_pred"])
    scale = norm.ppf((1 + np.asarray(levels)) / 2) / Z90
    # a small slack: an interval holds its own ends
    held = error.abs().to_numpy()[:, None] <= side[:, None] * scale * (1 + 1e-12)
    means: Floats = (
        pd.DataFrame(held).groupby(frame["property"].to_numpy()).mean().mean().to_numpy()
    )
    return means


def extremes(frame: pd.DataFrame) -> list[Part]:
    """The lowest and the highest labels of every property, `EXTREME` of them at either end."""
    labels = frame.groupby("property")["t_true"]
    ends = {
        name: labels.rank(pct=True, method="first", ascending=name == "lowest") <= EXTREME
        for name in ("lowest", "highest")
    }
    return [_part("values", name, frame[rows]) for name, rows in ends.items() if rows.any()]


def parts(frame: pd.DataFrame) -> list[Part]:
    """The properties, the systems and the extremes."""
    by_property = [_part("property", str(p), f) for p, f in frame.groupby("property", sort=False)]
    by_system = [_part("system", str(s), f) for s, f in frame.groupby("system")]
    return [*by_property, *by_system, *extremes(frame)]


def is_chance(part: Part, *, parts_like_it: int = 1) -> bool:
    """Whether a binomial test of so many compositions does not tell the coverage from 0.9.

    The level of the test is `CHANCE` over the number of parts that are tested (Bonferroni).
    """
    held = round(part.coverage * part.n)
    return bool(binomtest(held, part.n, COVERAGE).pvalue >= CHANCE / parts_like_it)


def wrong(found: Sequence[Part]) -> list[Part]:
    """The parts whose intervals are too narrow or too wide, and not by chance; narrow ones first.

    Of many small systems none is named: their coverage is uncertain.
    """
    kinds = [part.kind for part in found]
    chosen = [
        part
        for part in found
        if abs(part.difference) > RIGHT_IN_PARTS
        and not is_chance(part, parts_like_it=kinds.count(part.kind))
    ]
    return sorted(chosen, key=lambda part: part.coverage)


def _part(kind: Kind, name: str, frame: pd.DataFrame) -> Part:
    """The mean over the properties, as everywhere."""
    coverage = inside(frame).groupby(frame["property"]).mean().mean()
    return Part(kind, name, float(coverage), int(frame["sample_id"].nunique()))
