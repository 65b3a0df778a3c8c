"""No prediction depends on what is held out: the audit, run on every default variant.

Each case changes something that a model must not see, runs the steps of one fold again and compares
all that is predicted of the held-out samples, bit by bit. The controls change something that a
model may see: there the same comparison must find a difference.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hclmp.config import DEFAULT_VARIANTS, load_config
from hclmp.data.folds import FoldRows
from hclmp.data.formula import parse_formulas
from hclmp.data.splits import split_rows
from hclmp.data.tables import LABEL_COLUMNS, read_predictions, read_targets
from tests.made_up.oxides import HELD_OUT, OF_DOS, OF_LABELS, materials, run

TRANSFER = {name for name, variant in DEFAULT_VARIANTS.items() if variant.get("transfer")}


def split(folder: Path) -> FoldRows:
    """How the samples divide, which are the rows of the table here."""
    config = load_config(folder / "config.yaml")
    with contextlib.chdir(folder):
        table = read_targets("data/processed/targets.parquet")
        assert table.sample_id == [f"row-{i + 1}" for i in range(len(table))]
        return split_rows(config, "a", table)


def elements() -> list[set[str]]:
    """The cations of each row of the table."""
    return [set(m) - {"O"} for m in parse_formulas(materials()[0]["formula"].tolist(), origin="")]


def held_out() -> np.ndarray:
    """The rows that are held out, by their formulas and not by the code that is audited."""
    return np.flatnonzero([any(e == set(h.split("-")) for h in HELD_OUT) for e in elements()])


def supersets() -> np.ndarray:
    """The rows that hold all elements of a held-out system, and another."""
    return np.flatnonzero([any(e > set(h.split("-")) for h in HELD_OUT) for e in elements()])


def predicted(folder: Path) -> dict[str, pd.DataFrame]:
    """Variant -> everything that its predictions of the held-out samples hold but the labels."""
    frames = {}
    for variant in load_config(folder / "config.yaml").variants:
        frame = read_predictions(folder / f"results/predictions/{variant}/a.parquet").frame
        assert len(frame) == 2 * len(HELD_OUT) * 4  # properties, systems, compositions
        frames[variant] = frame.drop(columns=list(LABEL_COLUMNS))
    return frames


def differing(before: dict[str, pd.DataFrame], after: dict[str, pd.DataFrame]) -> set[str]:
    """The variants of which any bit of any predicted number differs."""
    assert before.keys() == after.keys()
    differ = set()
    for variant, frame in before.items():
        other = after[variant]
        assert list(frame) == list(other)
        assert frame["formula"].tolist() == other["formula"].tolist()
        if any(frame[c].to_numpy().tobytes() != other[c].to_numpy().tobytes() for c in NUMBERS):
            differ.add(variant)
    return differ


NUMBERS = [
    *("y_pred", "y_std", "y_low", "y_high", "t_pred", "t_low", "t_high"),
    *("t_std_aleatoric", "t_std_epistemic", "train_std"),
]


def shuffled(labels: pd.DataFrame, rows: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(rows)
    assert (order != rows).any()
    labels.loc[rows, VALUES] = labels.loc[order, VALUES].to_numpy()


def shifted(labels: pd.DataFrame, rows: np.ndarray) -> None:
    labels.loc[rows, VALUES] += 1000.0


def scaled(labels: pd.DataFrame, rows: np.ndarray) -> None:
    labels.loc[rows, [*VALUES, "gap_std"]] *= 1e-3


def blanked(labels: pd.DataFrame, rows: np.ndarray) -> None:
    """One of the two labels of every row: a row without any would not be in the table."""
    labels.loc[rows[::2], ["gap", "gap_std"]] = np.nan
    labels.loc[rows[1::2], "rate"] = np.nan


def constant(labels: pd.DataFrame, rows: np.ndarray) -> None:
    """All but one, for a property without two values is refused."""
    labels.loc[rows[1:], VALUES] = 7.0


VALUES = ["gap", "rate"]
CHANGES = [shuffled, shifted, scaled, blanked, constant]
Change = Callable[[pd.DataFrame, np.ndarray], None]


def with_labels(folder: Path, tmp_path: Path, change: Change, rows: np.ndarray) -> Path:
    """The run again with changed labels in some rows, and all else as it was."""
    copy = shutil.copytree(folder, tmp_path / "changed")
    labels = pd.read_csv(copy / "table.csv")
    before = labels.copy()
    change(labels, rows)
    assert not labels.loc[rows].equals(before.loc[rows])
    assert labels.drop(index=rows).equals(before.drop(index=rows))
    labels.to_csv(copy / "table.csv", index=False)
    run(copy, *OF_LABELS)
    return copy


@pytest.mark.parametrize("change", CHANGES)
def test_held_out_labels_change_no_prediction(
    audited: Path, tmp_path: Path, change: Change
) -> None:
    base = audited / "drop"
    assert split(base).test.tolist() == held_out().tolist()
    copy = with_labels(base, tmp_path, change, held_out())
    assert differing(predicted(base), predicted(copy)) == set()


@pytest.mark.parametrize("change", [shifted, blanked])
def test_labels_of_samples_in_no_set_change_no_prediction(
    audited: Path, tmp_path: Path, change: Change
) -> None:
    """Supersets of held-out and of validation systems, which would tell of them."""
    base = audited / "drop"
    rows = np.union1d(supersets(), split(base).left_out)
    assert len(rows) >= len(supersets()) == 4
    copy = with_labels(base, tmp_path, change, rows)
    assert differing(predicted(base), predicted(copy)) == set()


@pytest.mark.parametrize("part", ["train", "validation"])
def test_control_labels_that_models_learn_from_change_predictions(
    audited: Path, tmp_path: Path, part: str
) -> None:
    """One label among those of training, or of the validation systems that size the uncertainty."""
    base = audited / "drop"
    copy = with_labels(base, tmp_path, shifted, getattr(split(base), part)[:1])
    assert differing(predicted(base), predicted(copy)) == set(DEFAULT_VARIANTS)


def with_dos(folder: Path, tmp_path: Path, kind: str) -> Path:
    """The run again without the DOS of held-out systems and their supersets, or with other ones."""
    copy = shutil.copytree(folder, tmp_path / "changed")
    labels, dos = materials()
    assert labels["formula"].tolist() == dos["formula"].tolist()
    hidden = np.isin(np.arange(len(dos)), np.union1d(held_out(), supersets()))
    assert hidden.sum() == len(HELD_OUT) * 4 + 4  # and four of the five four-cation systems
    if kind == "removed":
        dos = dos[~hidden]
    else:
        rng = np.random.default_rng(2)
        noise = rng.uniform(0.0, 300.0, (len(dos), 8))
        dos["dos"] = [
            n if h else d for n, h, d in zip(noise, hidden, dos["dos"].tolist(), strict=True)
        ]
    dos.to_parquet(copy / "dos.parquet")
    run(copy, *OF_DOS)
    return copy


@pytest.mark.parametrize("kind", ["removed", "corrupted"])
def test_held_out_dos_change_no_prediction_if_they_are_dropped(
    audited: Path, tmp_path: Path, kind: str
) -> None:
    copy = with_dos(audited / "drop", tmp_path, kind)
    assert differing(predicted(audited / "drop"), predicted(copy)) == set()


@pytest.mark.parametrize("kind", ["removed", "corrupted"])
def test_control_held_out_dos_change_predictions_if_they_are_kept(
    audited: Path, tmp_path: Path, kind: str
) -> None:
    """Of the variants that have the DOS feature, and of no other."""
    copy = with_dos(audited / "keep", tmp_path, kind)
    assert differing(predicted(audited / "keep"), predicted(copy)) == TRANSFER


def test_variants_without_transfer_predict_the_same_whatever_becomes_of_dos(audited: Path) -> None:
    drop, keep = (predicted(audited / kind) for kind in ("drop", "keep"))
    assert differing(drop, keep) == TRANSFER


def test_the_metrics_say_how_many_held_out_compositions_were_given_their_own_dos(
    audited: Path,
) -> None:
    """All of these have a computed DOS; with `drop` none is given it."""
    about = {
        held_out: json.loads((audited / held_out / "results/metrics/metrics.json").read_text())
        for held_out in ("keep", "drop")
    }
    assert about["keep"]["own_dos"] == about["keep"]["n"] > 0
    assert "own_dos" not in about["drop"]
