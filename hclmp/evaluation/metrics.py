"""Metrics of predictions on held-out systems."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import multivariate_normal, norm
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from hclmp.data.tables import Floats, Property, correlation_of
from hclmp.evaluation.coverage import inside
from hclmp.evaluation.ratio import ratio_interval

ALL = "all"  # the property that stands for the mean over properties
LINEAR = "_linear"  # ends the metrics in property units of a property that is learned as log10
WITH_UNIT = ("mae", "rmse", "width90")
SET_ASIDE = 4  # one sample in so many, the least certain, does not count in `mae_std_certain`
SUMMARY_COLUMNS = ["variant", "property", "metric", "value", "unit", "n"]
SYSTEM_COLUMNS = ["variant", "system", "property", "metric", "value", "unit", "n"]


def summarise(
    frames: Mapping[str, pd.DataFrame],
    properties: Sequence[Property],
    learned: Mapping[str, Mapping[str, pd.DataFrame]] | None = None,
) -> pd.DataFrame:
    """The table of ``summary.csv``.

    Rows of all folds are pooled per property; property ``all`` is the mean over properties, of the
    metrics that have no unit or the same unit for all of them.
    ``mae``, ``rmse`` and ``r2`` are those of the values as they are learned: of logarithms, in
    decades, for a log10 property, where ``mae_linear``, ``rmse_linear`` and ``r2_linear`` are those
    in property units. ``mae_std`` (the headline) is the mean of |t_pred - t_true| / train_std;
    ``mae_std_certain`` the same of the samples that are `certain`; ``coverage90`` the share of
    labels in the 90 % interval; ``width90`` the mean width of these intervals (``width90_linear``
    as above), ``width90_std`` the same over train_std; ``nll`` the negative log-likelihood of the
    standardised label under a Gaussian; ``nll_joint`` (of ``all``) that of all labels of a sample
    together, per label, with the correlations that the variant learned;
    ``mae_std_vs_{other}_low`` and ``_high`` a 95 % interval over systems of the ratio of two
    variants' ``mae_std`` (`ratio_interval`; NaN where there are too few systems).

    Args:
        frames: variant -> predictions of all folds, columns as in ``PREDICTION_COLUMNS``. Rows
            without a label count for nothing but how uncertain their sample is.
        properties: those of the predictions.
        learned: variant -> fold -> correlation between the properties (by name, both axes), of
            variants that learn one; the labels of a sample are independent to others.
    """
    rows = []
    described = {p.name: p for p in properties}
    frames = {v: f.assign(certain=certain(f)) for v, f in frames.items()}
    frames = {v: f[f["y_true"].notna()] for v, f in frames.items()}
    sums = {v: _sums(frame) for v, frame in frames.items()}
    for variant, frame in frames.items():
        n = frame["sample_id"].nunique()
        values: dict[str, list[float]] = {}
        for name, group in frame.groupby("property", sort=False):
            prop = described[str(name)]
            for metric, value in _metrics(group, prop).items():
                rows.append((variant, name, metric, value, unit_of(metric, [prop]), len(group)))
                values.setdefault(metric, []).append(value)
        for metric, of_properties in values.items():
            if (unit := unit_of(metric, properties)) is None:
                continue
            # a property whose metric is not defined (r2 of a single label) does not count there
            known = [value for value in of_properties if np.isfinite(value)]
            mean = float(np.mean(known)) if known else float("nan")
            rows.append((variant, ALL, metric, mean, unit, n))
        joint = _joint_nll(frame, (learned or {}).get(variant))
        rows.append((variant, ALL, "nll_joint", joint, "", n))
        for metric, value in _intervals(variant, sums).items():
            rows.append((variant, ALL, metric, value, "", frame["system"].nunique()))
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def unit_of(metric: str, properties: Sequence[Property]) -> str | None:
    """The unit of a metric over properties, "" if it has none; None if they do not share it.

    A property whose unit is not known shares it with none. A metric that ends in `LINEAR` is of
    log10 properties alone.
    """
    linear = metric.endswith(LINEAR)
    if linear and any(p.transform != "log10" for p in properties):
        return None
    if metric.removesuffix(LINEAR) not in WITH_UNIT:
        return ""
    units = {p.unit if linear else p.learned_unit for p in properties}
    unit = units.pop()
    return None if units or (not unit and len(properties) > 1) else unit


def by_system(frames: Mapping[str, pd.DataFrame], properties: Sequence[Property]) -> pd.DataFrame:
    """The table of ``by_system.csv``: metrics per held-out system and property, as in `summarise`.

    ``n`` is the number of labels of a property, and of samples of ``all``. All rows have labels.
    """
    parts = []
    for variant, frame in frames.items():
        of_labels = _of_labels(frame, properties)
        metrics = [str(m) for m in of_labels]
        grouped = of_labels.groupby([frame["system"], frame["property"]], sort=False)
        part = grouped.mean().assign(n=grouped.size()).reset_index()
        shared = [m for m in metrics if unit_of(m, properties) is not None]
        overall = part.groupby("system", sort=False)[shared].mean()
        overall = overall.assign(n=frame.groupby("system")["sample_id"].nunique()).reset_index()
        part = pd.concat([part, overall.assign(property=ALL)])
        part = part.melt(["system", "property", "n"], metrics, "metric", "value").dropna()
        parts.append(part.assign(variant=variant, n=part["n"].astype(int)))
    table = pd.concat(parts).sort_values(["system", "variant"], kind="stable")
    described = {ALL: properties} | {p.name: [p] for p in properties}
    pairs = zip(table["metric"], table["property"], strict=True)
    table["unit"] = [unit_of(str(metric), described[str(name)]) for metric, name in pairs]
    return table[SYSTEM_COLUMNS].reset_index(drop=True)


def _of_labels(frame: pd.DataFrame, properties: Sequence[Property]) -> pd.DataFrame:
    """What the metrics of `by_system` are means of: a row per label, a column per metric.

    NaN where a metric is not one of the label's property.
    """
    linear = frame["property"].isin([p.name for p in properties if p.transform == "log10"])
    columns = {
        "mae": (frame["t_pred"] - frame["t_true"]).abs(),
        "mae" + LINEAR: (frame["y_pred"] - frame["y_true"]).abs().where(linear),
        "mae_std": standardised_error(frame),
        "coverage90": inside(frame).astype(float),
        "width90_std": (frame["t_high"] - frame["t_low"]) / frame["train_std"],
    }
    return pd.DataFrame(columns)


def standardised_error(frame: pd.DataFrame) -> "pd.Series[float]":
    """|t_pred - t_true| / train_std of each row."""
    return (frame["t_pred"] - frame["t_true"]).abs() / frame["train_std"]


def predicted_std(frame: pd.DataFrame) -> "pd.Series[float]":
    """The standard deviation of each prediction, in the transformed space."""
    return pd.Series(np.hypot(frame["t_std_aleatoric"], frame["t_std_epistemic"]), frame.index)


def system_errors(table: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """``mae_std`` over all properties in `by_system`: a row per system, a column per variant."""
    table = table[(table["property"] == ALL) & (table["metric"] == "mae_std")]
    return table.pivot(index="system", columns="variant", values="value")[list(variants)]


def certain(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a row is of the three quarters of the samples of which a variant is surest.

    A sample is as uncertain as the mean of t_std / train_std over its properties. Samples as
    uncertain as the last one that stays stay too: where all are alike, nothing is set aside.
    A variant whose uncertainty tells good predictions from bad ones has a ``mae_std_certain``
    clearly below its ``mae_std``.
    """
    std = predicted_std(frame) / frame["train_std"]
    uncertainty = std.groupby(frame["sample_id"]).transform("mean")
    samples = np.sort(uncertainty[~frame["sample_id"].duplicated()].to_numpy())
    # equal but for rounding is equal
    limit = samples[len(samples) - len(samples) // SET_ASIDE - 1] * (1 + 1e-9)
    kept: pd.Series[bool] = uncertainty <= limit
    return kept


def correlations(
    frame: pd.DataFrame, covariances: Sequence[Floats], properties: Sequence[Property]
) -> dict[str, Floats]:
    """Correlation between the properties: [L, L] each, NaN where not defined.

    ``learned`` is the mean over the ``covariances`` of the folds, [L, L] in the transformed space,
    if there are any; ``residuals`` and ``labels`` are of the held-out samples, one variant's.
    """
    names = [p.name for p in properties]
    true, predicted = (
        frame.pivot(index=["fold", "sample_id"], columns="property", values=v)[names]
        for v in ("t_true", "t_pred")
    )
    found = {
        "residuals": (predicted - true).corr().to_numpy(),
        "labels": true.corr().to_numpy(),
    }
    if covariances:
        found = {"learned": np.mean([correlation_of(c) for c in covariances], axis=0)} | found
    return found


def _metrics(frame: pd.DataFrame, prop: Property) -> dict[str, float]:
    """Metrics of one property; ``frame`` has the column ``certain`` too."""
    std = predicted_std(frame)
    deviation = frame["t_pred"] - frame["t_true"]
    width = frame["t_high"] - frame["t_low"]
    scaled, scaled_std = deviation / frame["train_std"], std / frame["train_std"]
    found = _of_values(frame["t_true"], frame["t_pred"]) | {"width90": float(width.mean())}
    if prop.transform == "log10":
        linear = _of_values(frame["y_true"], frame["y_pred"])
        linear["width90"] = float((frame["y_high"] - frame["y_low"]).mean())
        found |= {metric + LINEAR: value for metric, value in linear.items()}
    return found | {
        "mae_std": float(standardised_error(frame).mean()),
        "mae_std_certain": float(standardised_error(frame[frame["certain"]]).mean()),
        "coverage90": float(inside(frame).mean()),
        "width90_std": float((width / frame["train_std"]).mean()),
        "nll": float(-np.mean(norm.logpdf(scaled, scale=scaled_std))),
    }


def _of_values(true: "pd.Series[float]", predicted: "pd.Series[float]") -> dict[str, float]:
    """Metrics of values in one space; r2 of a single label is not defined."""
    return {
        "mae": float(mean_absolute_error(true, predicted)),
        "rmse": float(root_mean_squared_error(true, predicted)),
        "r2": float(r2_score(true, predicted)) if len(true) > 1 else float("nan"),
    }


def _joint_nll(frame: pd.DataFrame, learned: Mapping[str, pd.DataFrame] | None) -> float:
    """Negative log-likelihood of a sample's standardised labels together, per label.

    A sample has the standard deviations of its row and the correlations of its fold's model, as
    samples drawn jointly have; labels that are missing do not count.
    """
    std = predicted_std(frame)
    if learned is None:
        scaled = (frame["t_true"] - frame["t_pred"]) / frame["train_std"]
        return float(-np.mean(norm.logpdf(scaled, scale=std / frame["train_std"])))
    total = float(np.log(std / frame["train_std"]).sum())
    frame = frame.assign(z=(frame["t_true"] - frame["t_pred"]) / std)
    for fold, part in frame.groupby("fold"):
        correlation = learned[str(fold)]
        table = part.pivot(index="sample_id", columns="property", values="z")
        z = table.reindex(columns=correlation.columns).to_numpy()
        patterns, pattern = np.unique(np.isfinite(z), axis=0, return_inverse=True)
        for i, known in enumerate(patterns):
            among = correlation.to_numpy()[np.ix_(known, known)]
            density = multivariate_normal(cov=among, allow_singular=True)
            total -= float(density.logpdf(z[pattern.ravel() == i][:, known]).sum())
    return total / len(frame)


def _intervals(variant: str, sums: Mapping[str, tuple[Floats, Floats]]) -> dict[str, float]:
    """The intervals of the ratio of a variant's ``mae_std`` to each other's; `_sums` of each."""
    own, counts = sums[variant]
    intervals: dict[str, float] = {}
    for name, (other, _) in sums.items():
        if name != variant:
            ends = ratio_interval(own, other, counts)
            metrics = (f"mae_std_vs_{name}_{end}" for end in ("low", "high"))
            intervals |= dict(zip(metrics, ends, strict=True))
    return intervals


def _sums(frame: pd.DataFrame) -> tuple[Floats, Floats]:
    """Sums of the standardised errors and numbers of labels: [S, L] each.

    Systems and properties are in alphabetical order, so that variants of the same samples match.
    """
    errors = standardised_error(frame).groupby([frame["system"], frame["property"]])
    sums, counts = (t.unstack(fill_value=0) for t in (errors.sum(), errors.size()))
    return sums.to_numpy(float), counts.to_numpy(float)
