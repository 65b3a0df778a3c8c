"""Densities of states of oxides from the Materials Project, resampled onto one grid.

A row of the project's table holds one calculation: energies in eV (absolute; the Fermi level is
subtracted here) and densities in states/eV per cell, per spin channel. In a calculation that is not
spin-polarised the single channel already holds both spins (VASP's DOS integrates to the number of
electrons, and pymatgen's ``Dos.get_densities`` returns it unchanged), so the DOS is the sum of the
channels that there are, without a factor of 2.
"""

import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from hclmp.config import DosConfig
from hclmp.data.formula import composition_key, parse_formula
from hclmp.data.tables import EnergyGrid, Floats
from hclmp.errors import UserError, join_some
from hclmp.provenance import hash_of
from hclmp.sources.materials_project.client import LISTS, Oxide
from hclmp.sources.materials_project.resample import Resampler
from hclmp.sources.materials_project.snapshot import RECORD, Snapshot, fetch, query_of
from hclmp.sources.raw import RawDos

log = logging.getLogger(__name__)
OFFLINE = "HCLMP_OFFLINE"


def read_dos(config: DosConfig) -> RawDos:
    """Download (or take from disk) the oxides of the configuration, and resample their DOS.

    ``HCLMP_OFFLINE=1`` in the environment forbids the network.

    Raises:
        UserError: no key, no network, no material, an incomplete download offline, a full disk.
    """
    snapshot = fetch(query_of(config), offline=os.environ.get(OFFLINE, "") not in ("", "0"))
    grid = EnergyGrid(**config.energies.model_dump())
    rows = resample(snapshot, grid, config.materials_project.broadening)
    kept, skipped = _kept(snapshot, rows)
    if not kept:
        reasons = join_some(f"{n} {reason}" for reason, n in sorted(skipped.items()))
        raise UserError(
            f"the Materials Project has no usable DOS for {len(snapshot.oxides)} materials "
            f"({reasons}): change `dos.materials_project`"
        )
    if config.materials_project.duplicates == "lowest":
        lowest = _lowest(kept)
        skipped["of higher energy than another of its composition"] = len(kept) - len(lowest)
        kept = lowest
    norm = config.materials_project.norm
    counts = _counts(snapshot, kept, rows, skipped)
    log.info("Materials Project: %s", ", ".join(_log_lines(counts)))
    return RawDos(
        origin="Materials Project",
        material_id=[oxide.material_id for oxide in kept],
        formula=[oxide.formula for oxide in kept],
        dos=np.stack([_per(norm, oxide, rows.found[str(oxide.task)]) for oxide in kept]),
        grid=grid,
        unit=f"states/eV/{norm}",
        norm=norm,
        reference="Fermi level",
        simulated=False,
        facts=_facts(snapshot, counts),
        volatile={name: snapshot.record[name] for name in ("date", "files")},
    )


@dataclass(frozen=True)
class Dos:
    """One calculation on the grid."""

    preference: int  # place of its run type among those wanted; 0 is the first
    values: Floats  # [D] states/eV/cell
    atoms: int  # in the cell
    polarised: bool  # has two spin channels
    negative: bool  # has negative densities (which some smearings make), set to 0
    cut: bool  # its own energies do not span the window


@dataclass
class Calculations:
    """What the downloaded rows hold, by calculation (``task``)."""

    # the usable DOS, of the preferred run type
    found: dict[str, Dos] = field(default_factory=dict)
    # why a calculation has no usable DOS
    defects: dict[str, str] = field(default_factory=dict)
    # number of unusable rows by reason, whether or not the calculation has another
    unusable: Counter[str] = field(default_factory=Counter)
    # number of usable rows that another row of the same calculation made superfluous
    surplus: int = 0

    def add(self, task: str, dos: Dos) -> None:
        """Keep the DOS of the run type listed first; of equal ones the first row."""
        present = self.found.get(task)
        self.surplus += present is not None
        if present is None or dos.preference < present.preference:
            self.found[task] = dos


def resample(snapshot: Snapshot, grid: EnergyGrid, broadening: float) -> Calculations:
    """Resample every downloaded row; only the results are kept in memory."""
    resampler = Resampler(grid, broadening)
    preference = {kind: i for i, kind in enumerate(snapshot.record["query"]["run_types"])}
    rows = Calculations()
    for batch in snapshot.batches():
        plain = [batch.column(n).to_pylist() for n in ("identifier", "run_type", "efermi", "atoms")]
        for i, (task, kind, fermi, atoms) in enumerate(zip(*plain, strict=True)):
            energies, up, down = (_list(batch, name, i) for name in LISTS)
            if defect := _defect(fermi, atoms, energies, up, down):
                rows.defects.setdefault(task, defect)
                rows.unusable[defect] += 1
                continue
            total = up if not len(down) else up + down
            relative = energies - fermi
            rows.add(
                task,
                Dos(
                    preference=preference[kind],
                    values=resampler(relative, np.maximum(total, 0.0)),
                    atoms=atoms,
                    polarised=len(down) > 0,
                    negative=bool((total < 0).any()),
                    cut=not resampler.covers(relative),
                ),
            )
    return rows


def _list(batch: pa.RecordBatch, column: str, row: int) -> Floats:
    """A cell of a list column: [m], empty where the cell is; nulls within are NaN."""
    cell = batch.column(column)[row].values
    return np.empty(0) if cell is None else np.asarray(cell.to_numpy(zero_copy_only=False))


def _defect(
    fermi: float | None, atoms: int | None, energies: Floats, up: Floats, down: Floats
) -> str:
    """Why a row cannot be used; empty if it can."""
    if not len(energies) or not len(up):
        return "without energies or densities"
    if fermi is None or not np.isfinite(fermi):
        return "without Fermi level"
    if not atoms:
        return "without structure"
    if len(energies) < 2 or len(up) != len(energies) or len(down) not in (0, len(energies)):
        return "with densities and energies of different length"
    if not all(np.isfinite(values).all() for values in (energies, up, down)):
        return "with values that are not finite"
    if (np.diff(energies) <= 0).any():
        return "with energies that do not ascend"
    return ""


def _kept(snapshot: Snapshot, rows: Calculations) -> tuple[list[Oxide], Counter[str]]:
    """The materials with a usable DOS, and how many have none for which reason."""
    others = snapshot.others().to_pydict()
    kinds: dict[str, str] = {}
    for task, kind in sorted(zip(others["identifier"], others["run_type"], strict=True)):
        kinds.setdefault(task, f"of run type {kind} alone")
    kept, skipped = [], Counter[str]()
    for oxide in snapshot.oxides:
        if oxide.task in rows.found:
            kept.append(oxide)
        elif oxide.task is None:
            skipped["without calculation of a DOS"] += 1
        else:
            reason = rows.defects.get(oxide.task) or kinds.get(oxide.task)
            skipped[reason or "not in the table of DOS"] += 1
    return kept, skipped


def _lowest(oxides: list[Oxide]) -> list[Oxide]:
    """Of each composition that of the lowest energy above hull, in the order given."""

    def rank(oxide: Oxide) -> tuple[float, str]:
        hull = oxide.energy_above_hull
        return (np.inf if hull is None else hull, oxide.material_id)

    best: dict[Any, Oxide] = {}
    for oxide in oxides:
        key = composition_key(parse_formula(oxide.formula))
        if key not in best or rank(oxide) < rank(best[key]):
            best[key] = oxide
    chosen = {oxide.material_id for oxide in best.values()}
    return [oxide for oxide in oxides if oxide.material_id in chosen]


def _per(norm: str, oxide: Oxide, dos: Dos) -> Floats:
    """States per atom, or per atom other than oxygen."""
    share = 1.0 - (parse_formula(oxide.formula)["O"] if norm == "cation" else 0.0)
    return dos.values / (dos.atoms * share)


def _counts(
    snapshot: Snapshot, kept: list[Oxide], rows: Calculations, skipped: Counter[str]
) -> dict[str, Any]:
    dos = [rows.found[str(oxide.task)] for oxide in kept]
    others = snapshot.others()["run_type"].to_pylist()
    return {
        "listed": len(snapshot.oxides),
        "with_dos": sum(oxide.task in rows.found for oxide in snapshot.oxides),
        "kept": len(kept),
        "skipped": {reason: n for reason, n in sorted(skipped.items()) if n},
        "rows_of_other_run_types": dict(sorted(Counter(map(str, others)).items())),
        "unusable_rows_of_wanted_run_types": dict(sorted(rows.unusable.items())),
        "further_rows_of_wanted_run_types": rows.surplus,
        "spin_polarised": sum(d.polarised for d in dos),
        "negative_densities_set_to_0": sum(d.negative for d in dos),
        "energies_do_not_span_the_window": sum(d.cut for d in dos),
    }


def _log_lines(counts: dict[str, Any]) -> list[str]:
    lines = [f"{counts['listed']} oxides listed", f"{counts['kept']} kept"]
    lines += [f"{n} skipped {reason}" for reason, n in counts["skipped"].items()]
    if cut := counts["energies_do_not_span_the_window"]:
        lines.append(f"{cut} cut by their own energies")
    return lines


def _facts(snapshot: Snapshot, counts: dict[str, Any]) -> dict[str, Any]:
    """What is recorded and written into the table. Not the date: equal data give equal bytes."""
    record = snapshot.record
    named = ("database_version", "table", "table_version", "client", "query", "licence")
    return {name: record[name] for name in (*named, "attribution")} | {
        "record": str(snapshot.folder / RECORD),
        "sha256": hash_of(record["files"]),
        "files": len(record["files"]),
        "counts": counts,
        "spin": "sum of the channels; one channel alone already holds both spins",
    }
