"""What a source returns: its rows, before formulas are parsed and values checked."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hclmp.data.tables import EnergyGrid, Property
from hclmp.errors import UserError, join_some


@dataclass(frozen=True)
class RawTargets:
    """Labelled rows of a source.

    Attributes:
        origin: where they come from, for messages (a file name, or the demo's).
        sample_id: n names, or None: the row's number.
        formula: n formulas, unparsed.
        properties: the L properties.
        values: [n, L], in property units; NaN where missing (``allow_missing``).
        noise: [n, L] measurement standard deviations, in property units; NaN where unknown.
        simulated: whether the values come from a simulation.
        facts: what else is recorded (hash of the file, ignored columns, ...).
        split: n words ``train``, ``val`` or ``test``, or "" for neither; None where not given.
    """

    origin: str
    sample_id: list[str] | None
    formula: list[object]
    properties: tuple[Property, ...]
    values: NDArray[np.float64]
    noise: NDArray[np.float64]
    simulated: bool
    facts: dict[str, Any] = field(default_factory=dict)
    split: list[str] | None = None


@dataclass(frozen=True)
class RawDos:
    """Densities of states of a source.

    Attributes:
        origin: where they come from, for messages.
        material_id: n names.
        formula: n formulas, unparsed.
        dos: [n, D], in ``unit``.
        grid: the D energies.
        unit: of the DOS values.
        norm: what the values are counted per.
        reference: what zero energy is.
        simulated: whether the values come from a simulation.
        facts: what else is recorded.
        volatile: facts of the download itself (its date, the files on disk). They are in the record
            only, so that equal data give a table of equal bytes.
    """

    origin: str
    material_id: list[str]
    formula: list[object]
    dos: NDArray[np.float64]
    grid: EnergyGrid
    unit: str
    norm: str
    reference: str
    simulated: bool
    facts: dict[str, Any] = field(default_factory=dict)
    volatile: dict[str, Any] = field(default_factory=dict)


def row_names(n: int) -> list[str]:
    """Names for rows that have none of their own: ``row-1`` and so on."""
    return [f"row-{i}" for i in range(1, n + 1)]


def check_dos(raw: RawDos) -> None:
    """A density of states is finite and not negative; UserError names the rows where it is not."""
    for wrong, word in ((~np.isfinite(raw.dos), "not finite"), (raw.dos < 0, "negative")):
        if len(rows := np.flatnonzero(wrong.any(axis=1))):
            named = join_some(
                f"row {i + 1} ({raw.formula[i]}: {raw.dos[i][wrong[i]][0]:g})" for i in rows
            )
            raise UserError(
                f"{raw.origin}: the density of states is {word} in {named}. Correct or remove "
                "these rows."
            )
