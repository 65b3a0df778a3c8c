"""A good table and good densities of states, to use and to spoil, with a configuration for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

TERNARIES = ("Cu-Fe-Mn", "Cu-Ti-W", "Fe-Ti-W", "Mn-Ti-W")
UNARIES = ("Cu", "Fe", "Mn", "Ti", "W")
PER_SYSTEM = 5


def good_table() -> pd.DataFrame:
    """25 oxides: five of each of four three-cation systems, and the single cations."""
    rng = np.random.default_rng(0)
    formulas = []
    for system in TERNARIES:
        a, b, c = system.split("-")
        formulas += [f"{a}{i + 1}{b}2{c}3O9" for i in range(PER_SYSTEM)]
    formulas += [f"{e}2O3" for e in UNARIES]
    gap = rng.uniform(1.0, 3.0, len(formulas))
    rate = 10.0 ** rng.uniform(-3.0, 2.0, len(formulas))
    return pd.DataFrame({"formula": formulas, "gap": gap, "rate": rate})


def good_dos(n: int = 8) -> pd.DataFrame:
    """DOS of the same materials in a list column."""
    formulas = good_table()["formula"].tolist()
    dos = np.random.default_rng(1).uniform(0.0, 2.0, (len(formulas), n))
    return pd.DataFrame({"formula": formulas, "dos": list(dos)})


def wide_dos(n: int = 8) -> pd.DataFrame:
    """The same DOS as a CSV file holds it: one column per energy, from -1 eV in steps of 0.25."""
    frame = good_dos(n)
    names = [str(-1 + 0.25 * i) for i in range(n)]
    wide = pd.DataFrame(np.stack(frame["dos"].tolist()), columns=names)
    return pd.concat([frame[["formula"]], wide], axis=1)


def write(path: Path, frame: pd.DataFrame) -> Path:
    """Write a CSV or Parquet file, as its name says."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def config_for(path: str = "table.csv", **targets: Any) -> dict[str, Any]:
    """A configuration for a table of one's own, without DOS."""
    return {
        "targets": {"source": "table", "path": path, **targets},
        "dos": {"source": "none"},
        "systems": "systems.tsv",
        "variants": ["ridge"],
    }


def set_up(
    workdir: Path,
    table: pd.DataFrame | None = None,
    *,
    config: dict[str, Any] | None = None,
    sheet: str = "system\tfold\nFe-Ti-W\ta\nCu-Fe-Mn\tb\n",
    suffix: str = ".csv",
) -> Path:
    """Write table, sheet and configuration into a working directory; returns the configuration."""
    name = f"table{suffix}"
    write(workdir / name, good_table() if table is None else table)
    (workdir / "systems.tsv").write_text(sheet)
    path = workdir / "config.yaml"
    path.write_text(yaml.safe_dump(config_for(name) if config is None else config))
    return path
