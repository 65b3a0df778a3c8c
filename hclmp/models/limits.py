"""Limits of a property: predictions and intervals that respect its least and largest value."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hclmp.data.tables import Floats
from hclmp.models.weights import weighted_mean

# Of the softness: so far beyond a limit the scale goes on, so that a label at the limit itself has
# a finite place. An interval that ends there is cut at the limit, and holds that label.
BEYOND = 0.05
SOFTEST = 0.125  # of the distance of two limits: the largest softness


@dataclass(frozen=True)
class Limits:
    """A scale on which an interval near a limit may be symmetrical.

    ``warp`` maps the transformed space of L properties to that scale: it stretches what is nearer
    to a limit than a typical error (by the inverse of the softplus function) and leaves all else
    as it is. An interval that is symmetrical there ends within the limits here, and is shorter on
    the side of the limit. Without limits nothing changes.

    Attributes:
        low, high: [L], the limits; infinite where there is none.
        softness: [L], a typical error of each property.
    """

    low: Floats
    high: Floats
    softness: Floats

    @classmethod
    def of(cls, limits: Floats | None, residuals: Floats, weights: Floats) -> "Limits":
        """Limits [2, L], with the size of residuals [n, L] as softness."""
        size = np.sqrt(weighted_mean(residuals**2, weights))
        low, high = np.full((2, len(size)), [[-np.inf], [np.inf]]) if limits is None else limits
        softness = np.minimum(size, SOFTEST * (high - low))
        return cls(low, high, np.where(softness > 0, softness, 1.0))

    def clip(self, t: Floats) -> Floats:
        """Values [n, L], cut at the limits."""
        return np.clip(t, self.low, self.high)

    def warp(self, t: Floats) -> Floats:
        """Values [n, L] within the limits to the scale."""
        limit, sign, free, z = self._from_limit(t)
        # log(exp(z) - 1), exact where z is small and where it is large
        stretched = (z + np.log(-np.expm1(-z)) - BEYOND) * self.softness
        return np.where(free, t, limit + sign * stretched)

    def unwarp(self, u: Floats) -> Floats:
        """Values [n, L] of the scale back, cut at the limits."""
        limit, sign, free, z = self._from_limit(u)
        back = (np.logaddexp(0.0, z) - BEYOND) * self.softness
        t = np.where(free, u, limit + sign * back)
        both = np.isfinite(self.high - self.low)
        middle = np.where(both, self.low, 0.0) + np.where(both, self.high - self.low, 0.0) / 2
        # The two halves overlap a little in the middle, where they are cut.
        cut = np.where(sign > 0, np.minimum(t, middle), np.maximum(t, middle))
        return self.clip(np.where(both, cut, t))

    def _from_limit(self, values: Floats) -> tuple[Floats, Floats, NDArray[np.bool_], Floats]:
        """Where values [n, L] are, seen from the nearer limit.

        The limit; 1 if it is the lower one, else -1; whether there is none (then the others are of
        no use); and how far the value is from ``BEYOND`` the limit, in softnesses.
        """
        low = values - self.low <= self.high - values
        limit, sign = np.where(low, self.low, self.high), np.where(low, 1.0, -1.0)
        free = ~np.isfinite(limit)
        limit = np.where(free, 0.0, limit)
        distance = np.where(free, 1.0, sign * (values - limit))
        return limit, sign, free, distance / self.softness + BEYOND
