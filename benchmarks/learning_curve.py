"""How the error on held-out systems falls with the number of training systems.

    python benchmarks/learning_curve.py RUN [--variants hclmp_t extra_trees] [--folds fold-1 ...]

RUN is a directory whose targets and features are made (`hclmp new`, then `snakemake --directory RUN
results/features/features.safetensors`); its configuration says the rest. Of the training systems of
a fold, shuffled by one seed, the first so many are trained on, with all their samples; validation
and test systems stay as they are. `mae_std` is over the standard deviation of all training rows of
the fold, so that the fractions compare. Prints a Markdown table and writes a CSV.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from hclmp.config import Config, load_config, variant_settings
from hclmp.data.folds import FoldRows, RowNumbers, fold_names
from hclmp.data.inputs import Labelled
from hclmp.data.splits import split_rows
from hclmp.data.tables import Floats, read_targets
from hclmp.models.baselines.fit import fit_baseline
from hclmp.models.checkpoint import Checkpoints
from hclmp.models.compute import prepare
from hclmp.models.hclmp.fit import fit_hclmp
from hclmp.models.hclmp.pretrained import Pretrained
from hclmp.models.interface import Model, Part
from hclmp.pipeline.jobs import CONFIG, job
from hclmp.pipeline.reading import read_inputs, read_start
from hclmp.provenance import Provenance

VARIANTS = ("hclmp_t", "hclmp", "extra_trees")
FRACTIONS = (0.1, 0.2, 0.4, 0.7, 1.0)
SEED = 0

# variant and fraction -> standardised errors of the test rows [n, L], number of training rows
Found = dict[tuple[str, float], tuple[Floats, int]]


def subset(rows: FoldRows, systems: list[str], fraction: float) -> RowNumbers:
    """The training rows of a fraction of the training systems; smaller ones are part of larger."""
    names = np.array(systems)[rows.train]
    known = np.unique(names)
    order = np.random.default_rng(SEED).permutation(known)
    kept = order[: max(1, round(fraction * len(known)))]
    return rows.train[np.isin(names, kept)]


def fitted(
    config: Config,
    variant: str,
    train: Labelled,
    validation: Labelled,
    key: Provenance,
    start: Pretrained | None,
) -> Model:
    """A variant fitted as the step `train` does."""
    part = Part(train, validation, key, start)
    chosen = config.variants[variant].model
    if chosen != "hclmp":
        settings, seed = config.baselines, config.training.seed
        return fit_baseline(chosen, part, settings=settings, seed=seed, threads=1)
    sizes, training = variant_settings(config, variant)
    prepare(1, deterministic=config.training.deterministic)
    with Checkpoints() as checkpoints:
        ((model, _),) = fit_hclmp([part], model=sizes, training=training, checkpoints=checkpoints)
    return model


def fold_errors(config: Config, fold: str, variants: list[str]) -> Found:
    """Each variant and fraction fitted on one fold."""
    table = read_targets(job(config, "prepare-targets").outputs["table"])
    rows = split_rows(config, fold, table)
    train_std = np.nanstd(table.transformed()[rows.train], axis=0)
    found = {}
    for variant in variants:
        made = job(config, "train", variant, fold)
        seen, start = read_inputs(config, variant, made.inputs["features"], table), read_start(made)
        validation, test = (Labelled.of(table, seen, r) for r in (rows.validation, rows.test))
        origin = made.provenance()
        for fraction in FRACTIONS:
            train = Labelled.of(table, seen, subset(rows, table.system, fraction))
            key = origin | {"fraction": fraction}
            model = fitted(config, variant, train, validation, key, start)
            errors = np.abs(model.predict(test.inputs).mean - test.t) / train_std
            found[variant, fraction] = (errors, len(train))
            print(f"{variant}, {fold}, {fraction:.0%}: {np.nanmean(errors):.4f}", file=sys.stderr)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("run", type=Path)
    options.add_argument("--variants", nargs="+", default=VARIANTS)
    options.add_argument("--folds", nargs="+", help="default: all of the run")
    options.add_argument("--out", type=Path, default=Path("learning_curve.csv"))
    chosen = options.parse_args()
    out = chosen.out.resolve()
    os.chdir(chosen.run)
    config = load_config(CONFIG)
    folds = [fold_errors(config, f, chosen.variants) for f in chosen.folds or fold_names(config)]
    lines = []
    for variant, fraction in folds[0]:
        errors, rows = zip(*(fold[variant, fraction] for fold in folds), strict=True)
        # as in summary.csv: rows of all folds pooled per property, then the mean over properties
        mae_std = float(np.nanmean(np.nanmean(np.concatenate(errors), axis=0)))
        lines.append((variant, fraction, float(np.mean(rows)), mae_std))
    frame = pd.DataFrame(lines, columns=["variant", "fraction", "training_rows", "mae_std"])
    frame.to_csv(out, index=False)
    print("| systems | training rows | " + " | ".join(chosen.variants) + " |")
    print("| --- " * (2 + len(chosen.variants)) + "|")
    for fraction in FRACTIONS:
        part = frame[frame["fraction"] == fraction]
        values = part.set_index("variant")["mae_std"]
        cells = " | ".join(f"{values[v]:.4f}" for v in chosen.variants)
        print(f"| {fraction:.0%} | {part['training_rows'].iloc[0]:,.0f} | {cells} |")


if __name__ == "__main__":
    main()
