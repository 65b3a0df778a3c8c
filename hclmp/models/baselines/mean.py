"""The mean of the labels, for all compositions."""

from typing import Any

import numpy as np

from hclmp.data.inputs import Inputs
from hclmp.data.tables import Floats
from hclmp.models.baselines.interface import Kind, Options


class Mean:
    """The mean of the rows: 0 in standardised labels, unless they are weighted."""

    def __init__(
        self, _inputs: Inputs, y: Floats, weights: Floats | None, _options: Options
    ) -> None:
        self._mean = np.zeros(y.shape[1])
        if weights is not None:
            self._mean = (weights * np.nan_to_num(y)).sum(axis=0) / weights.sum(axis=0)

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        mean = np.tile(self._mean, (len(inputs), 1))
        return mean, np.zeros_like(mean)

    def settings(self) -> dict[str, Any]:
        return {}


KIND = Kind(Mean, constant=True)
