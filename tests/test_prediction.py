"""``hclmp predict`` with a real small model: what is written, where, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from hclmp.provenance import sha256
from tests.conftest import Command

FOLDER = Path(__file__).parent / "fixtures/model_v1"
FORMULA = "Fe0.3Ti0.5W0.2"
ASK = {
    "predict": ("predict", "model", FORMULA),
    "screen": (
        *("screen", "model", "--elements", "Fe,Ti", "--cations", "2", "--step", "0.25"),
        *("--maximize", "alpha_5"),
    ),
}


@pytest.fixture
def given(workdir: Path) -> None:
    """The model, a table and a file of another kind, in the working directory."""
    shutil.copytree(FOLDER, "model")
    Path("t1.csv").write_text(f"formula\n{FORMULA}\n")
    Path("folder.csv").mkdir()


@pytest.mark.parametrize("asked", ASK.values(), ids=ASK)
@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("a.txt", "name a .csv or .parquet file"),
        ("folder.csv", "a folder, not a file; name another file"),
        ("t1.csv/a.csv", "cannot be written (Not a directory); name another file"),
        ("t1.csv/b/a.csv", "cannot be written (Not a directory); name another file"),
        ("/proc/x.csv", "cannot be written (No such file or directory); name another file"),
        (f"{'x' * 240}.csv", "cannot be written (File name too long); name another file"),
        ("model/training.parquet", "a file of the model, which would be replaced"),
        ("folder.csv/../model/history.csv", "a file of the model, which would be replaced"),
    ],
)
def test_what_cannot_or_must_not_be_written_is_refused_before_computing(
    given: None,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    asked: tuple[str, ...],
    out: str,
    words: str,
) -> None:
    def computed(*arguments: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr("hclmp.model.Ensemble.predict", computed)
    answer = command(*asked, "--out", out)
    assert answer.code == 2, answer.text
    assert f"error: {out}: {words}" in answer.text
    for name in ("training.parquet", "history.csv"):
        assert sha256(Path("model") / name) == sha256(FOLDER / name)


def test_the_table_itself_is_not_replaced(given: None, command: Command) -> None:
    before = Path("t1.csv").read_text()
    answer = command("predict", "model", "--table", "t1.csv", "--out", "folder.csv/../t1.csv")
    assert answer.code == 2, answer.text
    assert "the --table itself, which would be replaced; name another file" in answer.text
    assert Path("t1.csv").read_text() == before


def test_another_file_is_replaced_and_its_folder_made(given: None, command: Command) -> None:
    for _ in range(2):
        answer = command("predict", "model", "--table", "t1.csv", "--out", "new/folder/out.csv")
        assert answer.code == 0, answer.text
        assert "new/folder/out.csv: 1 compositions, 10 properties" in answer.text
    assert [p.name for p in Path("new/folder").iterdir()] == ["out.csv"]


@pytest.mark.parametrize("asked", ASK.values(), ids=ASK)
def test_json_is_printed_also_where_a_file_is_written(
    given: None, command: Command, asked: tuple[str, ...]
) -> None:
    answer = command("-q", *asked, "--json", "--out", "out.csv")
    assert answer.code == 0, answer.text
    content, _ = json.JSONDecoder().raw_decode(answer.text)  # warnings follow, on stderr
    written = pd.read_csv("out.csv")["formula"].tolist()
    assert [c["formula"] for c in content["compositions"]] == written


def test_names_in_capitals(given: None, command: Command) -> None:
    Path("t1.csv").rename("T1.CSV")
    for out in ("OUT.CSV", "OUT.PARQUET"):
        answer = command("predict", "model", "--table", "T1.CSV", "--out", out)
        assert answer.code == 0, answer.text
        answer = command("predict", "model", "--table", out, "--out", f"again_{out}")
        assert answer.code == 0, answer.text
    assert "alpha_5_std" in pd.read_csv("again_OUT.CSV").columns
    assert "alpha_5_std" in pd.read_parquet("again_OUT.PARQUET").columns


def test_a_column_without_a_table_is_refused(given: None, command: Command) -> None:
    answer = command("predict", "model", FORMULA, "--formula-column", "formula")
    assert answer.code == 2, answer.text
    assert "--formula-column is that of a --table, and none is given" in answer.text


def test_a_table_of_element_columns_is_predicted(given: None, command: Command) -> None:
    """As ``hclmp new`` reads it, though a property that is predicted is no element."""
    Path("amounts.csv").write_text("batch,Fe,Ti,W,note\n7,30,50,20,a\n8,,1,,\n")
    Path("formulas.csv").write_text("formula\nFe0.3Ti0.5W0.2\nTi\n")
    read = {}
    for name in ("amounts", "formulas"):
        answer = command("predict", "model", "--table", f"{name}.csv", "--out", f"{name}_out.csv")
        assert answer.code == 0, answer.text
        assert ("compositions from the columns Fe, Ti, W" in answer.text) == (name == "amounts")
        read[name] = pd.read_csv(f"{name}_out.csv")
    assert list(read["amounts"])[:5] == ["batch", "Fe", "Ti", "W", "note"]
    same = list(read["formulas"])[1:]
    assert "alpha_5_std" in same
    pd.testing.assert_frame_equal(read["amounts"][same], read["formulas"][same])
    answer = command("predict", "model", "--table", "amounts.csv", "--json")
    assert answer.code == 0, answer.text


def test_a_table_without_a_composition_is_refused(given: None, command: Command) -> None:
    Path("bare.csv").write_text("Cu (%),fe\n50,50\n")
    answer = command("predict", "model", "--table", "bare.csv")
    assert answer.code == 2
    assert "bare.csv: no column `formula`; it has Cu (%), fe. Name the column of" in answer.text


def test_numbers_of_a_csv_table_are_numbers_in_parquet(given: None, command: Command) -> None:
    rows = f"formula,n,x,id,word\n{FORMULA},7,1.50,007,a\nTi,8,,008,1\n"
    Path("in.csv").write_text(rows)
    answer = command("predict", "model", "--table", "in.csv", "--out", "out.parquet")
    assert answer.code == 0, answer.text
    read = pd.read_parquet("out.parquet")
    assert read["n"].tolist() == [7, 8]
    assert read["x"].dtype == float
    assert read["x"].isna().tolist() == [False, True]
    assert read["id"].tolist() == ["007", "008"]
    assert read["word"].tolist() == ["a", "1"]
    assert command("predict", "model", "--table", "in.csv", "--out", "out.csv").code == 0
    assert f"{FORMULA},7,1.50,007,a," in Path("out.csv").read_text()
