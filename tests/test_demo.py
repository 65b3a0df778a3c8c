"""The demo data: physics that holds, values that depend on nothing but the formula."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition, Element
from threadpoolctl import threadpool_limits

from hclmp.config import TargetsConfig
from hclmp.sources import demo
from hclmp.sources import tight_binding as physics
from hclmp.sources.checks import check_values

SYSTEMS_FILE = Path(__file__).parents[1] / "config" / "systems.tsv"
FE_TI_W = {"Fe": 9, "Ti": 9, "W": 9}


def cells_of(counts: dict[str, int], seed: int = 0, n_cells: int = 2) -> physics.Cells:
    return physics.build_cells(counts, n_cells, np.random.default_rng(seed))


def cations(formula: str) -> list[str]:
    return sorted(e.symbol for e in Composition(formula).elements if e.symbol != "O")


def test_element_table_equals_its_sources() -> None:
    """Ionisation energies and Shannon radii are those that pymatgen tabulates."""
    for symbol, entry in physics.ELEMENTS.items():
        element = Element(symbol)
        assert -entry.s_level == pytest.approx(element.ionization_energies[0], abs=0.01)
        spins = element.data["Shannon radii"][str(entry.oxidation)]["VI"]
        radius = spins.get("High Spin", spins.get(""))["ionic_radius"]
        assert entry.ionic_radius == pytest.approx(radius)
        assert entry.d_electrons == element.group - entry.oxidation


def test_hamiltonian_is_symmetric_with_the_right_neighbours() -> None:
    matrix = physics.hamiltonian(cells_of(FE_TI_W))
    assert matrix.shape == (2, 135, 135)
    np.testing.assert_array_equal(matrix, matrix.transpose(0, 2, 1))
    coupled = (matrix != 0).sum(axis=2) - 1
    assert (coupled[:, : physics.LEVELS] == 6).all()  # six oxygens around a cation
    assert (coupled[:, physics.LEVELS :] == 4).all()  # two cations, two levels each


def test_bands_of_one_cation_equal_the_analytic_ones_at_gamma() -> None:
    """At k = 0 the two bonds of an oxygen cancel: the bare levels are eigenvalues."""
    cells = cells_of({"Ti": 27}, n_cells=1)  # the first sign triple is (+, +, +)
    energies = physics.diagonalise(cells, with_states=False).energies[0]
    titanium = physics.ELEMENTS["Ti"]
    for level in (titanium.s_level, titanium.d_level, physics.OXYGEN_P):
        assert np.abs(energies - level).min() < 1e-9


def test_dos_counts_all_states_and_the_fermi_level_all_electrons() -> None:
    cells = cells_of(FE_TI_W)
    spectrum = physics.diagonalise(cells, with_states=False)
    grid = np.linspace(-30.0, 40.0, 3501)
    dos = physics.density_of_states(spectrum, grid)
    assert np.trapezoid(dos, grid) == pytest.approx(
        2 * physics.ORBITALS / physics.CATIONS, rel=1e-6
    )
    held = 2 * physics.occupation(spectrum.energies, spectrum.fermi).sum() / 2
    assert held == pytest.approx(cells.electrons, abs=1e-6)
    assert cells.electrons == pytest.approx(6 * 27 + 9 * 5 / 5)  # Fe3+ is d5, the others d0


def test_absorption_equals_a_direct_sum_over_all_pairs() -> None:
    """The windowed, binned and factored sum against the formula of the module's docstring."""
    cells = cells_of(FE_TI_W, n_cells=1)
    spectrum = physics.diagonalise(cells, with_states=True)
    assert spectrum.states is not None
    photon = np.array(demo.PHOTON_ENERGIES)
    energies, states = spectrum.energies[0], spectrum.states[0]
    squared = np.zeros((physics.ORBITALS, physics.ORBITALS))
    for axis in range(3):
        operator = np.zeros_like(squared)
        oxygens = physics.LEVELS + axis * physics.CATIONS + np.arange(physics.CATIONS)
        operator[: physics.LEVELS, oxygens] = cells.velocity[0][:, axis]
        squared += (states.T @ (operator - operator.T) @ states) ** 2 / 3
    filled = physics.occupation(energies, spectrum.fermi)
    joint = np.zeros(len(photon))
    for i, j in itertools.combinations(range(physics.ORBITALS), 2):
        distance = (energies[j] - energies[i] - photon) / physics.BROADENING
        weight = squared[i, j] * (filled[i] - filled[j])
        joint += weight * np.exp(-0.5 * distance**2) / (physics.BROADENING * np.sqrt(2 * np.pi))
    eps2 = 8 * np.pi**2 * physics.E_SQUARED / cells.volume * joint / photon**2
    expected = 1e3 * photon * eps2 / (physics.HBAR_C * physics.REFRACTIVE_INDEX)
    np.testing.assert_allclose(physics.absorption(cells, spectrum, photon), expected, rtol=0.01)


def test_compositions_are_disjoint_and_no_held_out_system_has_a_dos() -> None:
    targets, dos = demo.target_formulas(), demo.dos_formulas()
    assert len(set(targets)) == len(targets)
    assert len(set(dos)) == len(dos)
    assert not set(targets) & set(dos)
    held_out = {system for systems in demo.HELD_OUT.values() for system in systems}
    assert not held_out & {"-".join(cations(formula)) for formula in dos}
    ternary = {"-".join(c) for c in map(cations, targets) if len(c) == 3}
    assert ternary == held_out
    assert 1400 <= len(targets) <= 1600
    assert 900 <= len(dos) <= 1100


def test_systems_file_is_the_held_out_constant() -> None:
    rows = [line.split("\t") for line in SYSTEMS_FILE.read_text().splitlines()]
    expected = [[s, fold] for fold, systems in demo.HELD_OUT.items() for s in systems]
    assert rows == [["system", "fold"], *expected]


@pytest.mark.parametrize("n", [24, 48])
def test_small_subset_is_stratified(n: int) -> None:
    formulas = demo.target_formulas(n)
    assert len(formulas) == n
    assert set(formulas) <= set(demo.target_formulas())
    present = {"-".join(cations(formula)) for formula in formulas}
    for systems in demo.HELD_OUT.values():
        assert len(present & set(systems)) >= 4
    sizes = [len(cations(formula)) for formula in formulas]
    assert sizes.count(1) >= 4
    assert sizes.count(2) >= 4
    assert {len(cations(formula)) for formula in demo.dos_formulas(n)} == {2, 3}


def test_values_depend_on_the_formula_alone() -> None:
    formulas = demo.target_formulas(8)
    few, more = demo.simulate_targets(formulas[:3]), demo.simulate_targets(formulas[::-1])
    np.testing.assert_array_equal(few, more[::-1][:3])
    with threadpool_limits(limits=2):
        again = demo.simulate_targets(formulas[:3])
    np.testing.assert_array_equal(few, again)


def test_values_are_finite_and_not_negative() -> None:
    targets = demo.simulate_targets(demo.target_formulas(10))
    dos = demo.simulate_dos(demo.dos_formulas(10))
    assert targets.shape == (10, len(demo.PHOTON_ENERGIES))
    assert dos.shape == (10, demo.ENERGY_GRID[2])
    for values in (targets, dos):
        assert np.isfinite(values).all()
        assert (values >= 0).all()


def test_absorption_has_a_minimum_that_its_values_keep() -> None:
    raw = demo.read_targets(TargetsConfig(limit=10))
    assert {p.range() for p in raw.properties} == {(0.0, np.inf)}
    check_values(raw)
    assert (demo._measured(np.zeros(1000), "noise alone") == 0).any()


def test_all_there_is_where_more_is_asked_for() -> None:
    available = demo.target_formulas()
    assert demo.target_formulas(len(available) + 1) == available
    assert len(demo.target_formulas(60)) == 60


def test_noise_is_the_stated_one() -> None:
    clean = np.full(10, 2.0)
    noisy = np.stack([demo._measured(clean, f"Fe{k}") for k in range(400)])
    expected = np.hypot(2.0 * demo.NOISE_RELATIVE, demo.NOISE_ABSOLUTE)
    assert noisy.std() == pytest.approx(expected, rel=0.05)
    assert noisy.mean() == pytest.approx(2.0, abs=0.01)


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="27 cations"):
        cells_of({"Fe": 9})
