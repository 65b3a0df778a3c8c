"""The embedded demo data: *simulated* oxides, from `hclmp.sources.tight_binding`.

Two tables that share physics but no composition, as in the published task:

- **targets**: optical absorption at ten photon energies of 24 three-cation systems (the held-out
  ones), of twelve two-cation systems and of the single cations, with measurement noise;
- **dos**: densities of states of *other* compositions: two cations at other fractions, and
  three-cation systems of which none is held out.

Every composition draws its random cells and its noise from a seed of its own (a hash of its
formula), so a value depends neither on which other compositions are simulated nor on their order.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from hclmp.config import DosConfig, EnergiesConfig, TargetsConfig
from hclmp.data.tables import EnergyGrid, Floats, Property
from hclmp.errors import UserError
from hclmp.progress import progress
from hclmp.sources import tight_binding as physics
from hclmp.sources.raw import RawDos, RawTargets

PHOTON_ENERGIES: tuple[float, ...] = (1.4, 1.6, 1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2)  # eV
ENERGY_GRID: tuple[float, float, int] = (-8.0, 8.0, 161)  # start, stop (eV, Fermi level 0), n
ABSORPTION_UNIT = "1e5/cm"
DOS_UNIT = "states/eV/cation"
FACTS = {"source": "tight-binding simulation, docs/demo.md"}

# 24 of the 220 systems of the twelve cations: every cation in 6 of them, 1 or 2 per fold, and
# nearly every pair of cations once.
HELD_OUT: dict[str, tuple[str, ...]] = {
    "fold-1": ("Co-Ti-Zr", "Cr-Fe-Mn", "Cr-V-W", "Cu-Ni-Zr", "Mn-Nb-Ni", "Mo-Ti-W"),
    "fold-2": ("Co-Cu-Nb", "Co-Fe-Mo", "Cr-Ni-Ti", "Cu-Mo-V", "Fe-Nb-Ti", "Mn-W-Zr"),
    "fold-3": ("Co-Nb-V", "Co-Ti-W", "Cr-Mn-Zr", "Cu-Fe-W", "Fe-Ni-V", "Mn-Mo-Ni"),
    "fold-4": ("Co-Cr-Cu", "Cr-Mo-V", "Cu-Nb-W", "Fe-Nb-Zr", "Mn-Ti-V", "Mo-Ni-Zr"),
}

# Measurement noise, one standard deviation: y = max(0, y_true (1 + RELATIVE a) + ABSOLUTE b),
# a and b standard normal, drawn for every photon energy.
NOISE_RELATIVE = 0.05
NOISE_ABSOLUTE = 0.02  # in ABSORPTION_UNIT

# Two-cation systems with labels: a ring, so that every cation is in two of them. Labels are scarce
# where densities of states are not, as in the published task: all 66 pairs have a DOS. With labels
# in every pair a network learns all it needs from them and transfer adds nothing (docs/demo.md).
LABELLED_PAIRS: tuple[str, ...] = (
    *("Co-Cr", "Cr-Cu", "Cu-Fe", "Fe-Mn", "Mn-Mo", "Mo-Nb"),
    *("Nb-Ni", "Ni-Ti", "Ti-V", "V-W", "W-Zr", "Co-Zr"),
)

CELLS = 8  # random cells per composition: one per k-point triple of the model
TARGETS_PER_SYSTEM = 58  # compositions with a label in each held-out system
LABEL_BINARY_COUNTS = tuple(range(3, 25, 3))  # of 27 sites
DOS_PER_SYSTEM = 4  # compositions with a DOS in each system that is not held out
DOS_BINARY_COUNTS = (5, 11, 16, 22)  # of 27 sites; labels are at multiples of 3
LEAST_COUNT = 2  # a composition's rarest cation has at least this many of the 27 sites


def simulate_targets(formulas: Sequence[str]) -> Floats:
    """Absorption with measurement noise, in `ABSORPTION_UNIT`, at `PHOTON_ENERGIES`: [n, 10]."""

    def absorption(formula: str) -> Floats:
        cells = _cells(formula)
        spectrum = physics.diagonalise(cells, with_states=True)
        clean = physics.absorption(cells, spectrum, np.array(PHOTON_ENERGIES))
        return _measured(clean, formula)

    return _simulate("absorption", formulas, absorption)


def simulate_dos(formulas: Sequence[str]) -> Floats:
    """Densities of states in `DOS_UNIT` on `ENERGY_GRID`: [n, 161]."""
    grid = np.linspace(*ENERGY_GRID)

    def dos(formula: str) -> Floats:
        spectrum = physics.diagonalise(_cells(formula), with_states=False)
        return physics.density_of_states(spectrum, grid)

    return _simulate("DOS", formulas, dos)


def target_formulas(n: int | None = None) -> list[str]:
    """The compositions with a label, or `n` of them.

    A small subset still has several systems of every fold, unaries and binaries.
    """
    folds = [
        [_ternaries(system, TARGETS_PER_SYSTEM, "target") for system in systems]
        for systems in HELD_OUT.values()
    ]
    binaries = [_binaries(pair.split("-"), LABEL_BINARY_COUNTS) for pair in LABELLED_PAIRS]
    unaries = [[_formula((cation,), (physics.CATIONS,))] for (cation,) in _systems(1)]
    return _subset([*folds, binaries, unaries], n)


def dos_formulas(n: int | None = None) -> list[str]:
    """The compositions with a DOS, none of which has a label, or `n` of them."""
    held_out = {system for systems in HELD_OUT.values() for system in systems}
    free = [cations for cations in _systems(3) if "-".join(cations) not in held_out]
    ternaries = [_ternaries("-".join(c), DOS_PER_SYSTEM, "dos") for c in free]
    binaries = [_binaries(pair, DOS_BINARY_COUNTS) for pair in _systems(2)]
    return _subset([ternaries, binaries], n)


def _systems(size: int) -> list[tuple[str, ...]]:
    return list(itertools.combinations(sorted(physics.ELEMENTS), size))


def _formula(cations: Sequence[str], counts: Sequence[int]) -> str:
    metal = "".join(f"{c}{n}" for c, n in zip(cations, counts, strict=True))
    return f"{metal}O{3 * physics.CATIONS}"


def _rng(*key: str) -> np.random.Generator:
    """A generator that depends on the words of `key` alone, on every machine."""
    digest = hashlib.sha256("/".join(key).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest[:16], "little")))


def _ternaries(system: str, number: int, purpose: str) -> list[str]:
    """`number` different compositions of a three-cation system, uniform over its triangle."""
    sites = range(LEAST_COUNT, physics.CATIONS)
    pairs = itertools.product(sites, sites)
    triples = [(a, b, c) for a, b in pairs if (c := physics.CATIONS - a - b) >= LEAST_COUNT]
    chosen = _rng(purpose, system).choice(len(triples), size=number, replace=False)
    return [_formula(system.split("-"), triples[i]) for i in chosen]


def _binaries(pair: Sequence[str], counts: Sequence[int]) -> list[str]:
    """Compositions with `counts` sites of the first cation and the rest of the second."""
    return [_formula(pair, (k, physics.CATIONS - k)) for k in counts]


def _subset(kinds: list[list[list[str]]], n: int | None) -> list[str]:
    """All formulas, or `n` taken in turn from every kind and, within it, from every system."""
    everything = [formula for kind in kinds for system in kind for formula in system]
    if n is None or n >= len(everything):
        return everything
    return _in_turn([_in_turn(kind) for kind in kinds])[:n]


def _in_turn(lists: Sequence[Sequence[str]]) -> list[str]:
    """The first of each list, then the second of each, and so on."""
    rounds = itertools.zip_longest(*lists)
    return [item for one_round in rounds for item in one_round if item is not None]


def _cells(formula: str) -> physics.Cells:
    pairs = re.findall(r"([A-Z][a-z]?)(\d+)", formula)
    counts = {symbol: int(count) for symbol, count in pairs if symbol != "O"}
    return physics.build_cells(counts, CELLS, _rng("cells", formula))


def _measured(clean: Floats, formula: str) -> Floats:
    """`clean` with the stated noise; an instrument reports no negative absorption."""
    relative, absolute = _rng("noise", formula).standard_normal((2, len(clean)))
    noisy = clean * (1.0 + NOISE_RELATIVE * relative) + NOISE_ABSOLUTE * absolute
    return np.asarray(np.maximum(noisy, 0.0))


def _simulate(what: str, formulas: Sequence[str], value: Callable[[str], Floats]) -> Floats:
    """`value` of every formula, on one thread: the result is the same on any number of cores."""
    rows: list[Floats] = []
    with threadpool_limits(limits=1), progress(f"simulating {what}", len(formulas)) as advance:
        for formula in formulas:
            rows.append(value(formula))
            advance(len(rows))
    return np.stack(rows)


def read_targets(config: TargetsConfig) -> RawTargets:
    """The demo's absorption as a source of targets."""
    formulas = target_formulas(config.limit)
    values = simulate_targets(formulas)
    return RawTargets(
        origin="demo",
        sample_id=None,
        formula=list(formulas),
        properties=tuple(
            Property(f"alpha_{i}", ABSORPTION_UNIT, coordinate=energy, minimum=0.0)
            for i, energy in enumerate(PHOTON_ENERGIES, start=1)
        ),
        values=values,
        noise=np.hypot(NOISE_RELATIVE * values, NOISE_ABSOLUTE),
        simulated=True,
        facts=FACTS | {"coordinate": "photon energy, eV"},
    )


def read_dos(config: DosConfig) -> RawDos:
    """The demo's density of states as a source of DOS.

    Raises:
        UserError: another energy grid was asked for than the demo has.
    """
    start, stop, n = ENERGY_GRID
    grid = EnergyGrid(start, stop, n, "eV")
    if config.energies != EnergiesConfig(start=start, stop=stop, n=n, unit="eV"):
        raise UserError(f"`dos.energies`: the demo's grid is {start} to {stop} eV, {n} energies")
    formulas = dos_formulas(config.limit)
    return RawDos(
        origin="demo",
        material_id=[f"demo-{i}" for i in range(1, len(formulas) + 1)],
        formula=list(formulas),
        dos=simulate_dos(formulas),
        grid=grid,
        unit=DOS_UNIT,
        norm="cation",
        reference="Fermi level",
        simulated=True,
        facts=FACTS,
    )


def count_rows(section: TargetsConfig | DosConfig) -> int:
    """How many compositions the demo has."""
    return len(target_formulas() if isinstance(section, TargetsConfig) else dos_formulas())
