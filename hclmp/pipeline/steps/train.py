"""Step ``train``: one variant on one or several folds, and predictions of the held-out samples."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from hclmp.config import Config, variant_settings
from hclmp.data.folds import RowNumbers
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.splits import split_rows
from hclmp.data.tables import Floats, Predictions, Targets, read_targets, write_predictions
from hclmp.files import write_csv, write_json
from hclmp.models.checkpoint import Checkpoints
from hclmp.models.interface import Model, Part, Prediction
from hclmp.pipeline import cache
from hclmp.pipeline.checks import check_inputs
from hclmp.pipeline.jobs import Job
from hclmp.pipeline.reading import read_inputs, read_start

log = logging.getLogger(__name__)


def train(config: Config, jobs: Sequence[Job], *, threads: int = 1) -> None:
    """Fit a variant on the training rows of folds and predict the test rows of each.

    Several folds of an H-CLMP variant train as one model; their results are what they are alone, to
    the rounding of the last digits. The number of threads changes the last digits of H-CLMP alone.

    Args:
        config: the resolved configuration.
        jobs: of one variant, a fold each.

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
    inputs = {path: read_inputs(config, variant, path, table) for path in paths}
    folds = [_divide(config, job, table, inputs[job.inputs["features"]]) for job in jobs]
    parts = [part for part, _ in folds]
    models: list[Model] = []
    with Checkpoints() as checkpoints:
        if variant in config.neural:
            models += _train_networks(config, jobs, parts, checkpoints, threads=threads)
        else:
            pairs = zip(jobs, parts, strict=True)
            models += [_train_baseline(config, job, part, threads=threads) for job, part in pairs]
        for job, (part, test), model in zip(jobs, folds, models, strict=True):
            seen = inputs[job.inputs["features"]]
            _write_predictions(job, table, seen, part, test, model)
        for job, part in zip(jobs, parts, strict=True):
            cache.keep(part.key, job.outputs.values())


def _divide(config: Config, job: Job, table: Targets, inputs: Inputs) -> tuple[Part, RowNumbers]:
    """What a model of a fold is fitted to, and the rows that it is tested on."""
    variant, fold = job.scope
    rows = split_rows(config, fold, table)
    log.info(
        "%s on fold %s: %d training, %d validation and %d test samples; %d in no set (supersets)",
        *(variant, fold, len(rows.train), len(rows.validation), len(rows.test)),
        len(rows.left_out),
    )
    train, validation = (Labelled.of(table, inputs, r) for r in (rows.train, rows.validation))
    return Part(train, validation, job.provenance(), read_start(job)), rows.test


def _train_networks(
    config: Config,
    jobs: Sequence[Job],
    parts: Sequence[Part],
    checkpoints: Checkpoints,
    *,
    threads: int,
) -> list[Model]:
    """Train H-CLMP on folds and write weights, settings and history of each."""
    from hclmp.models.compute import prepare  # torch takes seconds, and the baselines do without
    from hclmp.models.hclmp.fit import fit_hclmp

    prepare(threads, deterministic=config.training.deterministic)
    model, training = variant_settings(config, jobs[0].scope[0])
    fits = fit_hclmp(parts, model=model, training=training, checkpoints=checkpoints)
    for job, part, (fitted, history) in zip(jobs, parts, fits, strict=True):
        parameters = sum(p[0].numel() for p in fitted.network.parameters())
        write_json(job.outputs["settings"], {"provenance": part.key, "parameters": parameters})
        fitted.save(job.outputs["weights"], provenance=part.key)
        # It carries no provenance, and stands between what does: no kill leaves it with another's.
        write_csv(job.outputs["history"], pd.DataFrame(history))
    return [fitted for fitted, _ in fits]


def _train_baseline(config: Config, job: Job, part: Part, *, threads: int) -> Model:
    """Fit a baseline and write its settings, from which it can be fitted again."""
    from hclmp.models.baselines.fit import fit_baseline

    fitted = fit_baseline(
        config.variants[job.scope[0]].model,
        part,
        settings=config.baselines,
        seed=config.training.seed,
        threads=threads,
    )
    write_json(job.outputs["settings"], {"provenance": part.key, **fitted.settings()})
    return fitted


def _write_predictions(
    job: Job, table: Targets, inputs: Inputs, part: Part, test: RowNumbers, model: Model
) -> None:
    variant, fold = job.scope
    predicted = model.predict(inputs.take(test))
    train_std = np.nanstd(part.train.t, axis=0)
    write_predictions(
        job.outputs["predictions"],
        Predictions(
            frame=prediction_frame(table, test, predicted, train_std=train_std, fold=fold),
            properties=table.properties,
            covariance=predicted.covariance,
            simulated=table.simulated,
            provenance=part.key,
        ),
    )
    error = np.abs(predicted.mean - table.transformed()[test])
    error /= np.where(train_std > 0, train_std, 1.0)
    log.info("%s on fold %s: standardised MAE %.4f", variant, fold, np.nanmean(error))


def prediction_frame(
    table: Targets, rows: RowNumbers, predicted: Prediction, *, train_std: Floats, fold: str
) -> pd.DataFrame:
    """Predictions as one row per sample and property, in property units and transformed."""
    t_std, (t_low, t_high) = predicted.std, predicted.interval()
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
            "y_low": prop.inverse(t_low[:, i]),
            "y_high": prop.inverse(t_high[:, i]),
            "t_true": labels[:, i],
            "t_pred": t_pred,
            "t_low": t_low[:, i],
            "t_high": t_high[:, i],
            "t_std_aleatoric": predicted.std_aleatoric[:, i],
            "t_std_epistemic": predicted.std_epistemic[:, i],
            "train_std": train_std[i],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
