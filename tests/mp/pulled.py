"""What the tests of the pull ask of the servers, and what they find on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hclmp.config import DosConfig
from hclmp.sources.raw import RawDos
from tests.made_up.materials_project import CATIONS, materials, odd_materials
from tests.mp.conftest import ENERGIES

CLEAN = materials(60, ENERGIES)
ODD = odd_materials(ENERGIES)
USABLE_ODD = ("empty spin down", "negative", "narrow", "two run types", "higher twin")
LISTING_REQUESTS = 3  # 469 systems of at most three of 14 cations, 200 at a time


def settings(**changed: Any) -> DosConfig:
    """A configuration of the servers' elements."""
    whole = {name: changed.pop(name) for name in ("energies", "limit") if name in changed}
    return DosConfig.model_validate(
        {
            "source": "materials_project",
            "materials_project": {"elements": list(CATIONS), **changed},
            **whole,
        }
    )


def folder() -> Path:
    """The one download of the working directory."""
    (found,) = Path("data/raw/materials_project").iterdir()
    return found


def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder() / "record.json").read_text())
    return found


def by_name(raw: RawDos) -> dict[str, np.ndarray]:
    return dict(zip(raw.material_id, raw.dos, strict=True))


def table_reads(seen: dict[str, Any]) -> list[str]:
    return [line for line in seen["s3"] if ".parquet" in line]
