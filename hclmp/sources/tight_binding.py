"""Tight-binding model of mixed oxides: density of states and optical absorption.

The demo needs data whose two halves share physics, as computed densities of states and measured
absorption do. This module *simulates* both from one Hamiltonian. It is a model, not a prediction
of any real oxide.

**Structure.** A ReO3-like cubic lattice: cations on the corners, one oxygen in the middle of every
edge; a periodic cell of 3 x 3 x 3 cations and 81 oxygens, cations placed at random.

**Orbitals.** Each cation has one s and one d (z^2-like) level, each oxygen the one p orbital that
points along its bond: 27 * 2 + 81 = 135 orbitals, each of which holds two electrons.

**Hamiltonian** (real symmetric, eV). Diagonal: the levels of `ELEMENTS` and `OXYGEN_P`. Off
the diagonal, only cation-oxygen neighbours at bond length d (Harrison's rules, hbar^2/m =
7.62 eV A^2):

    V_sp = 1.84 (hbar^2/m) / d^2          V_pd = -2.95 (hbar^2/m) r_d^(3/2) / d^(7/2)

The p orbital is odd, so the two bonds of an oxygen have opposite signs; a z^2 orbital couples with
V_pd along z and -V_pd / 2 along x and y (Slater and Koster). Crossing the cell boundary multiplies
a hopping by +1 or -1 per axis: k = 0 or the zone edge, so that the Hamiltonian stays real. Eight
cells take the eight sign triples in turn.

**Bond lengths.** The natural bond is ionic radius + oxygen radius; in the mixed oxide the lattice
constant follows Vegard's rule and a bond keeps the share `BOND_MEMORY` of its own deviation.

**Electrons.** Oxygen p orbitals are full in the ionic limit; of the n_d electrons of a cation in
its usual oxidation state, the one d orbital of the model takes its share n_d / 5. What the charges
then do is left to the common Fermi level.

**Density of states** (states/eV/cation, energies relative to the Fermi level):

    D(E) = (2 / 27) sum_i g(E - e_i + E_F),   g a Gaussian of width `BROADENING`.

**Absorption coefficient.** With the commutator [H, x] as momentum operator (elements
H_ij (x_j - x_i)), mean over three polarisations, V the cell's volume, e^2 = 14.40 eV A:

    eps2(w) = (8 pi^2 e^2 / V w^2) sum_{i<j} |<i|[H, x]|j>|^2 (f_i - f_j) g(e_j - e_i - w)
    alpha(w) = w eps2(w) / (hbar c n),  w the photon energy in eV, n = `REFRACTIVE_INDEX`.

Everything is averaged over several random cells of one composition, which share a Fermi level.

Sources:

- hoppings, d levels, r_d, oxygen p level: W. A. Harrison, *Electronic Structure and the Properties
  of Solids* (Freeman, 1980; Dover, 1989), solid-state table;
- s levels: minus the first ionisation energy (NIST Atomic Spectra Database);
- radii: R. D. Shannon, Acta Crystallogr. A 32, 751 (1976), sixfold coordination;
- angular factors: J. C. Slater, G. F. Koster, Phys. Rev. 94, 1498 (1954);
- bonds in mixed crystals: J. C. Mikkelsen, J. B. Boyce, Phys. Rev. Lett. 49, 1412 (1982);
- momentum in tight binding: T. G. Pedersen et al., Phys. Rev. B 63, 201101 (2001).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hclmp.data.tables import Floats


@dataclass(frozen=True)
class Element:
    """What the model knows of a cation: its usual oxidation state and four tabulated numbers."""

    oxidation: int
    d_electrons: int
    s_level: float  # eV, minus the first ionisation energy
    d_level: float  # eV, Harrison's term value
    d_radius: float  # A, Harrison's r_d
    ionic_radius: float  # A, Shannon, sixfold, high spin where he gives two


ELEMENTS: dict[str, Element] = {
    "Co": Element(3, 6, -7.88, -17.77, 0.76, 0.610),
    "Cr": Element(3, 3, -6.77, -13.94, 0.90, 0.615),
    "Cu": Element(2, 9, -7.73, -20.14, 0.67, 0.730),
    "Fe": Element(3, 5, -7.90, -16.54, 0.80, 0.645),
    "Mn": Element(3, 4, -7.43, -15.27, 0.86, 0.645),
    "Mo": Element(6, 0, -7.09, -11.56, 1.20, 0.590),
    "Nb": Element(5, 0, -6.76, -10.03, 1.28, 0.640),
    "Ni": Element(2, 8, -7.64, -18.96, 0.71, 0.690),
    "Ti": Element(4, 0, -6.83, -11.04, 1.08, 0.605),
    "V": Element(4, 1, -6.75, -12.55, 0.98, 0.580),
    "W": Element(6, 0, -7.86, -10.96, 1.27, 0.600),
    "Zr": Element(4, 0, -6.63, -8.46, 1.41, 0.720),
}
OXYGEN_P = -14.13  # eV
OXYGEN_RADIUS = 1.40  # A

BOND_MEMORY = 0.8
BROADENING = 0.5  # eV, standard deviation of g
SMEARING = 0.15  # eV, width of the Fermi function: a cell has few levels near the Fermi level
REFRACTIVE_INDEX = 2.5  # a constant, typical of these oxides in the visible

HBAR2_OVER_M = 7.62  # eV A^2
E_SQUARED = 14.40  # eV A
HBAR_C = 1973.27  # eV A
ETA_SP, ETA_PD = 1.84, -2.95
ANGULAR = np.array([[1.0, 1.0, 1.0], [-0.5, -0.5, 1.0]])  # [s or d, bond along x, y, z]

SIDE = 3
CATIONS = SIDE**3
LEVELS = 2 * CATIONS  # s levels, then d levels
ORBITALS = LEVELS + 3 * CATIONS


@dataclass(frozen=True)
class Cells:
    """Random cells of one composition, ready to diagonalise (c cells, 27 cations)."""

    levels: Floats  # [c, 54] eV
    hopping: Floats  # [c, 54, 3, 27] eV, to the oxygen on the bond +axis of a site
    velocity: Floats  # [c, 54, 3, 27] eV A, elements of [H, x] along the bond's own axis
    electrons: float  # per cell
    volume: float  # A^3 per cell


@dataclass(frozen=True)
class Spectrum:
    """Eigenstates of all cells of one composition, and their common Fermi level."""

    energies: Floats  # [c, 135] eV
    states: Floats | None  # [c, orbital, state]
    fermi: float  # eV


def build_cells(counts: Mapping[str, int], n_cells: int, rng: np.random.Generator) -> Cells:
    """Place the cations (`counts` of each, 27 in all) at random in `n_cells` cells."""
    symbols = sorted(counts)
    number = np.array([counts[s] for s in symbols])
    if number.sum() != CATIONS:
        raise ValueError(f"a cell holds {CATIONS} cations, not {number.sum()}: {dict(counts)}")
    table = [ELEMENTS[s] for s in symbols]
    natural = np.array([e.ionic_radius for e in table]) + OXYGEN_RADIUS
    mean_bond = float(number @ natural) / CATIONS
    bond = mean_bond + BOND_MEMORY * (natural - mean_bond)
    d_radius = np.array([e.d_radius for e in table])
    v_sp = ETA_SP * HBAR2_OVER_M / bond**2
    v_pd = ETA_PD * HBAR2_OVER_M * d_radius**1.5 / bond**3.5

    ordered = np.repeat(np.arange(len(symbols)), number)
    kind = rng.permuted(np.tile(ordered, (n_cells, 1)), axis=1)  # [c, 27]
    # The eight sign triples in turn: an even sampling of k wastes no cell on a repeated point.
    odd = (np.arange(n_cells)[:, None] >> np.arange(3)) & 1
    boundary = np.where(odd, -1.0, 1.0)  # [c, axis]
    level = np.array([[e.s_level, e.d_level] for e in table])[kind]  # [c, 27, 2]
    hopping, velocity = _bonds(np.stack([v_sp, v_pd])[:, kind], bond[kind], boundary)
    d_electrons = np.array([e.d_electrons for e in table])
    return Cells(
        levels=level.transpose(0, 2, 1).reshape(n_cells, LEVELS),
        hopping=hopping,
        velocity=velocity,
        electrons=2.0 * 3 * CATIONS + float(number @ d_electrons) / 5.0,
        volume=CATIONS * (2.0 * mean_bond) ** 3,
    )


def _bonds(strength: Floats, bond: Floats, boundary: Floats) -> tuple[Floats, Floats]:
    """Hoppings and [H, x] of the two bonds of every oxygen.

    `strength` [s or d, c, 27] eV, `bond` [c, 27] A, `boundary` [c, axis]; both results [c, 54,
    axis, 27]. The second bond of an oxygen reverses the sign of the hopping and of the distance.
    """
    n_cells = bond.shape[0]
    hopping = np.zeros((n_cells, 2, CATIONS, 3, CATIONS))
    velocity = np.zeros_like(hopping)
    sites = np.arange(CATIONS)
    index = np.array(np.unravel_index(sites, (SIDE, SIDE, SIDE)))  # [axis, 27]
    for axis in range(3):
        moved = index.copy()
        moved[axis] = (moved[axis] + 1) % SIDE
        following = np.ravel_multi_index(tuple(moved), (SIDE, SIDE, SIDE))
        wraps = index[axis] == SIDE - 1
        sign = np.where(wraps[None, :], boundary[:, axis, None], 1.0)  # [c, 27]
        for orbital in range(2):
            near = ANGULAR[orbital, axis] * strength[orbital]
            far = -sign * near[:, following]
            hopping[:, orbital, sites, axis, sites] = near
            hopping[:, orbital, following, axis, sites] = far
            velocity[:, orbital, sites, axis, sites] = near * bond
            velocity[:, orbital, following, axis, sites] = -far * bond[:, following]
    shape = (n_cells, LEVELS, 3, CATIONS)
    return hopping.reshape(shape), velocity.reshape(shape)


def hamiltonian(cells: Cells) -> Floats:
    """Real symmetric Hamiltonians [c, 135, 135] in eV."""
    n_cells = cells.levels.shape[0]
    matrix = np.zeros((n_cells, ORBITALS, ORBITALS))
    diagonal = np.arange(ORBITALS)
    matrix[:, diagonal[:LEVELS], diagonal[:LEVELS]] = cells.levels
    matrix[:, diagonal[LEVELS:], diagonal[LEVELS:]] = OXYGEN_P
    block = cells.hopping.reshape(n_cells, LEVELS, 3 * CATIONS)
    matrix[:, :LEVELS, LEVELS:] = block
    matrix[:, LEVELS:, :LEVELS] = block.transpose(0, 2, 1)
    return matrix


def diagonalise(cells: Cells, *, with_states: bool) -> Spectrum:
    """Eigenvalues (and eigenvectors, which only the absorption needs) of all cells."""
    matrix = hamiltonian(cells)
    states: Floats | None = None
    if with_states:
        energies, states = np.linalg.eigh(matrix)
    else:
        energies = np.linalg.eigvalsh(matrix)
    return Spectrum(energies, states, fermi_level(energies, cells.electrons))


def occupation(energies: Floats, fermi: float) -> Floats:
    """Fermi function of width `SMEARING`, between 0 and 1 (per spin)."""
    return np.asarray(0.5 * (1.0 - np.tanh((energies - fermi) / (2.0 * SMEARING))))


def fermi_level(energies: Floats, electrons: float) -> float:
    """Fermi level (eV) at which the cells hold `electrons` each on average; by bisection."""
    low, high = float(energies.min()) - 5.0, float(energies.max()) + 5.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        held = 2.0 * float(occupation(energies, middle).sum()) / energies.shape[0]
        low, high = (middle, high) if held < electrons else (low, middle)
    return 0.5 * (low + high)


def _gaussian(distance: Floats) -> Floats:
    """Normal density of standard deviation `BROADENING`, in 1/eV."""
    height = 1.0 / (BROADENING * np.sqrt(2.0 * np.pi))
    return np.asarray(height * np.exp(-0.5 * (distance / BROADENING) ** 2))


def density_of_states(spectrum: Spectrum, grid: Floats) -> Floats:
    """States/eV/cation at the energies `grid` (eV, relative to the Fermi level)."""
    relative = spectrum.energies.ravel() - spectrum.fermi
    reach = 6.0 * BROADENING
    near = relative[(relative > grid.min() - reach) & (relative < grid.max() + reach)]
    total = _gaussian(grid[:, None] - near[None, :]).sum(axis=1)
    return np.asarray(2.0 * total / (spectrum.energies.shape[0] * CATIONS))


def absorption(cells: Cells, spectrum: Spectrum, photon_energies: Floats) -> Floats:
    """Absorption coefficient in 1e5/cm at the photon energies (eV)."""
    reach = float(photon_energies.max()) + 5.0 * BROADENING
    step = 0.005  # eV; transitions are binned finely before the broadening
    strength = np.zeros(int(np.ceil(reach / step)))
    for cell in range(cells.levels.shape[0]):
        gap, weight = _transitions(cells, spectrum, cell, reach)
        bins = np.minimum((gap / step).astype(np.int64), len(strength) - 1)
        strength += np.bincount(bins, weights=weight, minlength=len(strength))
    strength /= cells.levels.shape[0]
    centres = (np.arange(len(strength)) + 0.5) * step
    joint = _gaussian(photon_energies[:, None] - centres[None, :]) @ strength
    eps2 = 8.0 * np.pi**2 * E_SQUARED / cells.volume * joint / photon_energies**2
    per_angstrom = photon_energies * eps2 / (HBAR_C * REFRACTIVE_INDEX)
    return np.asarray(per_angstrom * 1e3)  # 1/A = 1e8/cm


def _transitions(
    cells: Cells, spectrum: Spectrum, cell: int, reach: float
) -> tuple[Floats, Floats]:
    """Energies (eV) and weights (eV^2 A^2) of one cell's transitions below `reach`."""
    if spectrum.states is None:
        raise ValueError("absorption needs eigenvectors: diagonalise(..., with_states=True)")
    energies = spectrum.energies[cell]
    # Transitions start from or end at a state that is partly filled or empty: others drop out.
    window = np.abs(energies - spectrum.fermi) < reach + 5.0 * SMEARING
    energies = energies[window]
    states = spectrum.states[cell][:, window]
    cation, oxygen = states[:LEVELS], states[LEVELS:].reshape(3, CATIONS, -1)
    velocity = cells.velocity[cell].transpose(1, 0, 2)  # [axis, 54, 27]
    half = cation.T @ velocity @ oxygen  # [axis, state, state]
    squared = ((half - half.transpose(0, 2, 1)) ** 2).mean(axis=0)
    filled = occupation(energies, spectrum.fermi)
    lower, upper = np.triu_indices(len(energies), k=1)
    gap = energies[upper] - energies[lower]
    weight = (filled[lower] - filled[upper]) * squared[lower, upper]
    keep = gap < reach
    return gap[keep], weight[keep]
