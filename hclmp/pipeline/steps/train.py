"""Step ``train``: one variant on one or several folds, and predictions of the held-out samples."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hclmp.config import Config, variant_settings
from hclmp.data.folds import FoldRows, RowNumbers, split_rows
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats, Predictions, Targets, read_targets, write_predictions
from hclmp.files import write_csv, write_json
from hclmp.models.interface import Model, Prediction
from hclmp.pipeline import cache
from hclmp.pipeline.checks import check_inputs
from hclmp.pipeline.jobs import Job
from hclmp.pipeline.reading import read_inputs, read_start

log = logging.getLogger(__name__)


def train(config: Config, jobs: Sequence[Job], *, threads: int = 1) -> None:
    """Fit a variant on the training rows of folds and predict the test rows of each.

    Several folds of an H-CLMP variant train as one model; their results are what they are alone, to
    the rounding of the last digits.

    Args:
        config: the resolved configuration.
        jobs: of one variant, a fold each; they read the table ``targets``, ``features`` and, where
            the variant starts pretrained, an ``encoder``; they write ``predictions``, ``settings``
            and, of H-CLMP, ``weights`` and ``history``.
        threads: of the computation; the result depends on it only for H-CLMP, in the last digits.

    Raises:
        UserError: an input belongs to another run, or the training diverged.
    """
    for job in jobs:
        check_inputs(job)
    jobs = [job for job in jobs if not cache.restore(job.provenance(), job.outputs.values())]
    if not jobs:
        return
    variant = jobs[0].scope[0]
    table = read_targets(jobs[0].inputs["targets"])
    paths = {job.inputs["features"] for job in jobs}
    read = {path: read_inputs(config, variant, path, table) for path in paths}
    inputs = [read[job.inputs["features"]] for job in jobs]
    rows = [_rows(config, job, table) for job in jobs]
    if variant in config.neural:
        _train_networks(config, jobs, table, inputs, rows, threads=threads)
    else:
        for job, seen, fold in zip(jobs, inputs, rows, strict=True):
            _train_baseline(config, job, table, seen, fold, threads=threads)


def _rows(config: Config, job: Job, table: Targets) -> FoldRows:
    """How the samples divide around the systems of a fold."""
    variant, fold = job.scope
    rows = split_rows(config, fold, systems=table.system, given=table.split)
    log.info(
        "%s on fold %s: %d training, %d validation and %d test samples; %d in no set (supersets)",
        *(variant, fold, len(rows.train), len(rows.validation), len(rows.test)),
        len(rows.left_out),
    )
    return rows


def _train_networks(
    config: Config,
    jobs: Sequence[Job],
    table: Targets,
    inputs: Sequence[Inputs],
    rows: Sequence[FoldRows],
    *,
    threads: int,
) -> None:
    """Train H-CLMP on folds and write weights, settings, history and predictions of each."""
    from hclmp.models.compute import prepare  # torch takes seconds, and baselines do without
    from hclmp.models.hclmp.ensemble import Part, fit_hclmp

    prepare(threads, deterministic=config.training.deterministic)
    model, training = variant_settings(config, jobs[0].scope[0])
    parts = [
        Part(
            Labelled.of(table, seen, fold.train),
            Labelled.of(table, seen, fold.validation),
            job.provenance(),
            read_start(job),
        )
        for job, seen, fold in zip(jobs, inputs, rows, strict=True)
    ]
    fits, checkpoints = fit_hclmp(parts, model=model, training=training)
    # History carries no provenance and is written between what does, so that no kill leaves it
    # beside another run's.
    for i, (fitted, history) in enumerate(fits):
        origin, files = parts[i].key, jobs[i].outputs
        parameters = sum(p[0].numel() for p in fitted.network.parameters())
        write_json(files["settings"], {"provenance": origin, "parameters": parameters})
        fitted.save(files["weights"], provenance=origin)
        write_csv(files["history"], pd.DataFrame(history))
    for i, (fitted, _) in enumerate(fits):
        _write_predictions(jobs[i], table, inputs[i], rows[i], fitted)
    for job in jobs:
        cache.keep(job.provenance(), job.outputs.values())
    for checkpoint in checkpoints:  # not before the last file is written: a kill repeats nothing
        checkpoint.remove()


def _train_baseline(
    config: Config, job: Job, table: Targets, inputs: Inputs, rows: FoldRows, *, threads: int
) -> None:
    """Fit a baseline and write its settings, from which it can be fitted again, and predictions."""
    from hclmp.models.baselines import fit_baseline

    train, validation = (Labelled.of(table, inputs, r) for r in (rows.train, rows.validation))
    fitted = fit_baseline(
        config.variants[job.scope[0]].model,
        train,
        validation,
        settings=config.baselines,
        seed=config.training.seed,
        threads=threads,
    )
    write_json(job.outputs["settings"], {"provenance": job.provenance(), **fitted.settings()})
    _write_predictions(job, table, inputs, rows, fitted)
    cache.keep(job.provenance(), job.outputs.values())


def _write_predictions(
    job: Job, table: Targets, inputs: Inputs, rows: FoldRows, model: Model
) -> None:
    """Predict the test samples of a fold."""
    variant, fold = job.scope
    labels = table.transformed()
    predicted = model.predict(inputs.take(rows.test))
    train_std = np.nanstd(labels[rows.train], axis=0)
    write_predictions(
        job.outputs["predictions"],
        Predictions(
            frame=prediction_frame(table, rows.test, predicted, train_std=train_std, fold=fold),
            properties=table.properties,
            covariance=predicted.covariance,
            simulated=table.simulated,
            provenance=job.provenance(),
        ),
    )
    error = np.abs(predicted.mean - labels[rows.test]) / np.where(train_std > 0, train_std, 1.0)
    log.info("%s on fold %s: standardised MAE %.4f", variant, fold, np.nanmean(error))


def prediction_frame(
    table: Targets, rows: RowNumbers, predicted: Prediction, *, train_std: Floats, fold: str
) -> pd.DataFrame:
    """Predictions as one row per sample and property, in property units and transformed."""
    t_std = np.hypot(predicted.std_aleatoric, predicted.std_epistemic)
    labels = table.transformed()[rows]
    frames = []
    for i, prop in enumerate(table.properties):
        t_pred = predicted.mean[:, i]
        columns = {
            "sample_id": [table.sample_id[r] for r in rows],
            "formula": [table.formula[r] for r in rows],
            "system": [table.system[r] for r in rows],
            "fold": fold,
            "property": prop.name,
            "y_true": table.values[rows, i],
            "y_pred": prop.inverse(t_pred),
            "y_std": prop.inverse_std(t_pred, t_std[:, i]),
            "t_true": labels[:, i],
            "t_pred": t_pred,
            "t_std_aleatoric": predicted.std_aleatoric[:, i],
            "t_std_epistemic": predicted.std_epistemic[:, i],
            "train_std": train_std[i],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
