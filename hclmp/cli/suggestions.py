"""What ``hclmp new`` suggests for a property: whether to learn it as log10, and its limits."""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hclmp.data.folds import seen_of
from hclmp.data.tables import Floats, Property
from hclmp.errors import join_some
from hclmp.sources.table import SPLIT_WORDS

Mask = NDArray[np.bool_]

DECADES_FOR_LOG10 = 2.0  # a positive property that spans so many decades is better learned as log10
PERCENT = re.compile(r".*(%|percent)\)?")  # a unit, or a column's name that ends with it
NO_UNIT = ("", "1", "dimensionless")  # of a property that may be a fraction


def visible_rows(
    systems: Sequence[str], sheet: Mapping[str, str], frame: pd.DataFrame
) -> dict[str, Mask]:
    """Of each way in which rows are held out, which of the n rows a model may learn from: [n].

    The ways are the folds of the sheet and the columns of the table that say ``train`` and
    ``test`` themselves.

    Args:
        systems: the system of each row.
        sheet: the fold of each held-out system.
        frame: the n rows of the table.
    """
    known, index = np.unique(np.array(systems), return_inverse=True)
    rows = {}
    for fold in dict.fromkeys(sheet.values()):
        held_out = [s for s in sheet if sheet[s] == fold]
        rows[f"fold {fold}"] = np.array(seen_of(known.tolist(), held_out))[index.reshape(-1)]
    for column in frame.columns:
        if frame[column].dtype.kind in "iufbmM":
            continue
        words = frame[column].astype(str).where(frame[column].notna(), "")
        if {"train", "test"} <= set(words) <= set(SPLIT_WORDS):
            rows[f"column {column}"] = np.asarray(words.isin(["train", "val"]), dtype=bool)
    return rows


def suggest_log10(
    columns: Sequence[str], values: Floats, rows: Mapping[str, Mask]
) -> tuple[set[str], dict[str, str]]:
    """The properties that are better learned as log10, and those of which only some folds say so.

    The labels of held-out samples may not choose what a model learns. So each fold decides on the
    rows that its models may learn from, and log10 is suggested only where all folds agree: each of
    them alone would choose it.

    Args:
        columns, values: L names and [n, L], NaN where missing.
        rows: of each fold, which rows decide.

    Returns:
        The suggested properties; and property -> reason of those that some folds alone speak for.
    """
    suggested, disputed = set[str](), {}
    for column, v in zip(columns, values.T, strict=True):
        votes = {fold: _spans_decades(v[mask]) for fold, mask in rows.items()}
        speak_for, against = ([f for f in votes if votes[f] == vote] for vote in (True, False))
        if not speak_for:
            continue
        if bad := [f"row {i + 1} ({v[i]:g})" for i in np.flatnonzero(v <= 0)]:
            disputed[column] = f"it is not positive in {join_some(bad)}"
        elif against:
            disputed[column] = (
                f"the rows that are not held out by {join_some(speak_for)} speak for it, those of "
                f"{join_some(against)} do not; `--log10 {column}` learns it as log10 all the same"
            )
        else:
            suggested.add(column)
    return suggested, disputed


def _spans_decades(values: Floats) -> bool:
    values = values[~np.isnan(values)]
    return bool(
        len(values)
        and (values > 0).all()
        and np.log10(values.max() / values.min()) >= DECADES_FOR_LOG10
    )


def suggest_limits(
    properties: Sequence[Property], values: Floats, log10: Collection[str]
) -> dict[str, dict[str, int]]:
    """The ``minimum`` and ``maximum`` of each property that none of its values contradicts.

    A minimum of 0, and the largest value of what may be a fraction or a percentage. Values cannot
    prove a limit, and held-out ones count here: a person must confirm it.

    Args:
        properties, values: the L properties and [n, L], NaN where missing.
        log10: the properties learned as log10, which are positive without a limit.
    """
    limits: dict[str, dict[str, int]] = {}
    for prop, low, high in zip(
        properties, np.nanmin(values, axis=0), np.nanmax(values, axis=0), strict=True
    ):
        whole = _whole(prop)
        if low < 0:
            continue
        if prop.name not in log10:
            limits.setdefault(prop.name, {})["minimum"] = 0
        if whole is not None and high <= whole:
            limits.setdefault(prop.name, {})["maximum"] = whole
    return limits


def _whole(prop: Property) -> int | None:
    """The largest value of a property if it is a share of something; None: it is none."""
    if PERCENT.fullmatch(prop.unit) or (not prop.unit and PERCENT.fullmatch(prop.name)):
        return 100
    return 1 if prop.unit in NO_UNIT else None
