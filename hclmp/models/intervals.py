"""The widths of intervals: so wide that they hold 90 % of the labels that a model had not seen.

A Gaussian of the right size is not enough: errors have heavy tails, and a model errs more in some
systems than in others. So the intervals are measured (split conformal prediction; Lei et al.,
J. Am. Stat. Assoc. 113, 1094, 2018), by property and by kind of composition: of one element, of
two, ..., or with an element that no training sample has.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hclmp.data.tables import COVERAGE, Z90, Floats
from hclmp.models.limits import Limits
from hclmp.models.weights import effective_rows

NEW_ELEMENT, MOST_ELEMENTS = 0, 5  # kinds: 1 to 5 (or more) known elements, or any with a new one
KINDS = MOST_ELEMENTS + 1
FEWEST = 20  # compositions: of fewer a kind has no width of its own
# Weight of a Gaussian's width, in compositions: few of them say little about a tail.
PRIOR_ROWS = 20


@dataclass(frozen=True)
class Intervals:
    """Factors on half the width of a Gaussian's 90 % interval.

    Attributes:
        by_property: [L].
        by_kind: [KINDS].
        limits: of the properties.
    """

    by_property: Floats
    by_kind: Floats
    limits: Limits

    @classmethod
    def fit(
        cls,
        predicted: Floats,
        residuals: Floats,
        std: Floats,
        kinds: NDArray[np.int64],
        *,
        weights: Floats,
        limits: Floats | None,
    ) -> "Intervals":
        """Measure the factors.

        Args:
            predicted, residuals, std, weights: [n, L], of samples that the model had not seen;
                residuals (label minus prediction) are NaN where a label is missing.
            kinds: [n], as ``kinds_of`` has them.
            limits: [2, L], or None.
        """
        weights = np.where(np.isnan(residuals), 0.0, weights)
        warped = Limits.of(limits, residuals, weights)
        ends = warped.warp(warped.clip(predicted)), warped.warp(predicted + residuals)
        sizes = np.nan_to_num(np.abs(ends[1] - ends[0]) / std)
        by_property = np.array([_factor(s, w) for s, w in zip(sizes.T, weights.T, strict=True)])
        rows = [kinds == kind for kind in range(KINDS)]
        sizes = sizes / by_property
        known = {
            kind: _factor(sizes[of_kind].ravel(), weights[of_kind].ravel(), count=of_kind.sum())
            for kind, of_kind in enumerate(rows)
            if of_kind.sum() >= FEWEST
        }
        widest = max([1.0, *known.values()])
        by_kind = np.array([known.get(kind, widest) for kind in range(KINDS)])
        return cls(by_property, by_kind, warped)

    def ends(
        self, predicted: Floats, std: Floats, kinds: NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        """Lower and upper ends of n predictions, within the limits: [n, L] each."""
        centre = self.limits.warp(predicted)
        half = Z90 * std * self.by_property * self.by_kind[kinds, None]
        return self.limits.unwarp(centre - half), self.limits.unwarp(centre + half)


def kinds_of(sizes: NDArray[np.int64], novelty: Floats) -> NDArray[np.int64]:
    """The kind of n compositions, by number of elements [n] and ``Seen.novelty`` [n, 2]."""
    return np.where(novelty[:, 0] > 0, NEW_ELEMENT, np.minimum(sizes, MOST_ELEMENTS))


def _factor(sizes: Floats, weights: Floats, count: int | None = None) -> float:
    """What makes a Gaussian's interval hold 90 % of deviations [n], in standard deviations.

    ``count`` is the number of compositions, where a composition has several deviations.
    """
    if not weights.any():
        return 1.0
    rows = float(effective_rows(weights[:, None])[0]) if count is None else count
    quantile = conformal_quantile(sizes, weights, rows)
    return float((rows * quantile / Z90 + PRIOR_ROWS) / (rows + PRIOR_ROWS))


def conformal_quantile(scores: Floats, weights: Floats, rows: float) -> float:
    """What 90 % of further scores do not exceed, given scores and weights [n] of so many rows."""
    order = np.argsort(scores, kind="stable")
    # of n + 1 equal samples, one of which is that to be predicted
    share = np.cumsum(weights[order]) / (weights.sum() * (1 + 1 / rows))
    return float(scores[order][min(int(np.searchsorted(share, COVERAGE)), len(order) - 1)])
