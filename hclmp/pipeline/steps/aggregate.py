"""Step ``aggregate``: the predictions of all variants and folds to metrics and plots."""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hclmp.config import Config
from hclmp.data.folds import fold_names
from hclmp.data.tables import Predictions, correlation_of, read_predictions
from hclmp.errors import UserError, join_some
from hclmp.evaluation import plots
from hclmp.evaluation.metrics import by_system, summarise
from hclmp.files import write_csv, write_json
from hclmp.pipeline.origins import predictions_of, trained_inputs
from hclmp.pipeline.paths import Gan, Trained
from hclmp.pipeline.slices import aggregate_slice, dos_of_held_out_systems, train_slice
from hclmp.provenance import hash_of, provenance, sha256

log = logging.getLogger(__name__)

MOST_POINTS = 2000  # of a variant in parity.csv


def aggregate(config: Config, *, folder: Path) -> None:
    """Pool the folds, compute metrics, draw plots.

    Args:
        config: the resolved configuration, which says which variants and folds there are.
        folder: ``results/metrics``.

    Raises:
        UserError: a predictions file is missing, or comes from other data or another configuration.
    """
    folds = fold_names(config)
    files = {v: [Trained(v, fold).predictions for fold in folds] for v in config.variants}
    tables = {v: [read_predictions(path) for path in paths] for v, paths in files.items()}
    _check_origin(config, folds, files, tables)
    frames = {v: pd.concat([t.frame for t in ts], ignore_index=True) for v, ts in tables.items()}
    _check_samples(frames)
    learned = {v: found for v, ts in tables.items() if (found := _learned(folds, ts))}
    summary = summarise(frames, learned)
    frames = {v: frame[frame["y_true"].notna()] for v, frame in frames.items()}
    # What alone says where they come from goes first and comes last, if this is killed between.
    (folder / "metrics.json").unlink(missing_ok=True)
    write_csv(folder / "by_system.csv", by_system(frames))
    _plots(config, frames, tables, folds, folder / "plots")
    _plot_data(config, frames, folds, folder / "plots")
    first = next(iter(tables.values()))[0]
    of_run, inputs = aggregate_slice(config), predictions_of(config)
    origin = provenance("aggregate", config=of_run, inputs=inputs)
    write_csv(folder / "summary.csv", summary)
    write_json(folder / "metrics.json", _overall(config, summary, first) | {"provenance": origin})


def _learned(folds: list[str], tables: list[Predictions]) -> dict[str, pd.DataFrame]:
    """The correlation that a variant learned on each fold; of the baselines none."""
    names = [p.name for p in tables[0].properties]
    return {
        fold: pd.DataFrame(correlation_of(t.covariance), names, names)
        for fold, t in zip(folds, tables, strict=True)
        if t.covariance is not None
    }


def _check_origin(
    config: Config,
    folds: list[str],
    files: Mapping[str, list[Path]],
    tables: Mapping[str, list[Predictions]],
) -> None:
    """Refuse predictions of another configuration or of other data; warn of other code."""
    sources = {t.provenance["source"] for ts in tables.values() for t in ts}
    digest = cache(sha256)  # most are read by many
    for variant, paths in files.items():
        for path, table, fold in zip(paths, tables[variant], folds, strict=True):
            origin = table.provenance
            if hash_of(origin["config"]) != hash_of(train_slice(config, variant, fold)):
                raise UserError(
                    f"{path}: made with another configuration than this run's "
                    f"({_difference(origin['config'], train_slice(config, variant, fold))}). "
                    f"Train it again: `hclmp train --variant {variant} --fold {fold}`."
                )
            other = [
                name
                for name, read in trained_inputs(config, variant, fold).items()
                if read.is_file() and origin["inputs"].get(name) != digest(read)
            ]
            if other:
                raise UserError(
                    f"{path}: made from other {join_some(other)} than this run's. Train it again: "
                    f"`hclmp train --variant {variant} --fold {fold}`."
                )
    if len(sources) > 1:
        log.warning("the predictions were made by %d versions of the source", len(sources))


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Where two configuration slices differ, in words."""
    keys = [k for k in sorted({*found, *wanted}) if found.get(k) != wanted.get(k)]
    texts = []
    for key in keys:
        a, b = found.get(key), wanted.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            texts.append(f"{key}.{_difference(a, b)}")
        else:
            texts.append(f"{key}: {a} there, {b} here")
    return join_some(texts)


def _check_samples(frames: Mapping[str, pd.DataFrame]) -> None:
    """Every variant must be judged on the same samples."""
    samples = {variant: set(frame["sample_id"]) for variant, frame in frames.items()}
    first, *others = samples
    for variant in others:
        if samples[variant] != samples[first]:
            raise UserError(f"predictions of `{variant}` and `{first}` are of different samples")


def _plots(
    config: Config,
    frames: Mapping[str, pd.DataFrame],
    tables: Mapping[str, list[Predictions]],
    folds: list[str],
    folder: Path,
) -> None:
    """Draw everything there is data for."""
    first = next(iter(tables.values()))[0]
    properties, simulated = first.properties, first.simulated
    for variant, frame in frames.items():
        plots.parity(
            folder / f"parity_{variant}.png", frame, properties, variant, simulated=simulated
        )
    plots.mae_by_property(folder / "mae_by_property.png", frames, properties, simulated=simulated)
    plots.mae_by_system(folder / "mae_by_system.png", frames, simulated=simulated)
    neural = [v for v, settings in config.variants.items() if settings.model == "hclmp"]
    if neural:
        histories = {
            v: {fold: pd.read_csv(Trained(v, fold).history) for fold in folds} for v in neural
        }
        plots.loss_curves(folder / "loss_curves.png", histories, simulated=simulated)
        learned = [t.covariance for t in tables[neural[0]] if t.covariance is not None]
        plots.correlation(
            folder / "correlation.png",
            frames[neural[0]],
            learned,
            properties,
            neural[0],
            simulated=simulated,
        )
    if config.pretrains:
        gan = Gan(config.scope_of(folds[0]))
        plots.generated_dos(folder / "generated_dos.png", gan.examples, gan.metrics)
        plots.gan_curves(folder / "gan_curves.png", gan.history)


def _plot_data(
    config: Config, frames: Mapping[str, pd.DataFrame], folds: list[str], folder: Path
) -> None:
    """The same as data, for `dvc plots` to lay runs over one another (templates: .dvc/plots/)."""
    columns = ["variant", "property", "y_true", "y_pred"]
    points = []
    for variant, frame in frames.items():
        some = np.unique(np.linspace(0, len(frame) - 1, MOST_POINTS).astype(int))
        points.append(frame.iloc[some].assign(variant=variant)[columns])
    write_csv(folder / "parity.csv", pd.concat(points))
    neural = [v for v, settings in config.variants.items() if settings.model == "hclmp"]
    histories = [(v, fold, Trained(v, fold).history) for v in neural for fold in folds]
    if histories:
        tables = [pd.read_csv(f).assign(variant=v, fold=fold) for v, fold, f in histories]
        columns = ["variant", "fold", "member", "epoch", "loss", "validation_mae"]
        write_csv(folder / "losses.csv", pd.concat(tables).query("stage == 'selection'")[columns])
    if config.pretrains:
        scopes = folds if config.generator_per_fold else [None]
        curves = [pd.read_csv(Gan(s).history).assign(fold=s or "all") for s in scopes]
        write_csv(folder / "gan.csv", pd.concat(curves).query("stage == 'selection'"))


def _overall(config: Config, summary: pd.DataFrame, first: Predictions) -> dict[str, Any]:
    """The headline numbers: variant -> metric -> value."""
    rows = summary[summary["property"] == "all"]
    # what is not defined (r2 of single labels) is null in JSON
    values = {
        str(variant): {
            metric: value if np.isfinite(value) else None
            for metric, value in zip(frame["metric"], frame["value"], strict=True)
        }
        for variant, frame in rows.groupby("variant")
    }
    return {
        "variants": {v: values[v] for v in config.variants},
        "n": int(rows["n"].iloc[0]),  # of samples
        "properties": [p.name for p in first.properties],
        "dos_of_held_out_systems": dos_of_held_out_systems(config),
        "simulated": first.simulated,
    }
