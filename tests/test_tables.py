"""The tables between the steps: what is written reads back, with its metadata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hclmp.data.tables import (
    METADATA_KEY,
    PREDICTION_COLUMNS,
    DosTable,
    EnergyGrid,
    Predictions,
    Property,
    Targets,
    read_dos,
    read_predictions,
    read_targets,
    write_dos,
    write_predictions,
    write_targets,
)
from hclmp.errors import UserError
from hclmp.provenance import read_provenance
from hclmp.sources.table import read_frame

PROPERTIES = (
    Property("gap", unit="eV", coordinate=1.5),
    Property("rate", unit="1/s", transform="log10"),
)


@pytest.fixture
def targets() -> Targets:
    return Targets(
        sample_id=["a", "b", "c"],
        formula=["Fe2O3", "NaN", "TiO2"],
        system=["Fe", "N-Na", "Ti"],
        properties=PROPERTIES,
        values=np.array([[1.0, 10.0], [0.1, 0.01], [-3.0, 1e-300]]),
        noise=np.array([[0.1, np.nan], [np.nan, np.nan], [0.3, np.nan]]),
        simulated=True,
        provenance={"seed": 3, "inputs": {"x": "00"}},
    )


@pytest.fixture
def dos() -> DosTable:
    return DosTable(
        material_id=["m1", "m2"],
        formula=["Fe", "TiO2"],
        dos=np.array([[0.0, 1.5, 2.0], [3.0, 0.25, 1e-3]], dtype=np.float32),
        grid=EnergyGrid(-1.0, 1.0, 3, "eV"),
        unit="states/eV/atom",
        norm="atom",
        reference="Fermi level",
        simulated=False,
        provenance={"step": "pull_dos"},
    )


@pytest.fixture
def predictions() -> Predictions:
    columns = {
        name: ["x", "y"] if kind == pa.string() else [0.5, i + 1.0]
        for i, (name, kind) in enumerate(PREDICTION_COLUMNS)
    }
    return Predictions(
        frame=pd.DataFrame(columns),
        properties=PROPERTIES,
        covariance=np.array([[1.0, 0.2], [0.2, 2.0]]),
        simulated=False,
        provenance={"seed": 1},
    )


def test_targets_round_trip(workdir: Path, targets: Targets) -> None:
    write_targets("t.parquet", targets)
    back = read_targets("t.parquet")
    assert (back.sample_id, back.formula, back.system) == (
        targets.sample_id,
        targets.formula,
        targets.system,
    )
    np.testing.assert_array_equal(back.values, targets.values)
    np.testing.assert_array_equal(back.noise, targets.noise)
    assert back.properties == PROPERTIES
    assert back.simulated is True
    assert back.provenance == targets.provenance


def test_targets_columns_and_units_are_for_others_to_read(workdir: Path, targets: Targets) -> None:
    write_targets("t.parquet", targets)
    schema = pq.read_schema("t.parquet")
    assert schema.names == ["sample_id", "formula", "system", "gap", "rate", "gap_std"]
    assert schema.field("gap").metadata == {b"unit": b"eV", b"transform": b"identity"}
    assert schema.field("rate").metadata == {b"unit": b"1/s", b"transform": b"log10"}
    assert schema.field("gap_std").metadata == {b"unit": b"eV"}


def test_equal_tables_are_equal_bytes(workdir: Path, targets: Targets) -> None:
    for name in ("one.parquet", "two.parquet"):
        write_targets(name, targets)
    assert Path("one.parquet").read_bytes() == Path("two.parquet").read_bytes()


def test_dos_round_trip(workdir: Path, dos: DosTable) -> None:
    write_dos("d.parquet", dos)
    back = read_dos("d.parquet")
    np.testing.assert_array_equal(back.dos, dos.dos)
    assert back.dos.dtype == np.float32
    for name in ("material_id", "formula", "grid", "unit", "norm", "reference", "simulated"):
        assert getattr(back, name) == getattr(dos, name)
    assert back.provenance == dos.provenance
    field = pq.read_schema("d.parquet").field("dos")
    assert field.type == pa.list_(pa.float32(), 3)
    assert field.metadata == {b"unit": b"states/eV/atom"}
    np.testing.assert_array_equal(back.grid.energies(), [-1.0, 0.0, 1.0])


def test_predictions_round_trip(workdir: Path, predictions: Predictions) -> None:
    write_predictions("p.parquet", predictions)
    back = read_predictions("p.parquet")
    pd.testing.assert_frame_equal(back.frame, predictions.frame)
    assert list(back.frame) == [name for name, _ in PREDICTION_COLUMNS]
    assert back.properties == PROPERTIES
    np.testing.assert_array_equal(back.covariance, predictions.covariance)
    write_predictions("q.parquet", replace(predictions, covariance=None))
    assert read_predictions("q.parquet").covariance is None


def test_another_kind_of_table_is_refused(
    workdir: Path, targets: Targets, dos: DosTable, predictions: Predictions
) -> None:
    write_targets("t.parquet", targets)
    write_dos("d.parquet", dos)
    write_predictions("p.parquet", predictions)
    with pytest.raises(UserError, match=r"d\.parquet: a dos table where a targets table was"):
        read_targets("d.parquet")
    with pytest.raises(UserError, match=r"t\.parquet: a targets table where a dos table was"):
        read_dos("t.parquet")
    with pytest.raises(UserError, match=r"d\.parquet: a dos table where a predictions table was"):
        read_predictions("d.parquet")


def test_a_file_that_is_no_table_is_refused(workdir: Path) -> None:
    with pytest.raises(UserError, match=r"n\.parquet: no such file; `hclmp prepare-targets`"):
        read_targets("n.parquet")
    Path("n.parquet").write_text("no Parquet at all")
    with pytest.raises(UserError, match=r"n\.parquet: not a targets table of hclmp"):
        read_targets("n.parquet")
    pd.DataFrame({"formula": ["Fe"]}).to_parquet("n.parquet")
    with pytest.raises(UserError, match=r"n\.parquet: not a dos table of hclmp; `hclmp pull-dos`"):
        read_dos("n.parquet")


def test_a_damaged_footer_is_a_users_mistake(workdir: Path, targets: Targets) -> None:
    """Arrow raises several kinds of errors, by the byte that is damaged."""
    write_targets("t.parquet", targets)
    whole = Path("t.parquet").read_bytes()
    kinds = set()
    for place in range(20, 400, 10):
        broken = bytearray(whole)
        broken[-place] ^= 0xFF
        Path("t.parquet").write_bytes(broken)
        for read in (read_targets, read_provenance, read_frame):
            try:
                read(Path("t.parquet"))
            except UserError as error:
                kinds.add(type(error.__cause__))
    assert OSError in kinds


def rewritten(path: str, change: dict[str, pa.Array | None]) -> None:
    """Replace columns of a Parquet file (None: drop), keeping its metadata."""
    table = pq.read_table(path)
    columns = {n: change.get(n, table[n]) for n in table.column_names}
    kept = {n: c for n, c in columns.items() if c is not None}
    new = pa.table(kept).replace_schema_metadata(
        {METADATA_KEY: table.schema.metadata[METADATA_KEY]}
    )
    pq.write_table(new, path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gap": None}, r"missing or of another type: gap \(double\)"),
        ({"gap": pa.array([1, 2, 3])}, r"missing or of another type: gap \(double\)"),
        ({"system": None}, r"missing or of another type: system \(string\)"),
        ({"formula": pa.array(["Fe", None, "Ti"])}, "empty cells in columns formula"),
        ({"rate": pa.array([1.0, None, 2.0])}, "empty cells in columns rate"),
    ],
)
def test_columns_other_than_agreed_are_refused(
    workdir: Path, targets: Targets, change: dict[str, pa.Array | None], words: str
) -> None:
    write_targets("t.parquet", targets)
    rewritten("t.parquet", change)
    with pytest.raises(UserError, match=f"{words}.*`hclmp prepare-targets` makes it again"):
        read_targets("t.parquet")


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_transforms_have_an_inverse(values: list[float]) -> None:
    array = np.array(values)
    for prop in PROPERTIES:
        np.testing.assert_allclose(prop.inverse(prop.forward(array)), array, rtol=1e-9)


def test_transforms_are_what_they_are_called() -> None:
    values = np.array([0.01, 1.0, 100.0])
    np.testing.assert_array_equal(PROPERTIES[0].forward(values), values)
    np.testing.assert_allclose(PROPERTIES[1].forward(values), [-2.0, 0.0, 2.0])
    std = np.array([0.5, 0.5, 1.0])
    np.testing.assert_allclose(PROPERTIES[0].inverse_std(values, std), std)
    expected = (10 ** (np.array([1.0]) + 1.0) - 10 ** (np.array([1.0]) - 1.0)) / 2
    np.testing.assert_allclose(
        PROPERTIES[1].inverse_std(np.array([1.0]), np.array([1.0])), expected
    )


def test_noise_is_transformed_column_by_column(targets: Targets) -> None:
    noise = np.array([[0.1, 2.0], [np.nan, np.nan], [0.3, 1e-300]])
    found = replace(targets, noise=noise).transformed_noise()
    assert found is not None
    np.testing.assert_array_equal(found[:, 0], noise[:, 0])
    np.testing.assert_allclose(found[:, 1], [0.2 / np.log(10), np.nan, 1 / np.log(10)])
    assert replace(targets, noise=np.full((3, 2), np.nan)).transformed_noise() is None


def test_labels_are_transformed_column_by_column(targets: Targets) -> None:
    expected = np.column_stack([targets.values[:, 0], np.log10(targets.values[:, 1])])
    np.testing.assert_array_equal(targets.transformed(), expected)
