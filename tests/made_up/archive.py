"""A small archive in the layout of the paper's ``data.zip``, made of made-up numbers."""

import io
import zipfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hclmp.config.data import PAPER_CATIONS

SYSTEMS = ("Co-Fe-Mn", "Cu-Ti-W", "Fe-Ti-W", "Cu-Mn-Zr", "Bi-Cu-V", "Mn-Ti-V")
HELD_OUT = ("Fe-W-Ti", "Co-Fe-Mn", "Cu-Ti-W")  # as files are named: one is not alphabetical
UVIS, DOS = "uvis_dataset_no_redundancy", "20200828_MP_dos"


def dense(fractions: dict[str, float]) -> np.ndarray:
    """Fractions over the 39 cations."""
    row = np.zeros(len(PAPER_CATIONS))
    for element, fraction in fractions.items():
        row[PAPER_CATIONS.index(element)] = fraction
    return row


def compositions() -> list[dict[str, float]]:
    """Six of each system on a grid, their binaries' middles and the single cations."""
    tenths = [(a, b, 10 - a - b) for a, b in product((2, 3, 4), (2, 3))]
    rows = [
        {e: n / 10 for e, n in zip(system.split("-"), parts, strict=True)}
        for system in SYSTEMS
        for parts in tenths
    ]
    elements = sorted({e for system in SYSTEMS for e in system.split("-")})
    pairs = sorted({tuple(s.split("-")[:2]) for s in SYSTEMS})
    return [*rows, *({a: 0.5, b: 0.5} for a, b in pairs), *({e: 1.0} for e in elements)]


def entries() -> dict[Any, Any]:
    """What ``uvis_dict.chkpt`` holds: samples by number, and one key that is no number."""
    weights = np.random.default_rng(0).normal(size=(39, 10))
    samples: dict[Any, Any] = {}
    for number, fractions in enumerate(compositions()):
        row = dense(fractions)
        index = np.flatnonzero(row)
        samples[number] = {
            "fom": np.tanh(row @ weights) + 2.0,
            "composition": row.astype(np.float32),
            "composition_nonzero": row[index].astype(np.float32),
            "composition_nonzero_idx": index,
            "nonzero_element_name": [PAPER_CATIONS[i] for i in index],
            "gen_dos_fea": np.zeros(161, dtype=np.float32),
        }
    samples["elements"] = list(PAPER_CATIONS)
    return samples


def indices(samples: dict[Any, Any]) -> dict[str, np.ndarray]:
    """The index arrays by path: held-out systems, with validation from training, and rd_idx."""
    names = {k: set(v["nonzero_element_name"]) for k, v in samples.items() if isinstance(k, int)}
    found = {}
    for system in HELD_OUT:
        test = [k for k, elements in names.items() if elements == set(system.split("-"))]
        train = [k for k in names if k not in test]
        parts = {"train": train, "val_from_train": train[::7], "test": test}
        found |= {f"idx/{part}/{system}.npy": np.array(rows) for part, rows in parts.items()}
    order = np.random.default_rng(1).permutation(len(names))
    parts = {"train": order[8:], "val": order[8:14], "test": order[:8]}  # val is in train, as there
    return found | {f"idx/rd_idx/{part}/rd_idx.npy": rows for part, rows in parts.items()}


def densities(n: int = 161) -> np.ndarray:
    """[m, 39 + n] of dtype object: fractions and a peak that follows them; 40 compositions."""
    rng = np.random.default_rng(2)
    rows = []
    for i in range(40):
        elements = rng.choice(PAPER_CATIONS[5:12], size=1 + i % 3, replace=False)
        fractions = dense(dict.fromkeys(elements.tolist(), 1 / len(elements)))
        centre = 8 * (fractions @ np.linspace(-1, 1, 39))
        rows.append(
            np.concatenate([fractions, 5 * np.exp(-((np.linspace(-8, 8, n) - centre) ** 2))])
        )
    return np.stack(rows).astype(object)


def files(
    samples: dict[Any, Any] | None = None, dos: np.ndarray | None = None, *, legacy: bool = False
) -> dict[str, bytes]:
    """The archive's files by path, without a top-level folder."""
    samples = entries() if samples is None else samples
    dos = densities() if dos is None else dos
    buffer = io.BytesIO()
    torch.save(samples, buffer, _use_new_zipfile_serialization=not legacy)
    found = {f"{UVIS}/uvis_dict.chkpt": buffer.getvalue()}
    found |= {f"{UVIS}/{name}": npy(array) for name, array in indices(samples).items()}
    found[f"{DOS}/MP_comp39_dos161.npy"] = npy(dos)
    found[f"{DOS}/train_idx.npy"] = npy(np.arange(30))
    return found | {f"{DOS}/test_idx.npy": npy(np.arange(30, len(dos)))}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def write_zip(path: Path, found: dict[str, bytes], *, top: str = "data/") -> Path:
    """The archive as a zip file, under a top-level folder or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in found.items():
            archive.writestr(top + name, content)
    return path


def write_folder(path: Path, found: dict[str, bytes]) -> Path:
    """The archive unpacked."""
    for name, content in found.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
