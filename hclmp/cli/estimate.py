"""How many jobs, minutes and megabytes a run takes, before it starts."""

import os

from hclmp.config import CALIBRATION_TREES, MOST_REMEMBERED, Config, variant_settings
from hclmp.data.folds import fold_names
from hclmp.pipeline.jobs import STEPS, jobs
from hclmp.pipeline.scopes import own_calibration_folds, training_batches
from hclmp.sources.inputs import count_rows

# Measured on one core of the machine that hclmp was written on (benchmarks/README.md); another
# machine is within a factor of three or so.
SECONDS_TO_START_A_JOB = 4.0
SECONDS_PER_DEMO_ROW = 0.012
SECONDS_PER_GAN_ROW_AND_EPOCH = 1e-3  # its second training, on all DOS, included
SECONDS_PER_ROW_AND_EPOCH = 3.5e-4
SECONDS_PER_ROW_AND_TREE = 1.5e-5
SECONDS_PER_ROW_OF_RIDGE = 2e-3
SECONDS_PER_ROW_OF_BOOSTING = 2e-2  # of ten properties
BYTES_PER_PREDICTION = 120
BYTES_PER_PARAMETER = 4 * 300_000
BYTES_PER_REMEMBERED_ROW = 4 * 256  # the key, of each member
BYTES_OF_A_PLOT = 150_000
BYTES_OF_THE_REPORT = 6_500_000


def estimate(config: Config) -> str:
    """A sentence on a whole run (what is finished already costs nothing)."""
    folds = len(fold_names(config))
    rows = count_rows(config.targets)
    materials = count_rows(config.dos) if config.pretrains else 0
    count = _count_jobs(config)
    final, calibrations = config.final_variant, len(own_calibration_folds(config))
    what = f"{count} jobs ({len(config.variants)} variants x {folds} folds"
    if rows is None:
        return (
            f"A whole run: {what}). How long it takes is not known before the source is read: its "
            "rows are not. What is finished already is not done again."
        )
    seconds = (
        rows * (config.targets.source == "demo") * SECONDS_PER_DEMO_ROW
        + _dos_seconds(config, materials or 0)
        + folds * sum(_training_seconds(config, name, rows) for name in config.variants)
        + (0 if final is None else (1 + calibrations) * _training_seconds(config, final, rows))
        + count * SECONDS_TO_START_A_JOB
    )
    cores = os.cpu_count() or 1
    unknown = (
        ", and what the generator takes, which is not known before its materials are read"
        if materials is None
        else ""
    )
    return (
        f"A whole run: {what}, {rows} rows), "
        f"about {max(1, round(seconds / 60))} minutes of computing "
        f"({max(1, round(seconds / 60 / cores))} on {cores} cores), "
        f"{max(1, round(_bytes(config, rows, folds) / 1e6))} MB{unknown}. "
        "What is finished already is not done again."
    )


def _count_jobs(config: Config) -> int:
    """The jobs of a whole run; folds that train as one model are one job."""
    counts = {step: len(jobs(config, step)) for step in STEPS}
    if not config.pretrains:
        counts["pull-dos"] = 0  # no variant uses them
    spared = sum(len(variants) * (len(folds) - 1) for variants, folds in training_batches(config))
    return sum(counts.values()) - spared


def _dos_seconds(config: Config, materials: int) -> float:
    """Seconds on one core to simulate the demo's DOS, and to train generators and encoders."""
    passes = config.encoder.epochs * config.training.members * config.pretrains_encoder
    gan = config.gan.epochs * SECONDS_PER_GAN_ROW_AND_EPOCH
    each = gan + passes * SECONDS_PER_ROW_AND_EPOCH
    simulated = (config.dos.source == "demo") * SECONDS_PER_DEMO_ROW
    return materials * (simulated + len(jobs(config, "pretrain-gan")) * each)


def _bytes(config: Config, rows: int, folds: int) -> int:
    """What the results take on disk."""
    neural = len(config.neural)
    return (
        rows * 10 * len(config.variants) * BYTES_PER_PREDICTION
        + folds
        * neural
        * config.training.members
        * (BYTES_PER_PARAMETER + min(rows, MOST_REMEMBERED) * BYTES_PER_REMEMBERED_ROW)
        + (len(config.variants) + 6) * BYTES_OF_A_PLOT
        + BYTES_OF_THE_REPORT
    )


def _training_seconds(config: Config, variant: str, rows: int) -> float:
    """Seconds on one core for one fold."""
    kind = config.variants[variant].model
    if kind == "hclmp":
        _, training = variant_settings(config, variant)
        cost = SECONDS_PER_ROW_AND_EPOCH
        if config.variants[variant].preset == "paper":
            cost *= 15
        return rows * (training.epochs + training.refit_epochs) * training.members * cost
    if kind in ("extra_trees", "random_forest"):
        # four smaller forests before it choose the settings
        trees = config.baselines.trees + 4 * min(config.baselines.trees, CALIBRATION_TREES)
        return rows * trees * SECONDS_PER_ROW_AND_TREE
    each = {"ridge": SECONDS_PER_ROW_OF_RIDGE, "boosting": SECONDS_PER_ROW_OF_BOOSTING}
    return rows * each.get(kind, 0.0)
