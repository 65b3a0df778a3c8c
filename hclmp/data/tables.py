"""The tables between the steps: Parquet, its Arrow schema checked on every read and write.

Units, transforms and provenance travel in the schema's metadata. The columns are the project's
interface: other tools read them.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hclmp.errors import UserError, join_some
from hclmp.files import atomic_write
from hclmp.provenance import METADATA_KEY, Provenance

Floats = NDArray[np.float64]

COVERAGE = 0.90  # share of the labels that an interval is to hold
Z90 = 1.6448536269514722  # half of that interval of a Gaussian, in standard deviations

SAMPLE_COLUMNS = ("sample_id", "formula", "system")
ABOUT_DOS = ("unit", "norm", "reference")
# The columns beside the properties in predictions and screens: no property may be called so.
PREDICTED = ("formula", "system", "distance", "warning")
RANKED = ("rank", "on_front", "feasible", "probability", "improvement")


@dataclass(frozen=True)
class Property:
    """A property of the targets: its column, unit, transform, place on a common axis and limits."""

    name: str
    unit: str = ""
    transform: Literal["identity", "log10"] = "identity"
    coordinate: float | None = None
    minimum: float | None = None
    maximum: float | None = None

    def forward(self, values: Floats) -> Floats:
        """Values in property units to the transformed space that the models learn."""
        return np.log10(values) if self.transform == "log10" else values

    def inverse(self, transformed: Floats) -> Floats:
        """Transformed values back to property units."""
        return 10.0**transformed if self.transform == "log10" else transformed

    def forward_std(self, values: Floats, std: Floats) -> Floats:
        """A small standard deviation of values in property units, in the transformed space."""
        return std / (values * np.log(10.0)) if self.transform == "log10" else std

    def inverse_std(self, transformed: Floats, std: Floats) -> Floats:
        """A standard deviation in property units: half the width of the one-sigma interval."""
        return (self.inverse(transformed + std) - self.inverse(transformed - std)) / 2

    @property
    def learned_unit(self) -> str:
        """The unit of a difference in the transformed space."""
        return "decades" if self.transform == "log10" else self.unit

    def range(self) -> tuple[float, float]:
        """The smallest and the largest possible value in property units; maybe infinite."""
        low = -np.inf if self.minimum is None else self.minimum
        return low, np.inf if self.maximum is None else self.maximum

    def limits(self) -> tuple[float, float]:
        """The smallest and the largest possible value in the transformed space; maybe infinite."""
        low, high = self.range()
        if self.transform == "log10":
            low, high = (np.log10(v) if v > 0 else -np.inf for v in (low, high))
        return float(low), float(high)


@dataclass(frozen=True)
class Targets:
    """Labelled compositions, one row each.

    Attributes:
        sample_id, formula, system: n strings each.
        properties: the L properties, in the order of the columns of ``values``.
        values: [n, L], in property units; NaN where missing.
        noise: [n, L] standard deviations of the measurement, in property units; NaN where unknown.
        simulated: whether the values are simulated, which every display must say.
        split: n words ``train``, ``val`` or ``test``, or "" for neither, where the source divides
            its rows itself; else None.
    """

    sample_id: list[str]
    formula: list[str]
    system: list[str]
    properties: tuple[Property, ...]
    values: Floats
    noise: Floats
    simulated: bool
    provenance: Provenance = field(default_factory=dict)
    split: list[str] | None = None

    def __len__(self) -> int:
        return len(self.sample_id)

    def transformed(self) -> Floats:
        """Labels in the transformed space: [n, L]; NaN where missing."""
        columns = [p.forward(self.values[:, i]) for i, p in enumerate(self.properties)]
        return np.stack(columns, axis=1)

    def limits(self) -> Floats:
        """The smallest and the largest possible label in the transformed space: [2, L]."""
        return np.array([p.limits() for p in self.properties]).T

    def transformed_noise(self) -> Floats | None:
        """Standard deviation of the measurement in the transformed space: [n, L].

        NaN where unknown; None where none is known at all.
        """
        if np.isnan(self.noise).all():
            return None
        pairs = zip(self.properties, self.values.T, self.noise.T, strict=True)
        return np.stack([p.forward_std(values, std) for p, values, std in pairs], axis=1)


def correlation_of(covariance: Floats) -> Floats:
    """The correlation of a covariance: [L, L]."""
    std = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / np.outer(std, std))


def varied(values: Floats) -> NDArray[np.bool_]:
    """Which columns of values [n, L] hold two different ones, NaN aside: [L]."""
    return np.array([len(np.unique(v[~np.isnan(v)])) > 1 for v in values.T], dtype=bool)


@dataclass(frozen=True)
class EnergyGrid:
    """The common energies of the density of states; ``unit`` is that of the energies."""

    start: float
    stop: float
    n: int
    unit: str

    @property
    def step(self) -> float:
        """The distance of two energies, in ``unit``."""
        return (self.stop - self.start) / (self.n - 1)

    def energies(self) -> Floats:
        """The energies: [D], in ``unit``."""
        return np.linspace(self.start, self.stop, self.n)


@dataclass(frozen=True)
class DosTable:
    """Computed densities of states."""

    material_id: list[str]
    formula: list[str]
    dos: NDArray[np.float32]  # [n, D], in `unit`
    grid: EnergyGrid  # the D energies
    unit: str  # of the DOS values, such as ``states/eV/atom``
    norm: str  # what the values are counted per, such as ``atom``
    reference: str  # what zero energy is
    simulated: bool  # whether the values come from the demo's model, as every display must say
    provenance: Provenance = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.material_id)


PREDICTION_COLUMNS = tuple(
    [(name, pa.string()) for name in ("sample_id", "formula", "system", "fold", "property")]
    + [(name, pa.float64()) for name in ("y_true", "y_pred", "y_std", "y_low", "y_high")]
    + [(name, pa.float64()) for name in ("t_true", "t_pred", "t_low", "t_high")]
    + [(name, pa.float64()) for name in ("t_std_aleatoric", "t_std_epistemic", "train_std")]
)
"""Columns of a predictions table: ``y_`` in property units, ``t_`` in the transformed space.
``low`` and ``high`` are the ends of the interval that is to hold 90 % of the labels."""
LABEL_COLUMNS = ("y_true", "t_true")  # blank where a label is missing


@dataclass(frozen=True)
class Predictions:
    """Predictions of one variant on one fold, one row per sample and property."""

    frame: pd.DataFrame  # the columns of ``PREDICTION_COLUMNS``
    properties: tuple[Property, ...]
    covariance: Floats | None  # [L, L] in the transformed space, for variants that learn one
    simulated: bool  # whether the labels come from a simulation
    provenance: Provenance


def write_targets(path: str | Path, targets: Targets) -> None:
    """Write a targets table: ``sample_id, formula, system``, the properties, ``{property}_std``.

    A column ``split`` follows the system where the source divides its rows itself.
    """
    columns = [(_text(name), getattr(targets, name)) for name in SAMPLE_COLUMNS]
    if targets.split is not None:
        columns.append((_text("split"), targets.split))
    for prop, values in zip(targets.properties, targets.values.T, strict=True):
        about = {"unit": prop.unit, "transform": prop.transform}
        missing = bool(np.isnan(values).any())
        columns.append((pa.field(prop.name, pa.float64(), missing, about), values))
    for prop, noise in zip(targets.properties, targets.noise.T, strict=True):
        if not np.isnan(noise).all():
            unit = {"unit": prop.unit}
            columns.append((pa.field(f"{prop.name}_std", pa.float64(), metadata=unit), noise))
    more = {
        "properties": [asdict(p) for p in targets.properties],
        "missing_values": bool(np.isnan(targets.values).any()),
    }
    _write(path, "targets", targets, columns, more)


def read_targets(path: str | Path) -> Targets:
    """Read a targets table.

    Raises:
        UserError: the file is missing, is no targets table, or its columns are not as agreed.
    """
    table, about = _read(path, "targets", "hclmp prepare-targets")
    properties = tuple(Property(**p) for p in about["properties"])
    labels = dict.fromkeys([p.name for p in properties], pa.float64())
    wanted = dict.fromkeys(SAMPLE_COLUMNS, pa.string()) | labels
    blank_labels = labels if about["missing_values"] else ()
    _check_columns(path, table, wanted, "hclmp prepare-targets", may_be_blank=blank_labels)
    blank = np.full(len(table), np.nan)
    noise = [
        table[f"{p.name}_std"].to_numpy() if f"{p.name}_std" in table.column_names else blank
        for p in properties
    ]
    return Targets(
        **{name: table[name].to_pylist() for name in SAMPLE_COLUMNS},
        properties=properties,
        values=np.stack([table[p.name].to_numpy() for p in properties], axis=1),
        noise=np.stack(noise, axis=1),
        simulated=about["simulated"],
        provenance=about["provenance"],
        split=table["split"].to_pylist() if "split" in table.column_names else None,
    )


def write_dos(path: str | Path, table: DosTable) -> None:
    """Write a DOS table: ``material_id, formula, dos`` (fixed-size list of float32)."""
    flat = pa.array(np.ascontiguousarray(table.dos, dtype=np.float32).ravel())
    kind = pa.list_(pa.float32(), table.grid.n)
    columns = [
        (_text("material_id"), table.material_id),
        (_text("formula"), table.formula),
        (
            pa.field("dos", kind, metadata={"unit": table.unit}),
            pa.FixedSizeListArray.from_arrays(flat, table.grid.n),
        ),
    ]
    more = {"grid": asdict(table.grid)} | {name: getattr(table, name) for name in ABOUT_DOS}
    _write(path, "dos", table, columns, more)


def read_dos(path: str | Path) -> DosTable:
    """Read a DOS table.

    Raises:
        UserError: the file is missing, is no DOS table, or its columns are not as agreed.
    """
    table, about = _read(path, "dos", "hclmp pull-dos")
    grid = EnergyGrid(**about["grid"])
    wanted = {"material_id": pa.string(), "formula": pa.string()}
    wanted |= {"dos": pa.list_(pa.float32(), grid.n)}
    _check_columns(path, table, wanted, "hclmp pull-dos")
    return DosTable(
        material_id=table["material_id"].to_pylist(),
        formula=table["formula"].to_pylist(),
        dos=table["dos"].combine_chunks().flatten().to_numpy().reshape(len(table), grid.n),
        grid=grid,
        **{name: about[name] for name in (*ABOUT_DOS, "simulated", "provenance")},
    )


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write a predictions table (columns: ``PREDICTION_COLUMNS``)."""
    columns = [
        (pa.field(name, kind, nullable=name in LABEL_COLUMNS), predictions.frame[name])
        for name, kind in PREDICTION_COLUMNS
    ]
    covariance = predictions.covariance
    more = {
        "properties": [asdict(p) for p in predictions.properties],
        "covariance": None if covariance is None else covariance.tolist(),
    }
    _write(path, "predictions", predictions, columns, more)


def read_predictions(path: str | Path) -> Predictions:
    """Read a predictions table.

    Raises:
        UserError: the file is missing, is no predictions table, or its columns are not as agreed.
    """
    table, about = _read(path, "predictions", "hclmp train")
    wanted = dict(PREDICTION_COLUMNS)
    _check_columns(path, table, wanted, "hclmp train", may_be_blank=LABEL_COLUMNS)
    covariance = about["covariance"]
    return Predictions(
        frame=table.to_pandas(),
        properties=tuple(Property(**p) for p in about["properties"]),
        covariance=None if covariance is None else np.array(covariance),
        simulated=about["simulated"],
        provenance=about["provenance"],
    )


def _text(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False)


def _write(
    path: str | Path,
    kind: str,
    item: Targets | DosTable | Predictions,
    columns: list[tuple[pa.Field, Any]],
    more: dict[str, Any],
) -> None:
    """Write columns, and ``more`` into the metadata; NaN is a blank cell where a field has them."""
    about = {"table": kind, "simulated": item.simulated, "provenance": item.provenance} | more
    arrays = [
        c if isinstance(c, pa.Array) else pa.array(c, field.type, from_pandas=field.nullable)
        for field, c in columns
    ]
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True)}
    schema = pa.schema([field for field, _ in columns], metadata=metadata)
    table = pa.Table.from_arrays(arrays, schema=schema)
    table.validate(full=True)
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _read(path: str | Path, kind: str, maker: str) -> tuple[pa.Table, dict[str, Any]]:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; `{maker}` makes it")
    try:
        table = pq.read_table(path, partitioning=None)
        about = json.loads((table.schema.metadata or {})[METADATA_KEY])
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a {kind} table of hclmp; `{maker}` makes it") from error
    if about["table"] != kind:
        raise UserError(f"{path}: a {about['table']} table where a {kind} table was expected")
    return table, about


def _check_columns(
    path: str | Path,
    table: pa.Table,
    wanted: dict[str, pa.DataType],
    maker: str,
    may_be_blank: Collection[str] = (),
) -> None:
    """Columns must be there and of their type, and have no blank cells but where these may be."""
    wrong = [
        f"{name} ({kind})"
        for name, kind in wanted.items()
        if name not in table.column_names or table.schema.field(name).type != kind
    ]
    if wrong:
        raise UserError(
            f"{path}: columns missing or of another type: {join_some(wrong)}. A table of another "
            f"version of hclmp? `{maker}` makes it again"
        )
    if empty := [n for n in wanted if n not in may_be_blank and table[n].null_count]:
        raise UserError(
            f"{path}: empty cells in columns {join_some(empty)}; `{maker}` makes it again"
        )
