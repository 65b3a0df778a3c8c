"""Step ``train``: one variant on one fold, and its predictions of the held-out samples."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hclmp import cache
from hclmp.config import Config, variant_settings
from hclmp.errors import UserError
from hclmp.features import read_features
from hclmp.folds import Rows, split_rows
from hclmp.models.interface import Inputs, Labelled, Model, Prediction
from hclmp.paths import Trained
from hclmp.provenance import Provenance, provenance, write_csv, write_json
from hclmp.slices import train_slice
from hclmp.tables import Floats, Predictions, Targets, read_targets, write_predictions

if TYPE_CHECKING:
    from hclmp.models.checkpoint import Checkpoint
    from hclmp.models.ensemble import Ensemble

log = logging.getLogger(__name__)


def train(
    config: Config,
    *,
    variant: str,
    fold: str,
    targets: Path,
    features: Path,
    out: Trained,
    threads: int = 1,
) -> None:
    """Fit a variant on a fold's training rows and predict the fold's test rows.

    Args:
        config: the resolved configuration.
        variant, fold: which.
        targets, features: files that are read.
        out: the files that are written.
        threads: of the computation; the result depends on it only for H-CLMP, in the last digits.

    Raises:
        UserError: no such variant or fold, features of other samples, or a training that diverged.
    """
    table = read_targets(targets)
    inputs, sample_id, _ = read_features(features)
    if sample_id != table.sample_id:
        raise UserError(f"{features}: made of other samples than {targets}; run `hclmp featurize`")
    origin = provenance(
        "train",
        config=train_slice(config, variant, fold),
        inputs={"targets": targets, "features": features},
    )
    neural = config.variants[variant].model == "hclmp"
    files = [out.settings, out.predictions, *([out.weights, out.history] if neural else [])]
    if cache.restore(origin, files):
        return
    rows = split_rows(config, fold, systems=table.system, given=table.split)
    log.info(
        "%s on fold %s: %d training, %d validation and %d test samples; %d in no set (supersets)",
        *(variant, fold, len(rows.train), len(rows.validation), len(rows.test)),
        len(rows.left_out),
    )
    inputs = without_dos(inputs, keep=config.variants[variant].transfer, features=features)
    train_rows, validation_rows, test_rows = (
        labelled(table, inputs, r) for r in (rows.train, rows.validation, rows.test)
    )
    model: Model
    checkpoint: Checkpoint | None = None
    if neural:
        network, history, checkpoint = fit_network(
            config, variant, train_rows, validation_rows, key=origin, threads=threads
        )
        _write_network(out, network, history, origin)
        model = network
    else:
        model = _fit_baseline(config, variant, train_rows, validation_rows, origin, out, threads)
    predicted = model.predict(test_rows.inputs)
    train_std = np.nanstd(train_rows.t, axis=0)
    write_predictions(
        out.predictions,
        Predictions(
            frame=prediction_frame(table, rows.test, predicted, train_std=train_std, fold=fold),
            properties=table.properties,
            covariance=predicted.covariance,
            simulated=table.simulated,
            provenance=origin,
        ),
    )
    cache.keep(origin, files)
    if checkpoint is not None:  # not before the last file is written: a kill repeats nothing
        checkpoint.remove()
    error = np.abs(predicted.mean - test_rows.t) / np.where(train_std > 0, train_std, 1.0)
    log.info("%s on fold %s: standardised MAE %.4f", variant, fold, np.nanmean(error))


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
    train_rows: Labelled,
    validation_rows: Labelled,
    *,
    key: dict[str, Any],
    threads: int,
) -> "tuple[Ensemble, list[dict[str, Any]], Checkpoint]":
    """Train a variant of H-CLMP with its settings; ``key`` and result are those of `fit_hclmp`."""
    from hclmp.models.compute import prepare  # torch takes seconds, and the baselines do without
    from hclmp.models.ensemble import fit_hclmp

    prepare(threads)
    model, training = variant_settings(config, variant)
    return fit_hclmp(train_rows, validation_rows, model=model, training=training, key=key)


def _write_network(
    out: Trained, fitted: "Ensemble", history: list[dict[str, Any]], origin: Provenance
) -> None:
    """Write the weights, settings and history of a trained H-CLMP."""
    parameters = sum(p[0].numel() for p in fitted.network.parameters())
    write_json(out.settings, {"provenance": origin, "parameters": parameters})
    fitted.save(out.weights, provenance=origin)
    # It carries no provenance, and stands between what does: no kill leaves it with another's.
    write_csv(out.history, pd.DataFrame(history))


def _fit_baseline(
    config: Config,
    variant: str,
    train_rows: Labelled,
    validation_rows: Labelled,
    origin: Provenance,
    out: Trained,
    threads: int,
) -> Model:
    """Fit a baseline and write its settings, from which it can be fitted again."""
    from hclmp.models.baselines import fit_baseline

    fitted = fit_baseline(
        config.variants[variant].model,
        train_rows,
        validation_rows,
        settings=config.baselines,
        seed=config.training.seed,
        threads=threads,
    )
    write_json(out.settings, {"provenance": origin, **fitted.settings()})
    return fitted
