"""Densities of states onto a common energy grid, keeping the number of electrons.

A calculated DOS is a piecewise-linear function on energies of its own. Each value of the result is
its exact mean over the bin around a grid energy, so the sum over the bins times the step is the
integral over the window, which interpolation at the grid energies would not keep.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from hclmp.data.tables import EnergyGrid, Floats

# The Gaussian is cut at so many standard deviations (2 in 10,000 states lie beyond, and are put
# back by normalising the rest).
TRUNCATE = 4.0


def bin_edges(grid: EnergyGrid, *, padding: int = 0) -> Floats:
    """The edges of the bins around the grid energies: [D + 2 padding + 1], in ``grid.unit``.

    Bins reach half a step to either side; ``padding`` is the number of further bins at either end.
    """
    steps = np.arange(-padding, grid.n + padding + 1, dtype=np.float64) - 0.5
    return np.asarray(grid.start + grid.step * steps)


def bin_means(energies: Floats, densities: Floats, edges: Floats) -> Floats:
    """Exact means over bins of the piecewise-linear function through the given points.

    Args:
        energies: [m] ascending, relative to the reference.
        densities: [m], not negative; outside the energies there are no states.
        edges: [b + 1] ascending.

    Returns:
        [b] means, in the unit of ``densities``.
    """
    widths = np.diff(energies)
    # integral from the first energy up to each energy
    areas = np.concatenate(([0.0], np.cumsum(widths * (densities[1:] + densities[:-1]) / 2)))
    inside = np.clip(edges, energies[0], energies[-1])
    left = np.clip(np.searchsorted(energies, inside, side="right") - 1, 0, len(widths) - 1)
    beyond = inside - energies[left]
    slopes = (densities[left + 1] - densities[left]) / widths[left]
    integral = areas[left] + beyond * (densities[left] + slopes * beyond / 2)
    # rounding may leave -1e-16 where there are no states
    return np.asarray(np.maximum(np.diff(integral), 0.0) / np.diff(edges))


class Resampler:
    """Resamples one DOS after the other onto a grid, with or without Gaussian broadening.

    Args:
        grid: the D energies, relative to the reference.
        broadening: standard deviation of the Gaussian, in ``grid.unit``; 0: none.
    """

    def __init__(self, grid: EnergyGrid, broadening: float) -> None:
        self._sigma = broadening / grid.step
        # states just outside the window are broadened into it
        self._padding = int(TRUNCATE * self._sigma + 0.5)
        self._edges = bin_edges(grid, padding=self._padding)
        self._window = bin_edges(grid)[[0, -1]]

    def covers(self, energies: Floats) -> bool:
        """Whether a material's energies ([m], relative to the reference) span the window."""
        return bool(energies[0] <= self._window[0] and energies[-1] >= self._window[1])

    def __call__(self, energies: Floats, densities: Floats) -> Floats:
        """The DOS on the grid: [D], in the unit of ``densities``; arguments as `bin_means`."""
        means = bin_means(energies, densities, self._edges)
        if not self._padding:
            return means
        broad: Floats = gaussian_filter1d(means, self._sigma, mode="constant", truncate=TRUNCATE)
        return broad[self._padding : -self._padding]
