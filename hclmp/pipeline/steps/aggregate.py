"""Step ``aggregate``: the predictions of all variants and folds to metrics and plots."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hclmp.config import Config
from hclmp.data.features import read_dos_known
from hclmp.data.folds import fold_names
from hclmp.data.tables import Predictions, correlation_of, read_predictions
from hclmp.errors import UserError
from hclmp.evaluation import plots
from hclmp.evaluation.metrics import ALL, by_system, summarise, system_errors
from hclmp.evaluation.verdict import compare
from hclmp.files import write_csv, write_json
from hclmp.pipeline.checks import check_inputs
from hclmp.pipeline.jobs import Files, Job
from hclmp.pipeline.scopes import evaluation_scopes

log = logging.getLogger(__name__)

MOST_POINTS = 2000  # of a variant in parity.csv


def aggregate(config: Config, job: Job) -> None:
    """Pool the predictions of the folds; write metrics, tables of them, and plots.

    Raises:
        UserError: a predictions file is missing, or comes from other data or another configuration.
    """
    check_inputs(job)
    folds, files = fold_names(config), job.outputs
    tables = {
        v: [read_predictions(job.inputs[f"predictions/{v}/{fold}"]) for fold in folds]
        for v in config.variants
    }
    sources = {t.provenance["source"] for ts in tables.values() for t in ts}
    if len(sources) > 1:
        log.warning("the predictions were made by %d versions of the source", len(sources))
    frames = {v: pd.concat([t.frame for t in ts], ignore_index=True) for v, ts in tables.items()}
    _check_samples(frames)
    learned = {v: found for v, ts in tables.items() if (found := _learned(folds, ts))}
    first = next(iter(tables.values()))[0]
    summary = summarise(frames, first.properties, learned)
    frames = {v: frame[frame["y_true"].notna()] for v, frame in frames.items()}
    # Only `metrics` says where the results come from: it goes first and comes last, in case this is
    # killed between.
    files["metrics"].unlink(missing_ok=True)
    systems = by_system(frames, first.properties)
    write_csv(files["by_system"], systems)
    folder = files["parity.csv"].parent
    _plots(config, job.inputs, frames, tables, folder)
    errors = system_errors(systems, list(frames))
    plots.mae_by_system(folder / "mae_by_system.png", errors, simulated=first.simulated)
    _plot_data(config, job.inputs, frames, folder)
    write_csv(files["summary"], summary)
    overall = _overall(config, summary, frames, first)
    if "features" in job.inputs:
        own = read_dos_known(job.inputs["features"])
        overall["own_dos"] = len(own.intersection(next(iter(frames.values()))["sample_id"]))
    write_json(files["metrics"], overall | {"provenance": job.provenance()})


def _learned(folds: list[str], tables: list[Predictions]) -> dict[str, pd.DataFrame]:
    """The correlation that a variant learned on each fold; of the baselines none."""
    names = [p.name for p in tables[0].properties]
    return {
        fold: pd.DataFrame(correlation_of(t.covariance), names, names)
        for fold, t in zip(folds, tables, strict=True)
        if t.covariance is not None
    }


def _check_samples(frames: Mapping[str, pd.DataFrame]) -> None:
    """Every variant must be judged on the same samples."""
    samples = {variant: set(frame["sample_id"]) for variant, frame in frames.items()}
    first, *others = samples
    for variant in others:
        if samples[variant] != samples[first]:
            raise UserError(f"predictions of `{variant}` and `{first}` are of different samples")


def _plots(
    config: Config,
    files: Files,
    frames: Mapping[str, pd.DataFrame],
    tables: Mapping[str, list[Predictions]],
    folder: Path,
) -> None:
    first = next(iter(tables.values()))[0]
    properties, simulated = first.properties, first.simulated
    for variant, frame in frames.items():
        path = folder / f"parity_{variant}.png"
        plots.parity(path, frame, properties, variant, simulated=simulated)
    plots.mae_by_property(folder / "mae_by_property.png", frames, properties, simulated=simulated)
    if config.neural:
        histories = {
            v: {fold: pd.read_csv(files[f"history/{v}/{fold}"]) for fold in fold_names(config)}
            for v in config.neural
        }
        plots.loss_curves(folder / "loss_curves.png", histories, simulated=simulated)
        shown = config.neural[0]
        learned = [t.covariance for t in tables[shown] if t.covariance is not None]
        path = folder / "correlation.png"
        plots.correlation(path, frames[shown], learned, properties, shown, simulated=simulated)
    if config.pretrains:
        metrics, history = (_of_generators(config, files, k)[0][1] for k in ("metrics", "history"))
        plots.generated_dos(folder / "generated_dos.png", files["gan/examples"], metrics)
        plots.gan_curves(folder / "gan_curves.png", history)


def _plot_data(
    config: Config, files: Files, frames: Mapping[str, pd.DataFrame], folder: Path
) -> None:
    """The same as data, for `dvc plots` to lay runs over one another (templates: .dvc/plots/)."""
    columns = ["variant", "property", "y_true", "y_pred"]
    points = []
    for variant, frame in frames.items():
        some = np.unique(np.linspace(0, len(frame) - 1, MOST_POINTS).astype(int))
        points.append(frame.iloc[some].assign(variant=variant)[columns])
    write_csv(folder / "parity.csv", pd.concat(points))
    if config.neural:
        tables = [
            pd.read_csv(files[f"history/{v}/{fold}"]).assign(variant=v, fold=fold)
            for v in config.neural
            for fold in fold_names(config)
        ]
        columns = ["variant", "fold", "member", "epoch", "loss", "validation_mae"]
        write_csv(folder / "losses.csv", pd.concat(tables).query("stage == 'selection'")[columns])
    if config.pretrains:
        histories = _of_generators(config, files, "history")
        curves = [pd.read_csv(path).assign(fold=fold) for fold, path in histories]
        write_csv(folder / "gan.csv", pd.concat(curves).query("stage == 'selection'"))


def _of_generators(config: Config, files: Files, kind: str) -> list[tuple[str, Path]]:
    """Fold, or ``all``, and the file of its generator, of all generators."""
    scopes = evaluation_scopes(config)
    return [(s[0] if s else "all", files["/".join(("gan", kind, *s))]) for s in scopes]


def _overall(
    config: Config, summary: pd.DataFrame, frames: Mapping[str, pd.DataFrame], first: Predictions
) -> dict[str, Any]:
    """The headline numbers: variant -> metric -> value."""
    frame = next(iter(frames.values()))
    systems = int(frame["system"].nunique())
    rows = summary[summary["property"] == ALL]
    overall = rows.pivot(index="variant", columns="metric", values="value")
    comparisons = compare(config, overall, systems=systems)
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
        "n": int(frame["sample_id"].nunique()),  # of samples
        "systems": systems,
        "shown": config.final_variant,
        "comparisons": {v: comparison.as_json() for v, comparison in comparisons.items()},
        "properties": [p.name for p in first.properties],
        "dos_of_held_out_systems": config.dos_of_held_out_systems,
        "simulated": first.simulated,
    }
