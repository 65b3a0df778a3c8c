"""Resampling keeps the number of electrons, whatever the energies it starts from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hclmp.data.tables import EnergyGrid, Floats
from hclmp.sources.materials_project.resample import Resampler, bin_edges, bin_means

GRID = EnergyGrid(start=-8.0, stop=8.0, n=161, unit="eV")


def integral(energies: Floats, densities: Floats, low: float, high: float) -> float:
    """Of the piecewise-linear function, by adding the limits to the points: another way."""
    points = np.unique(np.concatenate((energies, [low, high])))
    points = points[(points >= low) & (points <= high)]
    values = np.interp(points, energies, densities, left=0.0, right=0.0)
    return float(np.trapezoid(values, points))


def spiky(seed: int, n: int, low: float = -12.0, high: float = 11.0) -> tuple[Floats, Floats]:
    """Uneven energies and narrow peaks, many of them narrower than a bin of the grid."""
    rng = np.random.default_rng(seed)
    energies = np.sort(rng.uniform(low, high, n))
    return energies, rng.gamma(0.3, 5.0, n) * (rng.random(n) < 0.7)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 2001),
    low=st.floats(-30, -1),
    high=st.floats(1, 30),
    bins=st.integers(2, 400),
)
def test_the_electron_count_of_the_window_is_kept(
    seed: int, n: int, low: float, high: float, bins: int
) -> None:
    energies, densities = spiky(seed, n, low, high)
    grid = EnergyGrid(-8.0, 8.0, bins, "eV")
    step = grid.step
    got = Resampler(grid, 0.0)(energies, densities).sum() * step
    # outside the material's own energies there are no states
    window = max(-8 - step / 2, energies[0]), min(8 + step / 2, energies[-1])
    want = integral(energies, densities, *window)
    assert got == pytest.approx(want, rel=1e-6, abs=1e-9 * densities.max(initial=1.0))


def test_every_bin_holds_the_exact_mean() -> None:
    energies, densities = spiky(3, 700)
    edges = bin_edges(GRID)
    want = [integral(energies, densities, a, b) / (b - a) for a, b in pairwise(edges)]
    np.testing.assert_allclose(bin_means(energies, densities, edges), want, rtol=1e-9, atol=1e-12)


def test_a_straight_line_is_kept_and_the_bins_are_centred() -> None:
    energies = np.array([-20.0, 20.0])
    got = Resampler(GRID, 0.0)(energies, 50 + 2 * energies)
    np.testing.assert_allclose(got, 50 + 2 * GRID.energies(), rtol=1e-12)
    assert bin_edges(GRID)[[0, -1]] == pytest.approx([-8.05, 8.05])


def test_outside_its_own_energies_a_material_has_no_states() -> None:
    energies = np.linspace(-3.0, 2.0, 51)
    resampler = Resampler(GRID, 0.0)
    got = resampler(energies, np.ones(51))
    assert got.sum() * GRID.step == pytest.approx(5.0, rel=1e-12)
    assert not got[GRID.energies() < -3.06].any()
    assert not got[GRID.energies() > 2.06].any()
    assert not resampler.covers(energies)
    assert resampler.covers(np.array([-8.05 - 1e-9, 8.05 + 1e-9]))
    assert not resampler.covers(np.array([-8.0, 9.0]))


def test_broadening_spreads_a_level_and_lets_outer_states_in() -> None:
    sigma, step = 0.3, GRID.step
    peak = np.array([-20.0, -0.001, 0.0, 0.001, 20.0]), np.array([0.0, 0, 1000.0, 0, 0])
    got = Resampler(GRID, sigma)(*peak)
    assert got.sum() * step == pytest.approx(1.0, rel=1e-6)
    gauss = np.exp(-((GRID.energies() / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(got, gauss, atol=0.02)
    flat = Resampler(GRID, sigma)(np.array([-20.0, 20.0]), np.array([3.0, 3.0]))
    np.testing.assert_allclose(flat, 3.0, rtol=1e-9)  # no dip at the ends of the window
