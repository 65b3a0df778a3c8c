"""One value for all compositions: the median of the labels, which has the least absolute error."""

from typing import Any

import numpy as np

from hclmp.data.inputs import Inputs
from hclmp.models.baselines.interface import Estimate, Kind, Options, Standardised
from hclmp.models.weights import QUANTILES, weighted_quantiles


class Mean:
    """Quantiles of the labels of the training rows, weighted as these are."""

    def __init__(self, rows: Standardised, _options: Options) -> None:
        self._quantiles = weighted_quantiles(rows.y, rows.weights, QUANTILES)  # [3, L]

    def predict(self, inputs: Inputs) -> Estimate:
        low, median, high = (np.tile(q, (len(inputs), 1)) for q in self._quantiles)
        return Estimate(median, (low, high))

    def settings(self) -> dict[str, Any]:
        return {}


KIND = Kind(Mean, per_property=True, constant=True)
