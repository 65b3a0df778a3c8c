"""Synthetic materials as the Materials Project would hold them: listed documents and table rows.

The same arguments give the same materials in every process, so a test knows what the servers hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

CATIONS = ("Ag", "Ba", "Ca", "Co", "Cu", "Fe", "Mg", "Mn", "Ni", "Sr", "Ti", "V", "Zn", "Zr")
MAGNETIC = {"Co", "Fe", "Mn", "Ni"}


@dataclass
class Material:
    """One material and the row (or rows) of its DOS.

    Attributes:
        number: its name is ``mp-<number>``.
        cell: element -> atoms in the cell of the calculation.
        rows: of the DOS table, less the structure.
        hull: energy above hull in eV/atom.
        listed: further or other fields of the listed document.
        has_task: whether the listing names a calculation.
    """

    number: int
    cell: dict[str, int]
    rows: list[dict[str, Any]]
    hull: float = 0.0
    listed: dict[str, Any] = field(default_factory=dict)
    has_task: bool = True

    @property
    def material_id(self) -> str:
        return f"mp-{self.number}"

    @property
    def task(self) -> str:
        return alpha(1_000_000 + self.number)

    @property
    def atoms(self) -> int:
        return sum(self.cell.values())

    @property
    def formula(self) -> str:
        from pymatgen.core import Composition

        return str(Composition(self.cell).reduced_formula)

    def document(self) -> dict[str, Any]:
        """What the listing says; `elemental` is left out, as null it crashes the client."""
        elements = sorted(self.cell)
        return {
            "material_id": alpha(self.number, "mp"),
            "formula_pretty": self.formula,
            "chemsys": "-".join(elements),
            "elements": elements,
            "energy_above_hull": self.hull,
            "deprecated": False,
            "has_props": ["dos"],
            "batch_id": None,
            "dos": {"task_id": self.task, "total": {}} if self.has_task else None,
        } | self.listed


def alpha(number: int, prefix: str | None = None) -> str:
    """A number as the project writes identifiers now: ``aaaaaaft``."""
    from emmet.core.mpid import AlphaID

    return str(AlphaID(number, padlen=8, prefix=prefix))


def calculation(
    rng: np.random.Generator,
    n: int,
    *,
    magnetic: bool = False,
    low: float = -20.0,
    high: float = 12.0,
    run_type: str = "GGA",
) -> dict[str, Any]:
    """A row: absolute energies with 4 decimals as VASP writes them, a few peaks, a gap."""
    fermi = round(float(rng.uniform(-2, 9)), 8)
    energies = np.round(np.linspace(fermi + low, fermi + high, n), 4)
    up = np.zeros(n)
    for centre, width, height in zip(
        rng.uniform(low, high, 8), rng.uniform(0.1, 0.6, 8), rng.uniform(0.5, 6, 8), strict=True
    ):
        up += height * np.exp(-(((energies - fermi - centre) / width) ** 2))
    up[(energies > fermi) & (energies < fermi + 1)] = 0
    up = np.round(up, 4)
    down = np.round(up * rng.uniform(0.5, 1), 4) if magnetic else None
    return {
        "efermi": fermi,
        "energies": energies,
        "spin_up_densities": up,
        "spin_down_densities": down,
        "run_type": run_type,
    }


def materials(n: int, energies: int) -> list[Material]:
    """``n`` clean oxides of one to three cations; no composition twice among the first few."""
    rng = np.random.default_rng(n)
    made = []
    for i in range(n):
        chosen = rng.choice(CATIONS, size=1 + i % 3, replace=False)
        units = 1 + i % 2  # the cell of the calculation may hold several formula units
        cell = {str(e): units * int(rng.integers(1, 4)) for e in chosen}
        cell["O"] = units * int(rng.integers(1, 7))
        magnetic = bool(MAGNETIC & set(cell))
        kind = "GGA+U" if magnetic else "GGA"
        row = calculation(rng, energies, magnetic=magnetic, run_type=kind)
        made.append(Material(100 + i, cell, [row], hull=float(rng.uniform(0, 0.2))))
    return made


def odd_materials(energies: int) -> dict[str, Material]:
    """What the live services hold besides clean rows, by what is odd about it."""
    rng = np.random.default_rng(1)
    made: dict[str, Material] = {}

    def add(kind: str, *, changed: dict[str, Any] | None = None, **about: Any) -> Material:
        row = calculation(rng, energies) | (changed or {})
        number = 5000 + len(made)
        made[kind] = Material(number, {"Ca": 1, "Zr": 1 + len(made), "O": 3}, [row], **about)
        return made[kind]

    nothing = dict.fromkeys(("energies", "spin_up_densities", "spin_down_densities"))
    holed = calculation(rng, energies)["spin_up_densities"].copy()
    holed[3] = np.nan
    dented = calculation(rng, energies)["spin_up_densities"].copy()
    dented[:5] = -0.01
    add("run type unknown", changed={"run_type": "unknown"})
    add("run type r2SCAN", changed={"run_type": "r2SCAN"})
    add("no Fermi level", changed={"efermi": None})
    add("no energies", changed=nothing)
    add("empty energies", changed={name: np.empty(0) for name in nothing})
    add("no structure", changed={"structure": None})
    add("not finite", changed={"spin_up_densities": holed})
    add("other length", changed={"spin_up_densities": np.ones(energies - 1)})
    add("not ascending", changed={"energies": np.zeros(energies)})
    add("empty spin down", changed={"spin_down_densities": np.empty(0)})
    add("negative", changed={"spin_up_densities": dented})
    add("narrow", changed=calculation(rng, energies, low=-3.0, high=4.0))
    add("not in the table").rows.clear()
    add("no task", has_task=False).rows.clear()
    both = add("two run types")
    both.rows.insert(0, calculation(rng, energies, run_type="GGA+U"))
    both.rows.append(calculation(rng, energies, run_type="r2SCAN"))
    twin = add("higher twin", hull=0.3)
    twin.cell = dict(both.cell)
    gnome = {"batch_id": "gnome_r2scan_statics"}
    add("GNoME, hidden", listed=gnome)
    add("deprecated, hidden", listed={"deprecated": True})
    five = add("five elements, hidden")
    five.cell = {"Ba": 1, "Ca": 1, "Ti": 1, "Zr": 1, "O": 6}
    return made


def table(made: list[Material]) -> Any:
    """The DOS table (Arrow) with the columns of the real one."""
    import pyarrow as pa
    from emmet.core.arrow import arrowize
    from emmet.core.band_theory import ElectronicDos

    schema = pa.schema(arrowize(ElectronicDos))
    schema = schema.remove(schema.get_field_index("projected_densities"))
    rows = [
        {"identifier": m.task, "structure": structure(tuple(sorted(m.cell.items()))), **row}
        for m in made
        for row in m.rows
    ]
    columns = [pa.array([row[f.name] for row in rows], f.type) for f in schema]
    return pa.table(columns, schema=schema).sort_by("identifier")


@cache
def structure(cell: tuple[tuple[str, int], ...]) -> Any:
    """Some structure of these atoms, as the table holds it."""
    from emmet.core.band_theory import ElectronicDos
    from pymatgen.core import Lattice, Structure

    species = [element for element, count in cell for _ in range(count)]
    points = np.random.default_rng(len(species)).random((len(species), 3))
    made = Structure(Lattice.cubic(10.0), species, points)
    dumped = ElectronicDos(structure=made, energies=[0.0], efermi=0.0)
    return dumped.model_dump(context={"format": "arrow"})["structure"]
