"""Step ``train``: one variant on one or several folds, and predictions of the held-out samples."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hclmp.config import Config, variant_settings
from hclmp.data.features import read_features
from hclmp.data.folds import Rows, split_rows
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats, Predictions, Targets, read_targets, write_predictions
from hclmp.errors import UserError
from hclmp.files import write_csv, write_json
from hclmp.models.checkpoint import Checkpoints, History
from hclmp.models.interface import Model, Part, Prediction
from hclmp.pipeline import cache
from hclmp.pipeline.paths import Trained
from hclmp.pipeline.slices import encoder_slice, train_slice
from hclmp.provenance import Provenance, provenance

if TYPE_CHECKING:
    from hclmp.models.hclmp.ensemble import Ensemble
    from hclmp.models.hclmp.pretrained import Pretrained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """A fold that is to be trained.

    Attributes:
        fold: its name.
        part: its training and validation samples; its key is the provenance of the results.
        test: its test samples.
        rows: the rows of the test samples in the table.
        files: what is written.
    """

    fold: str
    part: Part
    test: Labelled
    rows: Rows
    files: list[Path]


def train(
    config: Config,
    *,
    variant: str,
    targets: Path,
    features: Mapping[str, Path],
    encoders: Mapping[str, Path | None],
    threads: int = 1,
) -> None:
    """Fit a variant on the training rows of folds and predict the test rows of each.

    Several folds of an H-CLMP variant train as one model; their results are what they are alone, to
    the rounding of the last digits.

    Args:
        config: the resolved configuration.
        variant: which.
        targets: the targets table.
        features: fold -> the features file that it reads; these folds are trained.
        encoders: fold -> the pretrained encoder that the variant starts from, if any.
        threads: of the computation; the result depends on it only for H-CLMP, in the last digits.

    Raises:
        UserError: no such variant or fold, features of other samples, or a training that diverged.
    """
    variant_settings(config, variant)  # refuses a variant that is none
    starts = {fold: start_of(config, fold, file) for fold, file in encoders.items()}
    table = read_targets(targets)
    read = {file: _read(file, table, targets) for file in dict.fromkeys(features.values())}
    neural, jobs = config.variants[variant].model == "hclmp", []
    for fold, file in features.items():
        encoder = encoders[fold]
        origin = provenance(
            "train",
            config=train_slice(config, variant, fold),
            inputs={"targets": targets, "features": file}
            | ({} if encoder is None else {"encoder": encoder}),
        )
        out = Trained(variant, fold)
        files = [out.settings, out.predictions, *([out.weights, out.history] if neural else [])]
        if not cache.restore(origin, files):
            keep = config.variants[variant].transfer
            inputs = without_dos(read[file], keep=keep, features=file)
            jobs.append(_job(config, variant, fold, table, inputs, origin, files, starts[fold]))
    models: list[Model] = []
    with Checkpoints() as checkpoints:
        if neural and jobs:
            parts = [job.part for job in jobs]
            fits = fit_network(config, variant, parts, checkpoints=checkpoints, threads=threads)
            for job, (network, history) in zip(jobs, fits, strict=True):
                _write_network(Trained(variant, job.fold), network, history, job.part.key)
                models.append(network)
        else:
            models += [_fit_baseline(config, variant, job, threads) for job in jobs]
        for job, model in zip(jobs, models, strict=True):
            _write_predictions(variant, job, table, model)
        for job in jobs:
            cache.keep(job.part.key, job.files)


def start_of(config: Config, fold: str | None, encoder: Path | None) -> "Pretrained | None":
    """Read the pretrained encoder that a variant starts from on a fold, or on all samples, if any.

    Raises:
        UserError: it is missing, or was made with other settings.
    """
    if encoder is None:
        return None
    from hclmp.models.hclmp.pretrained import Pretrained  # torch, which baselines do without

    made_with = encoder_slice(config, config.scope_of(fold))
    return Pretrained.from_file(encoder, made_with=made_with)


def _read(features: Path, table: Targets, targets: Path) -> Inputs:
    """The features of the samples of the table."""
    inputs, sample_id, _ = read_features(features)
    if sample_id != table.sample_id:
        raise UserError(f"{features}: made of other samples than {targets}; run `hclmp featurize`")
    return inputs


def _job(
    config: Config,
    variant: str,
    fold: str,
    table: Targets,
    inputs: Inputs,
    origin: Provenance,
    files: list[Path],
    start: "Pretrained | None",
) -> _Job:
    """The samples of a fold."""
    rows = split_rows(config, fold, systems=table.system, given=table.split)
    log.info(
        "%s on fold %s: %d training, %d validation and %d test samples; %d in no set (supersets)",
        *(variant, fold, len(rows.train), len(rows.validation), len(rows.test)),
        len(rows.left_out),
    )
    train, validation, test = (
        labelled(table, inputs, r) for r in (rows.train, rows.validation, rows.test)
    )
    return _Job(fold, Part(train, validation, origin, start), test, rows.test, files)


def _write_predictions(variant: str, job: _Job, table: Targets, model: Model) -> None:
    """Predict the test samples of a fold."""
    predicted = model.predict(job.test.inputs)
    train_std = np.nanstd(job.part.train.t, axis=0)
    write_predictions(
        Trained(variant, job.fold).predictions,
        Predictions(
            frame=prediction_frame(table, job.rows, predicted, train_std=train_std, fold=job.fold),
            properties=table.properties,
            covariance=predicted.covariance,
            simulated=table.simulated,
            provenance=job.part.key,
        ),
    )
    error = np.abs(predicted.mean - job.test.t) / np.where(train_std > 0, train_std, 1.0)
    log.info("%s on fold %s: standardised MAE %.4f", variant, job.fold, np.nanmean(error))


def labelled(table: Targets, inputs: Inputs, rows: Rows) -> Labelled:
    """Rows of a table with its features, its labels and what is known of their noise."""
    noise = table.transformed_noise()
    return Labelled(
        inputs.take(rows), table.transformed()[rows], None if noise is None else noise[rows]
    )


def prediction_frame(
    table: Targets, rows: Rows, predicted: Prediction, *, train_std: Floats, fold: str
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


def without_dos(inputs: Inputs, *, keep: bool, features: Path) -> Inputs:
    """Only a variant with transfer may see the DOS feature.

    Raises:
        UserError: it is to be kept, but the features file holds none.
    """
    if not keep:
        return Inputs(inputs.compositions, inputs.elements)
    if inputs.dos is None:
        raise UserError(f"{features}: no DOS feature in it; run `hclmp featurize`")
    return inputs


def fit_network(
    config: Config,
    variant: str,
    parts: Sequence[Part],
    *,
    checkpoints: Checkpoints,
    threads: int,
) -> "list[tuple[Ensemble, History]]":
    """Train a variant of H-CLMP with its settings.

    Args:
        config: the resolved configuration.
        variant: which.
        parts: the samples of the folds.
        checkpoints: where an interrupted training resumes from.
        threads: of the computation.

    Returns:
        As `fit_hclmp`.
    """
    from hclmp.models.compute import prepare  # torch takes seconds, and the baselines do without
    from hclmp.models.hclmp.fit import fit_hclmp

    prepare(threads, deterministic=config.training.deterministic)
    model, training = variant_settings(config, variant)
    return fit_hclmp(parts, model=model, training=training, checkpoints=checkpoints)


def _write_network(out: Trained, fitted: "Ensemble", history: History, origin: Provenance) -> None:
    """Write the weights, settings and history of a trained H-CLMP."""
    parameters = sum(p[0].numel() for p in fitted.network.parameters())
    write_json(out.settings, {"provenance": origin, "parameters": parameters})
    fitted.save(out.weights, provenance=origin)
    # It carries no provenance, and stands between what does: no kill leaves it with another's.
    write_csv(out.history, pd.DataFrame(history))


def _fit_baseline(config: Config, variant: str, job: _Job, threads: int) -> Model:
    """Fit a baseline and write its settings, from which it can be fitted again."""
    from hclmp.models.baselines.fit import fit_baseline

    fitted = fit_baseline(
        config.variants[variant].model,
        job.part,
        settings=config.baselines,
        seed=config.training.seed,
        threads=threads,
    )
    settings = {"provenance": job.part.key, **fitted.settings()}
    write_json(Trained(variant, job.fold).settings, settings)
    return fitted
