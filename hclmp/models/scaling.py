"""Standardisation by the training rows."""

from dataclasses import dataclass

import numpy as np

from hclmp.data.tables import Floats

ROUNDING = 1e-12  # rounding error of statistics of the elements and of densities of states
FARTHEST = 6.0  # standard deviations from the mean at which statistics are cut off


@dataclass(frozen=True)
class Scaler:
    """Per column: mean and standard deviation of the training rows, [d] each."""

    mean: Floats
    std: Floats

    @classmethod
    def fit(cls, values: Floats, *, least: float = 0.0) -> "Scaler":
        """Fit to training values [n, d], NaN where missing; a constant column has std 1.

        Standard deviations up to ``least`` are rounding errors.
        """
        mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        # The std of n equal numbers is their rounding error, not always 0.
        constant = std <= np.maximum(least, 1e-12 * np.abs(mean))
        return cls(mean, np.where(constant, 1.0, std))

    def scale(self, values: Floats) -> Floats:
        """Values to standardised ones."""
        return (values - self.mean) / self.std

    def unscale(self, scaled: Floats) -> Floats:
        """Standardised values back."""
        return scaled * self.std + self.mean
