"""Printed plates as CaltechDATA describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hclmp.sources.plates.rows import SIGNALS


def plate(
    compositions: list[dict[str, float]], *, number: int = 1, replicas: int = 10, seed: int = 0
) -> pd.DataFrame:
    """A plate as the record describes it: each composition printed so many times."""
    rng = np.random.default_rng([seed, number])
    rows = []
    for line, amounts in enumerate(compositions):
        clear = 0.2 + 0.6 * rng.random(9)
        for replica in range(replicas):
            row: dict[str, Any] = {"ExpID": len(rows), "row": line, "col": replica}
            signals = clear + 0.01 * rng.normal(size=9)
            row |= dict(zip(SIGNALS, signals, strict=True))
            row |= {"plate": number, "line": line, "line_experiment_id": line, "replica": replica}
            rows.append(row | amounts)
    return pd.DataFrame(rows).fillna(0.0)


def two_plates() -> dict[str, pd.DataFrame]:
    """Two plates that share a composition, one of them with metals that the other lacks."""
    first = [{"Fe": 1.0, "Co": 1.0}, {"Fe": 0.3, "Co": 0.6, "Ni": 0.1}, {"Ni": 1.0}]
    second = [{"Fe": 5.0, "Co": 5.0}, {"Ce": 1.0, "Ta": 2.0}]
    return {"p1": plate(first), "p2": plate(second, number=2)}


def store(folder: Path, frames: dict[str, pd.DataFrame]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder
