"""The files that a reader of the documentation has: tables of their own, and downloads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

ELEMENTS = ("Cu", "Fe", "Mn", "Ti", "W")
GAP = {"Cu": 1.4, "Fe": 2.1, "Mn": 1.8, "Ti": 3.2, "W": 2.7}  # eV, made up
CONDUCTIVITY = {"Cu": 0.5, "Fe": -1.0, "Mn": -0.5, "Ti": -4.0, "W": -3.0}  # log10 S/cm, made up
SHARES = ((6, 2, 2), (2, 6, 2), (2, 2, 6), (4, 4, 2), (3, 3, 4))


def own_table() -> pd.DataFrame:
    """Five compositions of each of ten three-cation systems, and the single cations."""
    rows: list[dict[str, float]] = [
        {e: share / 10 for e, share in zip(system, shares, strict=True)}
        for system in combinations(ELEMENTS, 3)
        for shares in SHARES
    ]
    rows += [{e: 1.0} for e in ELEMENTS]
    frame = pd.DataFrame(
        {
            "formula": ["".join(f"{e}{x:g}" for e, x in row.items()) for row in rows],
            "gap": [sum(x * GAP[e] for e, x in row.items()) - 0.5 * _mixing(row) for row in rows],
            "conductivity": [
                10 ** (sum(x * CONDUCTIVITY[e] for e, x in row.items()) + _mixing(row))
                for row in rows
            ],
        }
    )
    return frame.round({"gap": 3, "conductivity": 6})


def _mixing(row: dict[str, float]) -> float:
    return 1.0 - sum(x**2 for x in row.values())


def write_table(checkout: Path) -> None:
    own_table().to_csv(checkout / "table.csv", index=False)
    wanted = ["Fe0.3Ti0.5W0.2", "TiO2", "Cu0.5Mn0.5"]
    frame = pd.DataFrame({"batch": [1, 1, 2], "formula": wanted})
    frame.to_csv(checkout / "compositions.csv", index=False)


def write_dos(checkout: Path) -> None:
    formulas = own_table()["formula"]
    dos = np.random.default_rng(0).uniform(0.0, 2.0, (len(formulas), 8))
    frame = pd.DataFrame({"formula": formulas, "dos": list(dos)})
    frame.to_parquet(checkout / "dos.parquet")


def write_archive(checkout: Path) -> None:
    from tests.made_up.archive import files, write_zip

    write_zip(checkout / "data/raw/data.zip", files())


def write_plates(checkout: Path) -> None:
    from tests.made_up.plates import plate, store

    amounts = [
        dict(zip(system, map(float, shares), strict=True))
        for system in combinations(ELEMENTS, 3)
        for shares in SHARES
    ]
    store(checkout / "data/raw/ten_replicas", {"plate-1": plate(amounts)})


GIVEN: dict[str, list[Callable[[Path], None]]] = {
    "README.md": [write_table],
    "docs/dvc.md": [write_table],
    "docs/own-table.md": [write_table, write_dos],
    "docs/paper.md": [write_archive],
    "docs/plates.md": [write_plates],
}
