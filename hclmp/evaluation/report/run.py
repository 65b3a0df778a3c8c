"""A finished run as the page sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hclmp.config import Config
from hclmp.data.tables import Floats, Property
from hclmp.evaluation.metrics import ALL, system_errors
from hclmp.evaluation.verdict import Comparison, compare

NAMES = {
    "boosting": "gradient boosting of trees",
    "extra_trees": "extremely randomised trees",
    "random_forest": "random forest",
    "ridge": "ridge regression",
    "mean": "the median of the training values, whatever the composition",
}


@dataclass(frozen=True)
class Run:
    """The results that the page shows."""

    config: Config
    properties: tuple[Property, ...]
    # variant -> predictions of all folds, columns as in PREDICTION_COLUMNS; a label may be missing
    frames: Mapping[str, pd.DataFrame]
    covariances: Mapping[str, list[Floats]]  # of H-CLMP variants: [L, L] per fold, transformed
    histories: Mapping[str, Mapping[str, pd.DataFrame]]  # of H-CLMP variants, by fold
    summary: pd.DataFrame
    by_system: pd.DataFrame
    simulated: bool  # whether the labels come from a simulation
    targets: Mapping[str, Any]  # the record of the table
    dos: Mapping[str, Any] | None  # the record of the table; None if no generator is trained
    gan: Mapping[str, Mapping[str, Any]]  # fold, or "all", -> metrics of its generator
    own_dos: int | None  # held-out samples whose DOS feature is their computed DOS; None: none may
    examples: pd.DataFrame | None  # true and generated DOS of materials, by the first generator
    sheet: Mapping[str, tuple[str, ...]]  # fold -> systems; empty where no systems are held out

    @cached_property
    def overall(self) -> pd.DataFrame:
        """Metrics over all properties: a row per variant, best first, and a column per metric."""
        rows = self.summary[self.summary["property"] == ALL]
        wide = rows.pivot(index="variant", columns="metric", values="value")
        return wide.sort_values("mae_std", kind="stable")

    @cached_property
    def by_property(self) -> pd.DataFrame:
        """The same of each property: indexed by variant and property, in the properties' order."""
        rows = self.summary[self.summary["property"] != ALL]
        wide = rows.pivot(index=["variant", "property"], columns="metric", values="value")
        order = [(v, p.name) for v in self.frames for p in self.properties]
        return wide.reindex(pd.MultiIndex.from_tuples(order, names=["variant", "property"]))

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Standardised error of each held-out system, a row per system and a column per variant."""
        return system_errors(self.by_system, list(self.frames))

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """``coverage90`` and ``width90_std`` of the shown variant: a row per held-out system."""
        table = self.by_system
        rows = table[(table["property"] == ALL) & (table["variant"] == self.shown)]
        wide = rows.pivot(index="system", columns="metric", values="value")
        return wide.reindex(columns=["coverage90", "width90_std"])

    @property
    def shown(self) -> str:
        """The variant that is shown in detail: the first H-CLMP, else the best of all."""
        return self.config.final_variant or str(self.overall.index[0])

    @cached_property
    def comparisons(self) -> dict[str, Comparison]:
        """Every variant beside the best baseline with the same information; empty without one."""
        return compare(self.config, self.overall, systems=len(self.errors))

    @property
    def baseline(self) -> str | None:
        """The baseline that the shown variant is compared with."""
        found = self.comparisons.get(self.shown)
        return None if found is None else found.baseline

    @property
    def is_spectrum(self) -> bool:
        """Whether the properties are one quantity along one axis."""
        properties = self.properties
        return (
            len(properties) > 2
            and all(p.coordinate is not None for p in properties)
            and len({(p.unit, p.transform) for p in properties}) == 1
        )

    @property
    def samples(self) -> int:
        """Held-out samples with a label."""
        frame = self.frames[self.shown]
        return int(frame.loc[frame["y_true"].notna(), "sample_id"].nunique())

    def ratio(self, variant: str, other: str) -> tuple[float, float, float]:
        """Of the errors of two variants: the ratio, and its 95 % interval (NaN if it has none)."""
        row = self.overall.loc[variant].to_dict()
        low, high = (float(row.get(f"mae_std_vs_{other}_{end}", np.nan)) for end in ("low", "high"))
        return float(row["mae_std"] / self.overall["mae_std"][other]), low, high

    def describe(self, variant: str) -> str:
        """What a variant is."""
        settings = self.config.variants[variant]
        if settings.model != "hclmp":
            name = NAMES.get(settings.model, settings.model)
            return f"{name}, with the density of states" if settings.transfer else name
        text = "H-CLMP(T): with the density of states" if settings.transfer else "H-CLMP"
        return f"{text}; {changes}" if (changes := self.changes(variant)) else text

    def changes(self, variant: str) -> str:
        """What an H-CLMP variant does differently from the configuration's model."""
        settings = self.config.variants[variant]
        parts = ["published sizes and losses"] if settings.preset == "paper" else []
        parts += ["pretrained: false"] if settings.transfer and not settings.pretrained else []
        for section in settings.overrides.values():
            parts += [f"{key}: {str(value).lower()}" for key, value in section.items()]
        return ", ".join(parts)
