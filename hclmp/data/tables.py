"""The tables between the steps: Parquet, its Arrow schema checked on every read and write.

Units, transforms and provenance travel in the schema's metadata. The columns are the project's
interface: other tools read them.
"""

import json
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


# The columns beside the properties in predictions and screens: no property may be called so.
PREDICTED = ("formula", "system", "distance", "warning")
RANKED = ("rank", "on_front", "feasible", "probability", "improvement")


@dataclass(frozen=True)
class Property:
    """A property of the targets: its column, unit, transform and place on a common axis."""

    name: str
    unit: str = ""
    transform: Literal["identity", "log10"] = "identity"
    coordinate: float | None = None

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


@dataclass(frozen=True)
class Targets:
    """Labelled compositions, one row each.

    Attributes:
        sample_id, formula, system: n strings each.
        properties: the L properties, in the order of the columns of ``values``.
        values: [n, L], in property units; NaN where missing.
        noise: [n, L] standard deviations of the measurement, in property units; NaN where unknown.
        simulated: whether the values are simulated, which every display must say.
        provenance: where the table comes from.
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

    def transformed_noise(self) -> Floats | None:
        """Standard deviation of the measurement in the transformed space: [n, L].

        NaN where unknown; None where none is known at all.
        """
        pairs = zip(self.properties, self.values.T, self.noise.T, strict=True)
        columns = [p.forward_std(values, std) for p, values, std in pairs]
        known = not np.isnan(self.noise).all()
        return np.stack(columns, axis=1) if known else None


def correlation_of(covariance: Floats) -> Floats:
    """The correlation of a covariance: [L, L]."""
    std = np.sqrt(np.diag(covariance))
    correlation: Floats = covariance / np.outer(std, std)
    return correlation


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
    """Computed densities of states.

    Attributes:
        material_id, formula: n strings each.
        dos: [n, D] float32, in ``unit``.
        grid: the D energies.
        unit: of the DOS values, such as ``states/eV/atom``.
        norm: what the values are counted per, such as ``atom``.
        reference: what zero energy is.
        simulated: whether the values come from the demo's model, which every display must say.
        provenance: where the table comes from.
    """

    material_id: list[str]
    formula: list[str]
    dos: NDArray[np.float32]
    grid: EnergyGrid
    unit: str
    norm: str
    reference: str
    simulated: bool
    provenance: Provenance = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.material_id)


PREDICTION_COLUMNS = (
    ("sample_id", pa.string()),
    ("formula", pa.string()),
    ("system", pa.string()),
    ("fold", pa.string()),
    ("property", pa.string()),
    ("y_true", pa.float64()),
    ("y_pred", pa.float64()),
    ("y_std", pa.float64()),
    ("t_true", pa.float64()),
    ("t_pred", pa.float64()),
    ("t_std_aleatoric", pa.float64()),
    ("t_std_epistemic", pa.float64()),
    ("train_std", pa.float64()),
)
"""Columns of a predictions table: ``y_`` in property units, ``t_`` in the transformed space."""
LABEL_COLUMNS = ("y_true", "t_true")  # blank where a label is missing


@dataclass(frozen=True)
class Predictions:
    """Predictions of one variant on one fold, one row per sample and property.

    Attributes:
        frame: the columns of ``PREDICTION_COLUMNS``.
        properties: the L properties.
        covariance: [L, L] in the transformed space, for variants that learn one.
        simulated: whether the labels come from a simulation.
        provenance: where the table comes from.
    """

    frame: pd.DataFrame
    properties: tuple[Property, ...]
    covariance: Floats | None
    simulated: bool
    provenance: Provenance


def write_targets(path: str | Path, targets: Targets) -> None:
    """Write a targets table: ``sample_id, formula, system``, the properties, ``{property}_std``.

    A column ``split`` follows the system where the source divides its rows itself.
    """
    fields = [pa.field(n, pa.string(), nullable=False) for n in ("sample_id", "formula", "system")]
    columns: list[Any] = [targets.sample_id, targets.formula, targets.system]
    if targets.split is not None:
        fields.append(pa.field("split", pa.string(), nullable=False))
        columns.append(targets.split)
    for i, prop in enumerate(targets.properties):
        meta = {"unit": prop.unit, "transform": prop.transform}
        values = pa.array(targets.values[:, i], from_pandas=True)  # NaN is a blank cell
        nullable = values.null_count > 0
        fields.append(pa.field(prop.name, pa.float64(), nullable=nullable, metadata=meta))
        columns.append(values)
    for i, prop in enumerate(targets.properties):
        if not np.isnan(targets.noise[:, i]).all():
            fields.append(pa.field(f"{prop.name}_std", pa.float64(), metadata={"unit": prop.unit}))
            columns.append(pa.array(targets.noise[:, i], from_pandas=True))
    about = {
        "table": "targets",
        "properties": [asdict(p) for p in targets.properties],
        "missing_values": bool(np.isnan(targets.values).any()),
        "simulated": targets.simulated,
        "provenance": targets.provenance,
    }
    _write(path, columns, fields, about)


def read_targets(path: str | Path) -> Targets:
    """Read a targets table.

    Raises:
        UserError: the file is missing, is no targets table, or its columns are not as agreed.
    """
    table, about = _read(path, "targets", "hclmp prepare-targets")
    properties = tuple(Property(**p) for p in about["properties"])
    wanted = {n: pa.string() for n in ("sample_id", "formula", "system")}
    labels = {p.name: pa.float64() for p in properties}
    if about["missing_values"]:
        _check_columns(path, table, wanted, labels)
    else:
        _check_columns(path, table, wanted | labels)
    values = np.stack([table[p.name].to_numpy() for p in properties], axis=1)
    blank = np.full(len(table), np.nan)
    noise = [
        table[f"{p.name}_std"].to_numpy() if f"{p.name}_std" in table.column_names else blank
        for p in properties
    ]
    return Targets(
        sample_id=table["sample_id"].to_pylist(),
        formula=table["formula"].to_pylist(),
        system=table["system"].to_pylist(),
        properties=properties,
        values=values,
        noise=np.stack(noise, axis=1),
        simulated=about["simulated"],
        provenance=about["provenance"],
        split=table["split"].to_pylist() if "split" in table.column_names else None,
    )


def write_dos(path: str | Path, table: DosTable) -> None:
    """Write a DOS table: ``material_id, formula, dos`` (fixed-size list of float32)."""
    fields = [
        pa.field("material_id", pa.string(), nullable=False),
        pa.field("formula", pa.string(), nullable=False),
        pa.field("dos", pa.list_(pa.float32(), table.grid.n), metadata={"unit": table.unit}),
    ]
    flat = pa.array(np.ascontiguousarray(table.dos, dtype=np.float32).ravel())
    dos = pa.FixedSizeListArray.from_arrays(flat, table.grid.n)
    about = {
        "table": "dos",
        "grid": asdict(table.grid),
        "unit": table.unit,
        "norm": table.norm,
        "reference": table.reference,
        "simulated": table.simulated,
        "provenance": table.provenance,
    }
    _write(path, [table.material_id, table.formula, dos], fields, about)


def read_dos(path: str | Path) -> DosTable:
    """Read a DOS table.

    Raises:
        UserError: the file is missing, is no DOS table, or its columns are not as agreed.
    """
    table, about = _read(path, "dos", "hclmp pull-dos")
    grid = EnergyGrid(**about["grid"])
    wanted = {"material_id": pa.string(), "formula": pa.string()}
    _check_columns(path, table, wanted | {"dos": pa.list_(pa.float32(), grid.n)})
    dos = table["dos"].combine_chunks().flatten().to_numpy().reshape(len(table), grid.n)
    return DosTable(
        material_id=table["material_id"].to_pylist(),
        formula=table["formula"].to_pylist(),
        dos=dos,
        grid=grid,
        unit=about["unit"],
        norm=about["norm"],
        reference=about["reference"],
        simulated=about["simulated"],
        provenance=about["provenance"],
    )


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write a predictions table (columns: ``PREDICTION_COLUMNS``)."""
    fields = [
        pa.field(name, kind, nullable=name in LABEL_COLUMNS) for name, kind in PREDICTION_COLUMNS
    ]
    columns = [
        pa.array(predictions.frame[name], kind, from_pandas=name in LABEL_COLUMNS)
        for name, kind in PREDICTION_COLUMNS
    ]
    covariance = predictions.covariance
    about = {
        "table": "predictions",
        "properties": [asdict(p) for p in predictions.properties],
        "covariance": None if covariance is None else covariance.tolist(),
        "simulated": predictions.simulated,
        "provenance": predictions.provenance,
    }
    _write(path, columns, fields, about)


def read_predictions(path: str | Path) -> Predictions:
    """Read a predictions table.

    Raises:
        UserError: the file is missing, is no predictions table, or its columns are not as agreed.
    """
    table, about = _read(path, "predictions", "hclmp train")
    wanted = {n: kind for n, kind in PREDICTION_COLUMNS if n not in LABEL_COLUMNS}
    _check_columns(path, table, wanted, dict.fromkeys(LABEL_COLUMNS, pa.float64()))
    covariance = about["covariance"]
    return Predictions(
        frame=table.to_pandas(),
        properties=tuple(Property(**p) for p in about["properties"]),
        covariance=None if covariance is None else np.array(covariance),
        simulated=about["simulated"],
        provenance=about["provenance"],
    )


def _write(
    path: str | Path, columns: list[Any], fields: list[pa.Field], about: dict[str, Any]
) -> None:
    schema = pa.schema(fields, metadata={METADATA_KEY: json.dumps(about, sort_keys=True)})
    table = pa.Table.from_arrays(
        [
            c if isinstance(c, pa.Array) else pa.array(c, f.type)
            for c, f in zip(columns, fields, strict=True)
        ],
        schema=schema,
    )
    table.validate(full=True)
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _read(path: str | Path, kind: str, maker: str) -> tuple[pa.Table, dict[str, Any]]:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; `{maker}` makes it")
    try:
        table = pq.read_table(path, partitioning=None)
        about = json.loads((table.schema.metadata or {})[METADATA_KEY])
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a {kind} table of hclmp; `{maker}` makes it") from error
    if about["table"] != kind:
        raise UserError(f"{path}: a {about['table']} table where a {kind} table was expected")
    return table, about


def _check_columns(
    path: str | Path,
    table: pa.Table,
    wanted: dict[str, pa.DataType],
    with_blanks: dict[str, pa.DataType] | None = None,
) -> None:
    """Columns must be there and of their type; blank cells are for ``with_blanks`` alone."""
    wrong = [
        f"{name} ({kind})"
        for name, kind in (wanted | (with_blanks or {})).items()
        if name not in table.column_names or table.schema.field(name).type != kind
    ]
    if wrong:
        raise UserError(f"{path}: columns missing or of another type: {join_some(wrong)}")
    empty = [name for name in wanted if table[name].null_count]
    if empty:
        raise UserError(f"{path}: empty cells in columns {join_some(empty)}")
