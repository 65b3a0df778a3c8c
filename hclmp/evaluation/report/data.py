"""The numbers that the page draws, rounded and thinned out so that it stays small.

All of it is JSON: lists, numbers, texts; what is missing or not defined is None.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hclmp.data.formula import parse_formulas
from hclmp.data.tables import Floats
from hclmp.evaluation.coverage import coverage_at
from hclmp.evaluation.metrics import correlations, standardised_error
from hclmp.evaluation.plots import materials_of
from hclmp.evaluation.report.run import Run
from hclmp.evaluation.styles import variant_styles

SIGNIFICANT_DIGITS = 4
MOST_SYSTEMS = 60  # shown in full
MOST_POINTS = 1500  # of a variant and property in the parity plot
MOST_PARITY_POINTS = 150_000  # of all of them together: 2 MB
MOST_VALUES = 150_000  # compositions times properties of the systems in full: 4 MB
MOST_CORRELATED = 60  # properties
LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of the calibration curve
CARDINALITY_OF_A_MAP = 3  # elements

Json = dict[str, Any]


def page_data(run: Run) -> Json:
    """All that the scripts of the page draw."""
    styles = variant_styles(run.frames)
    return {
        "label": "simulated" if run.simulated else "measured",
        "variants": [{"name": v, "colour": styles[v][0]} for v in run.frames],
        "shown": run.shown,
        "properties": [
            {"name": p.name, "unit": p.unit, "coordinate": p.coordinate}
            | {"log": p.transform == "log10"}
            for p in run.properties
        ],
        "spectrum": run.is_spectrum,
        "axis": run.targets["facts"].get("coordinate") or "coordinate of the property",
        "systems": _systems(run),
        "parity": _parity(run),
        "calibration": _calibration(run),
        "details": _details(run),
        "correlation": _correlation(run),
        "dos": _dos(run),
        "losses": {v: _losses(folds) for v, folds in run.histories.items()},
    }


def numbers(values: Any, digits: int = SIGNIFICANT_DIGITS) -> list[Any]:
    """Nested lists of an array, rounded to so many significant digits; None where not finite."""
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = digits - 1 - np.floor(np.log10(np.abs(array)))
    exponent = np.where(np.isfinite(exponent), exponent, 0)
    # of two ways to round, the one that multiplies by a whole number: 0.1234, not 0.12340000000001
    up, down = 10.0 ** np.maximum(exponent, 0), 10.0 ** np.maximum(-exponent, 0)
    rounded = np.round(array * up / down) / up * down
    return _with_gaps(rounded)


def _with_gaps(array: Floats) -> list[Any]:
    """Nested lists of an array; None where it is not finite."""
    cells = array.astype(object)
    cells[~np.isfinite(array)] = None
    return list(cells.tolist())


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """The numbers of at most ``most`` of n rows, evenly spread: all of them, or always the same."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def _systems(run: Run) -> list[Json]:
    """A row of the table per held-out system, the largest error first.

    Errors are of all variants; coverage and width of the intervals are the shown variant's.
    """
    labelled = run.frames[run.shown].dropna(subset=["y_true"])
    sizes = labelled.groupby("system")["sample_id"].nunique()
    errors = run.errors.sort_values(run.shown, ascending=False, kind="stable")
    intervals = run.intervals.reindex(errors.index)
    columns = {str(name): numbers(intervals[name], 3) for name in intervals}
    return [
        {"system": system, "n": int(sizes[system]), "errors": row}
        | {name: column[i] for name, column in columns.items()}
        for i, (system, row) in enumerate(zip(errors.index, numbers(errors, 3), strict=True))
    ]


def _calibration(run: Run) -> Json:
    """Nominal levels, and by variant the share of the labels in the interval of each."""
    frames = {v: f.dropna(subset=["y_true"]) for v, f in run.frames.items()}
    observed = {v: numbers(coverage_at(f, LEVELS), 3) for v, f in frames.items()}
    return {"nominal": list(LEVELS), "observed": observed}


def _parity(run: Run) -> Json:
    """Variant -> a pair of lists per property: labels and predictions, in property units."""
    each = max(1, MOST_PARITY_POINTS // (len(run.frames) * len(run.properties)))
    most = min(MOST_POINTS, each)
    points: dict[str, list[Any]] = {}
    counts: list[int] = []
    for variant, frame in run.frames.items():
        groups = dict(list(frame.dropna(subset=["y_true"]).groupby("property")))
        of_property = [groups.get(p.name, frame.iloc[:0]) for p in run.properties]
        counts += map(len, of_property)
        rows = [group.iloc[evenly(len(group), most)] for group in of_property]
        points[variant] = [[numbers(r["y_true"]), numbers(r["y_pred"])] for r in rows]
    return {"points": points, "most": most, "of": max(counts)}


def _details(run: Run) -> Json:
    """System -> its compositions with labels, predictions and 90 % intervals: [L][n] each."""
    groups = dict(list(run.frames[run.shown].groupby("system")))
    chosen = systems_in_full(run)
    values = sum(len(groups[s]) for s in chosen)
    most = MOST_VALUES // (len(chosen) * len(run.properties)) if values > MOST_VALUES else values
    return {system: _detail(run, groups[system], max(1, most)) for system in chosen}


def systems_in_full(run: Run) -> list[str]:
    """The largest systems, those that have a map first, alphabetical."""
    sizes = run.frames[run.shown].groupby("system").size()
    ranked = sorted(sizes.index, key=lambda s: (not has_map(s), -int(sizes[s]), s))
    return sorted(ranked[:MOST_SYSTEMS])


def has_map(system: str) -> bool:
    """Whether the compositions of a system fill a triangle."""
    return system.count("-") == CARDINALITY_OF_A_MAP - 1


def _detail(run: Run, frame: pd.DataFrame, most: int) -> Json:
    names = [p.name for p in run.properties]
    frame = frame.assign(error=standardised_error(frame))
    wide = frame.pivot(index=["fold", "sample_id", "formula"], columns="property")
    wide = wide.sort_index().iloc[evenly(len(wide), most)]
    columns = {"true": "y_true", "predicted": "y_pred", "low": "y_low", "high": "y_high"}
    formulas = wide.index.get_level_values("formula").tolist()
    errors = pd.DataFrame(wide["error"]).mean(axis=1)
    known = errors.dropna().sort_values(kind="stable")
    middle = wide.index.get_loc(known.index[len(known) // 2]) if len(known) else 0
    parsed = parse_formulas(formulas, left_out=run.config.targets.left_out, origin="predictions")
    elements = str(frame["system"].iloc[0]).split("-")
    return {
        "formulas": formulas,
        "of": int(frame["sample_id"].nunique()),
        "fractions": [numbers([x.get(e, 0.0) for x in parsed]) for e in elements],
        "errors": numbers(errors, 3),
        "middle": middle,
    } | {
        key: numbers(pd.DataFrame(wide[column]).reindex(columns=names).to_numpy().T)
        for key, column in columns.items()
    }


def _correlation(run: Run) -> Json | None:
    """The matrices of the shown variant; None of one property, or of baselines alone."""
    if len(run.properties) == 1 or run.shown not in run.covariances:
        return None
    rows = evenly(len(run.properties), MOST_CORRELATED)
    frame = run.frames[run.shown].dropna(subset=["y_true"])
    maps = correlations(frame, run.covariances[run.shown], run.properties)
    chosen = {kind: _with_gaps(m[np.ix_(rows, rows)].round(2)) for kind, m in maps.items()}
    return {"names": [run.properties[i].name for i in rows], "maps": chosen}


def _dos(run: Run) -> Json | None:
    """True and generated DOS of some held-out materials."""
    if run.examples is None:
        return None
    blocks = materials_of(run.examples)
    columns = {"true": "dos", "mean": "generated_mean"}
    about = next(iter(run.gan.values()))
    return {
        "unit": about["unit"],
        "energy_unit": about["energy_unit"],
        "energy": numbers(blocks[0]["energy"]),
        "materials": [
            {"formula": str(b["formula"].iloc[0])} | {k: numbers(b[c]) for k, c in columns.items()}
            for b in blocks
        ],
    }


def _losses(folds: Mapping[str, pd.DataFrame]) -> Json:
    """Median and range over folds and members, by epoch, of training loss and validation error."""
    table = pd.concat([f.assign(fold=name) for name, f in folds.items()], ignore_index=True)
    table = table[table["stage"] == "selection"]
    best = table.loc[table.groupby(["fold", "member"])["validation_mae"].idxmin(), "epoch"]
    columns = ["loss", "validation_mae"]
    ranges = table.groupby("epoch")[columns].agg(["min", "median", "max"])
    named = ranges.rename(columns={"min": "low", "median": "middle", "max": "high"})
    return {
        "epoch": named.index.tolist(),
        "best": float(best.median()),
        "runs": len(best),
        **{c: {name: numbers(named[c][name]) for name in named[c]} for c in columns},
    }
