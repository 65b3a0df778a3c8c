"""Predictions of a run that never was."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from hclmp.data.tables import PREDICTION_COLUMNS, Z90, Property

ELEMENTS = ["Co", "Cr", "Cu", "Fe", "Mn", "Mo", "Nb", "Ni", "Ti"]


def predictions(
    properties: tuple[Property, ...], *, systems: int = 4, each: int = 5, error: float = 0.3
) -> pd.DataFrame:
    """Made-up predictions with the columns of ``PREDICTION_COLUMNS``, the same on every call."""
    rng = np.random.default_rng(0)
    names = ["-".join(c) for c in itertools.islice(itertools.combinations(ELEMENTS, 3), systems)]
    n = systems * each
    shared = rng.normal(size=n)
    frames = []
    for prop in properties:
        true = shared + 0.5 * rng.normal(size=n)
        predicted = true + error * rng.normal(size=n)
        low, high = (predicted + sign * Z90 * np.hypot(error, 0.1) for sign in (-1, 1))
        columns = {
            "sample_id": [f"s{i}" for i in range(n)],
            "formula": "Fe2O3",
            "system": np.repeat(names, each),
            "fold": "fold-1",
            "property": prop.name,
            "y_true": prop.inverse(true),
            "y_pred": prop.inverse(predicted),
            "y_std": error,
            "y_low": prop.inverse(low),
            "y_high": prop.inverse(high),
            "t_true": true,
            "t_pred": predicted,
            "t_low": low,
            "t_high": high,
            "t_std_aleatoric": error,
            "t_std_epistemic": 0.1,
            "train_std": 1.0,
        }
        frames.append(pd.DataFrame(columns))
    frame = pd.concat(frames, ignore_index=True)
    assert list(frame) == [name for name, _ in PREDICTION_COLUMNS]
    return frame


def with_interval(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the Gaussian 90 % interval of its standard deviations; ``y_`` is ``t_``."""
    half = Z90 * np.hypot(frame["t_std_aleatoric"], frame["t_std_epistemic"])
    low, high = frame["t_pred"] - half, frame["t_pred"] + half
    return frame.assign(t_low=low, t_high=high, y_low=low, y_high=high)
