"""No prediction depends on what is held out: the audit, run on every default variant.

Each case changes something that a model must not see, runs the steps of one fold again and compares
all that is predicted of the held-out samples, bit by bit. The controls change something that a
model may see: there the same comparison must find a difference.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from hclmp.cli.main import app
from hclmp.config import DEFAULT_VARIANTS, load_config
from hclmp.data.folds import FoldRows, split_rows
from hclmp.data.tables import LABEL_COLUMNS, read_predictions, read_targets

ELEMENTS = ("Cu", "Fe", "Mn", "Ti", "W")
HELD_OUT = ("Cu-Fe-Mn", "Fe-Ti-W")
SHEET = "system\tfold\n" + "".join(f"{system}\ta\n" for system in HELD_OUT)
CONFIG: dict[str, Any] = {
    "targets": {
        "source": "table",
        "path": "table.csv",
        "allow_missing": True,
        "properties": {"gap": {"minimum": 0.0}, "rate": {"transform": "log10"}},
    },
    "dos": {
        "source": "table",
        "path": "dos.parquet",
        "held_out": "drop",
        "energies": {"start": -1.0, "stop": 1.0, "n": 8},
    },
    "gan": {"epochs": 2, "noise": 4, "generator_hidden": [8], "critic_hidden": [8], "draws": 4},
    "variants": list(DEFAULT_VARIANTS),
    "model": {
        "embedding": "megnet16",
        "message_hidden": 8,
        "element_size": 8,
        "latent": 8,
        "property_size": 16,
        "token_size": 16,
        "key_size": 16,
        "trunk": 16,
        "dos_size": 8,
        "attention_hidden": 16,
        "feature_encoder_hidden": [16],
        "label_encoder_hidden": [16],
        "decoder_hidden": [16],
    },
    "encoder": {"epochs": 2},
    "training": {"epochs": 3, "refit_epochs": 2, "members": 2},
    "baselines": {"trees": 10},
}
TRANSFER = {name for name, variant in DEFAULT_VARIANTS.items() if variant.get("transfer")}


def materials() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels and densities of states of 70 oxides of one to four cations.

    They vary smoothly with the composition, so that there is something to learn and to leak.
    """
    rng = np.random.default_rng(0)
    each = {1: 1, 2: 2, 3: 4, 4: 1}  # compositions per system, by its number of cations
    systems = [s for n in each for s in itertools.combinations(ELEMENTS, n)]
    mixed = [dict(zip(s, rng.integers(1, 9, len(s)), strict=True)) for s in systems]
    for system in systems:
        for _ in range(each[len(system)] - 1):
            mixed.append(dict(zip(system, rng.integers(10, 90, len(system)), strict=True)))
    formulas = ["".join(f"{e}{n}" for e, n in m.items()) + "O9" for m in mixed]
    amounts = np.array([[m.get(e, 0) for e in ELEMENTS] for m in mixed], dtype=float)
    x = amounts / amounts.sum(axis=1, keepdims=True)
    labels = pd.DataFrame(
        {
            "formula": formulas,
            "gap": 2.0 + np.tanh(x @ [1.0, -1.0, 0.5, 2.0, -2.0]),
            "rate": 10.0 ** (x @ [1.0, 0.0, -1.0, 2.0, 0.5]),
            "gap_std": rng.uniform(0.01, 0.1, len(x)),
        }
    )
    centre = x @ np.linspace(-1.0, 1.0, len(ELEMENTS))
    dos = np.exp(-((np.linspace(-1.0, 1.0, 8) - centre[:, None]) ** 2) / 0.2)
    return labels, pd.DataFrame({"formula": formulas, "dos": list(dos)})


def run(folder: Path, *steps: str) -> None:
    """Steps of fold `a`, in this process."""
    config = load_config(folder / "config.yaml")
    per_fold = config.dos.held_out == "drop"
    with contextlib.chdir(folder):
        for step in steps:
            scoped = ["--fold", "a"] if step == "train" or (per_fold and step in SCOPED) else []
            for variant in config.variants if step == "train" else [None]:
                named = [] if variant is None else ["--variant", variant]
                options = ["--config", "config.yaml", *named, *scoped]
                app(["--quiet", step, *options], standalone_mode=False)


SCOPED = ("pretrain-gan", "pretrain-encoder", "featurize")
OF_LABELS = ("prepare-targets", "featurize", "train")
OF_DOS = ("pull-dos", "pretrain-gan", "pretrain-encoder", "featurize", "train")


def rows_of(folder: Path) -> FoldRows:
    """How the samples divide, which are the rows of the table here."""
    config = load_config(folder / "config.yaml")
    with contextlib.chdir(folder):
        table = read_targets("data/processed/targets.parquet")
        assert table.sample_id == [f"row-{i + 1}" for i in range(len(table))]
        return split_rows(config, "a", systems=table.system, given=None)


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


def new_run(folder: Path, held_out: str) -> Path:
    """A whole run of the fold, with all densities of states."""
    folder.mkdir()
    labels, dos = materials()
    labels.to_csv(folder / "table.csv", index=False)
    dos.to_parquet(folder / "dos.parquet")
    config = CONFIG | {"dos": CONFIG["dos"] | {"held_out": held_out}, "systems": "systems.tsv"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "systems.tsv").write_text(SHEET)
    run(folder, "prepare-targets", *OF_DOS)
    return folder


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of the fold, `drop` and `keep`."""
    folder = tmp_path_factory.mktemp("audited")
    for held_out in ("drop", "keep"):
        new_run(folder / held_out, held_out)
    return folder


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
    copy = with_labels(base, tmp_path, change, rows_of(base).test)
    assert differing(predicted(base), predicted(copy)) == set()


@pytest.mark.parametrize("change", [shifted, blanked])
def test_labels_of_samples_in_no_set_change_no_prediction(
    audited: Path, tmp_path: Path, change: Change
) -> None:
    """Supersets of held-out and of validation systems, which would tell of them."""
    base = audited / "drop"
    table = read_targets(base / "data/processed/targets.parquet")
    rows = rows_of(base).left_out
    assert any(set(HELD_OUT[0].split("-")) < set(table.system[i].split("-")) for i in rows)
    copy = with_labels(base, tmp_path, change, rows)
    assert differing(predicted(base), predicted(copy)) == set()


@pytest.mark.parametrize("part", ["train", "validation"])
def test_control_labels_that_models_learn_from_change_predictions(
    audited: Path, tmp_path: Path, part: str
) -> None:
    """One label among those of training, or of the validation systems that size the uncertainty."""
    base = audited / "drop"
    copy = with_labels(base, tmp_path, shifted, getattr(rows_of(base), part)[:1])
    assert differing(predicted(base), predicted(copy)) == set(DEFAULT_VARIANTS)


def with_dos(folder: Path, tmp_path: Path, kind: str) -> Path:
    """The run again without the DOS of held-out systems and their supersets, or with other ones."""
    copy = shutil.copytree(folder, tmp_path / "changed")
    labels, dos = materials()
    table = read_targets(folder / "data/processed/targets.parquet")
    assert table.formula == dos["formula"].tolist() == labels["formula"].tolist()
    elements = [set(system.split("-")) for system in table.system]
    hidden = np.array([any(e >= set(h.split("-")) for h in HELD_OUT) for e in elements])
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
    drop, keep = (predicted(audited / held_out) for held_out in ("drop", "keep"))
    assert differing(drop, keep) == TRANSFER
