"""Standardisation with statistics of the training rows alone."""

from dataclasses import dataclass

import numpy as np

from hclmp.models.interface import Floats


@dataclass(frozen=True)
class Scaler:
    """Per column: mean and standard deviation of the training rows, [d] each."""

    mean: Floats
    std: Floats

    @classmethod
    def fit(cls, values: Floats) -> "Scaler":
        """Fit to training values [n, d]; a constant column keeps its unit."""
        std = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(std > 1e-12, std, 1.0))

    def scale(self, values: Floats) -> Floats:
        """Values to standardised ones."""
        return (values - self.mean) / self.std

    def unscale(self, scaled: Floats) -> Floats:
        """Standardised values back."""
        return scaled * self.std + self.mean
