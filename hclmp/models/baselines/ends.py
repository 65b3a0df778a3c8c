"""The 90 % intervals of baselines: their quantiles, corrected on the validation systems."""

from dataclasses import dataclass

import numpy as np

from hclmp.data.tables import Z90, Floats
from hclmp.models.baselines.interface import Estimate
from hclmp.models.intervals import PRIOR_ROWS, conformal_quantile
from hclmp.models.limits import Limits
from hclmp.models.weights import effective_rows


@dataclass(frozen=True)
class Ends:
    """How far the ends of the intervals lie outside the quantiles.

    This is conformalised quantile regression (Romano et al., NeurIPS 32, 2019): both quantiles are
    moved by the margin with which the intervals hold 90 % of the labels of the validation rows. To
    a regressor without quantiles the median stands for both, which is split conformal prediction.
    Near a limit of the property the margin is shorter, as ``Limits`` has it.

    Attributes:
        margin: [L], on the scale of the limits; negative if the quantiles lie too far out.
        limits: of the properties.
    """

    margin: Floats
    limits: Limits

    @classmethod
    def fit(
        cls, predicted: Estimate, labels: Floats, std: Floats, weights: Floats, limits: Floats
    ) -> "Ends":
        """Measure the margins on rows that the regressor had not seen.

        Args:
            predicted: of n rows.
            labels, weights: [n, L].
            std: [n, L], the standard deviations of the predictions.
            limits: [2, L], infinite where there is none.
        """
        scale = Limits.of(limits, labels - predicted.median, weights)
        low, high = (scale.warp(scale.clip(end)) for end in _quantiles(predicted))
        place = scale.warp(scale.clip(labels))
        outside = np.maximum(low - place, place - high)
        of_gaussian = Z90 * std - (high - low) / 2
        columns = zip(outside.T, of_gaussian.T, weights.T, strict=True)
        return cls(np.array([_margin(*column) for column in columns]), scale)

    def of(self, predicted: Estimate) -> tuple[Floats, Floats]:
        """Lower and upper ends of n predictions, within the limits: [n, L] each."""
        scale, quantiles = self.limits, _quantiles(predicted)
        median, low, high = (scale.warp(scale.clip(v)) for v in (predicted.median, *quantiles))
        # A margin below 0 never moves an end off a limit, where many labels may be at once.
        least = np.maximum(self.margin, 0.0)
        below = np.where(quantiles[0] <= scale.low, least, self.margin)
        above = np.where(quantiles[1] >= scale.high, least, self.margin)
        # Nor past the prediction.
        low, high = np.minimum(low - below, median), np.maximum(high + above, median)
        return scale.unwarp(low), scale.unwarp(high)


def _quantiles(predicted: Estimate) -> tuple[Floats, Floats]:
    return predicted.ends or (predicted.median, predicted.median)


def _margin(outside: Floats, of_gaussian: Floats, weights: Floats) -> float:
    """The margin that holds 90 % of labels which lie so far outside the quantiles: [n] each."""
    rows = float(effective_rows(weights[:, None])[0])
    quantile = conformal_quantile(outside, weights, rows)
    prior = float(np.average(of_gaussian, weights=weights))
    return float((rows * quantile + PRIOR_ROWS * prior) / (rows + PRIOR_ROWS))
