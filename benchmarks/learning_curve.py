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

from hclmp.config import Config, load_config
from hclmp.data.features import read_features
from hclmp.data.folds import Fold, Rows, fold_names, split_rows
from hclmp.data.inputs import Labelled
from hclmp.data.tables import Floats, read_targets
from hclmp.models.baselines.fit import fit_baseline
from hclmp.models.checkpoint import Checkpoints
from hclmp.models.hclmp.pretrained import Pretrained
from hclmp.models.interface import Model, Part
from hclmp.pipeline import paths
from hclmp.pipeline.origins import encoder_of, trained_inputs
from hclmp.pipeline.slices import train_slice
from hclmp.pipeline.steps.train import fit_network, labelled, start_of, without_dos
from hclmp.provenance import Provenance, provenance

VARIANTS = ("hclmp_t", "hclmp", "extra_trees")
FRACTIONS = (0.1, 0.2, 0.4, 0.7, 1.0)
SEED = 0

# variant and fraction -> standardised errors of the test rows [n, L], number of training rows
Found = dict[tuple[str, float], tuple[Floats, int]]


def subset(rows: Fold, systems: list[str], fraction: float) -> Rows:
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
    with Checkpoints() as checkpoints:
        ((model, _),) = fit_network(config, variant, [part], checkpoints=checkpoints, threads=1)
    return model


def fold_errors(config: Config, fold: str, variants: list[str]) -> Found:
    """Each variant and fraction fitted on one fold."""
    features = paths.features(config.scope_of(fold))
    table, (inputs, _, _) = read_targets(paths.TARGETS), read_features(features)
    rows = split_rows(config, fold, systems=table.system, given=table.split)
    train_std = np.nanstd(table.transformed()[rows.train], axis=0)
    found = {}
    for variant in variants:
        keep = config.variants[variant].transfer
        seen = without_dos(inputs, keep=keep, features=features)
        start = start_of(config, fold, encoder_of(config, variant, fold))
        validation, test = (labelled(table, seen, r) for r in (rows.validation, rows.test))
        of_variant, read = train_slice(config, variant, fold), trained_inputs(config, variant, fold)
        origin = provenance("train", config=of_variant, inputs=read)
        for fraction in FRACTIONS:
            train = labelled(table, seen, subset(rows, table.system, fraction))
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
    config = load_config(paths.CONFIG)
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
