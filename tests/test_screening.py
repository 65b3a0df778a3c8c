"""``hclmp screen`` with a real small model: what is kept, what is passed over, what is shown."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hclmp.data.formula import composition_key, parse_formula
from hclmp.data.tables import PREDICTED, RANKED
from hclmp.errors import UserError
from hclmp.model import Model
from hclmp.screening.grid import Grid
from hclmp.screening.question import Question
from hclmp.screening.search import RankBy, Reference, Screened, read_measured, screen
from tests.conftest import Command

FOLDER = Path(__file__).parent / "fixtures/model_v1"
ASK = ("--elements", "Fe,Co,Ti,W", "--step", "0.1")
EACH = 36  # compositions of a system of three, in steps of a tenth


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(FOLDER)


def screened(
    model: Model,
    question: Question,
    *,
    rows: int = 10_000,
    top: int = 10,
    rank_by: RankBy = "probability",
    grid: Grid | None = None,
) -> Screened:
    grid = grid or Grid.of(["Co", "Fe", "Ti", "W"], cations=3, step=0.1)
    return screen(
        model,
        question,
        grid,
        measured=read_measured(FOLDER, model),
        parts=grid.parts(rows=rows),
        top=top,
        rank_by=rank_by,
    )


def asked(model: Model, **goals: tuple[str, ...]) -> Question:
    return Question.of(model.properties, **goals)


@pytest.mark.parametrize("rank_by", ["improvement", "probability", "predicted"])
def test_parts_give_what_one_part_gives(model: Model, rank_by: RankBy) -> None:
    question = asked(model, maximize=("alpha_5",), where=("alpha_1<1",))
    whole = screened(model, question, rank_by=rank_by)
    parts = screened(model, question, rank_by=rank_by, rows=17)
    assert (whole.candidates, whole.known) == (parts.candidates, parts.known)
    assert whole.feasible == parts.feasible
    assert whole.candidates + whole.known == 4 * EACH
    assert set(whole.frame["formula"]) == set(parts.frame["formula"])
    column = "alpha_5" if rank_by == "predicted" else rank_by
    np.testing.assert_allclose(whole.frame[column], parts.frame[column], rtol=1e-4)
    assert whole.frame["rank"].tolist() == list(range(1, 11))
    assert (np.diff(whole.frame[column]) <= 1e-6).all(), "best first"


def test_the_best_of_all_are_kept(model: Model) -> None:
    question = asked(model, maximize=("alpha_5",))
    every = screened(model, question, top=10_000, rank_by="improvement").frame
    assert len(every) == len(set(every["formula"])) <= 4 * EACH
    best = screened(model, question, rows=17, rank_by="improvement").frame
    assert set(best["formula"]) == set(every["formula"].head(10))
    direct = model.predict(every["formula"].tolist())
    np.testing.assert_allclose(direct["alpha_5"], every["alpha_5"], rtol=1e-4)


@pytest.mark.parametrize(
    "goals",
    [{"maximize": ("alpha_1", "alpha_8")}, {"maximize": ("alpha_1",), "minimize": ("alpha_8",)}],
)
def test_the_front_over_a_stream_is_that_of_all(
    model: Model, goals: dict[str, tuple[str, ...]]
) -> None:
    question = asked(model, **goals)
    found = screened(model, question, rows=17, top=3).frame
    every = screened(model, question, top=10_000).frame
    points = question.directed(every[[p.name for p in model.properties]].to_numpy())
    unbeaten = [not ((points >= p).all(axis=1) & (points > p).any(axis=1)).any() for p in points]
    assert set(found.loc[found["on_front"], "formula"]) == set(every.loc[unbeaten, "formula"])
    assert found["rank"].dropna().tolist() == [1, 2, 3]
    assert found["rank"].isna().sum() == len(found) - 3
    assert len(found) > 3, "some are kept for the front alone"


@pytest.mark.parametrize("rank_by", ["improvement", "probability"])
def test_equal_scores_are_ranked_by_feasibility_and_then_by_the_goal(
    model: Model, rank_by: RankBy
) -> None:
    question = asked(model, maximize=("alpha_5",), where=("alpha_5>0.9",))
    found = screened(model, question, top=10_000, rank_by=rank_by).frame
    assert (found[rank_by] == 0).all(), "the record, of other elements, is out of reach"
    assert (np.diff(found["feasible"]) <= 0).all()
    assert found["feasible"].iloc[0] > 0.5
    question = asked(model, minimize=("alpha_5",), where=("alpha_1>1000",))
    found = screened(model, question, top=10_000, rank_by=rank_by).frame
    assert (found["feasible"] == 0).all()
    assert (np.diff(found["alpha_5"]) >= -1e-6).all(), "the lowest first"


def test_no_property_can_be_called_as_what_stands_beside_them(model: Model) -> None:
    one = asked(model, maximize=("alpha_5",), where=("alpha_1<1",))
    two = asked(model, maximize=("alpha_5",), minimize=("alpha_1",))
    columns = {c for question in (one, two) for c in screened(model, question).frame.columns}
    ends = ("", "_std", "_low", "_high")
    own = {f"{p.name}{end}" for p in model.properties for end in ends}
    assert columns - own == {*PREDICTED, *RANKED}


def test_what_has_been_measured_is_passed_over(model: Model) -> None:
    measured = read_measured(FOLDER, model)
    measured_keys = {composition_key(f) for f in measured.fractions if len(f) == 3}
    systems = sorted({"-".join(sorted(f)) for f in measured.fractions if len(f) == 3})
    elements = systems[0].split("-")
    grid = Grid.of(elements, cations=3, step=0.037037)  # of 27 parts, as the demo's compositions
    on_grid = [composition_key(parse_formula(f)) for f in grid.formulas(np.arange(grid.size))]
    wanted = sum(key in measured_keys for key in on_grid)
    assert wanted > 0, "the table has some of the grid"
    found = screened(model, asked(model, maximize=("alpha_5",)), grid=grid, top=10_000)
    assert found.known == wanted
    assert found.candidates == grid.size - wanted
    assert not measured_keys & {composition_key(parse_formula(f)) for f in found.frame["formula"]}


def test_the_command_line(command: Command) -> None:
    answer = command("screen", FOLDER, *ASK, "--maximize", "alpha_5", "--where", "alpha_1<0.5")
    assert answer.code == 0, answer.text
    table = pd.read_parquet(FOLDER / "training.parquet")
    own = [set(s.split("-")) <= {"Fe", "Co", "Ti", "W"} for s in table["system"]]
    table = table[own].query("alpha_1 < 0.5").sort_values("alpha_5")
    assert len(table) > 1
    for words in (
        f"best measured that meets the conditions: {table['formula'].iloc[-1]}, alpha_5",
        "20 of",
        "candidates in 4 systems, by expected improvement on what has been measured",
        "trained on simulated values",
        "likelier than not to meet alpha_1<0.5:",
        "1e5/cm",
    ):
        assert words in answer.text
    answer = command(
        *("screen", FOLDER, *ASK, "--maximize", "alpha_5", "--minimize", "alpha_1", "--top", 3)
    )
    assert answer.code == 0, answer.text
    assert "by probability of surpassing what has been measured" in answer.text
    assert "to surpass: the front," in answer.text


def test_at_80_columns_and_in_a_folder_with_brackets_nothing_is_cut_off(
    command: Command, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ask = ("--elements", "La,Y", "--cations", 2, "--maximize", "alpha_5", "--minimize", "alpha_1")
    where = ("--where", "alpha_9>0", "--where", "alpha_10>0", "--where", "alpha_8>0")
    out = "a_folder_with_quite_a_long_name/[bold]and_another_one_of_that_kind/best.csv"
    answer = command("screen", FOLDER, *ask, *where, "--out", out)
    assert answer.code == 0, answer.text
    assert "…" not in answer.text
    found = pd.read_csv(out)
    assert len(found) > 1
    for formula in found["formula"]:
        assert f"│ {formula} │" in answer.text
    assert "front" in answer.text
    assert answer.text.count("│ ! │") == len(found)
    assert f"{out}: {len(found)} compositions" in answer.text


def test_the_record_is_of_the_elements_that_are_screened(model: Model) -> None:
    measured = read_measured(FOLDER, model)
    question = asked(model, maximize=("alpha_5",))
    best = int(np.nanargmax(measured.values[:, 4]))
    others = sorted({"Fe", "Ti", "W", "Co"} - measured.fractions[best].keys())
    own = Reference.of(question, measured, others)
    assert own.same_elements
    (row,) = own.record.rows
    values = [
        v[4]
        for f, v in zip(measured.fractions, measured.values, strict=True)
        if f.keys() <= set(others)
    ]
    assert own.measured.values[row, 4] == max(values) < measured.values[best, 4]
    none = Reference.of(question, measured, ["La", "Y"])
    assert not none.same_elements
    assert none.record.rows.tolist() == [best]


def test_what_no_candidate_is_likely_to_surpass_is_said(command: Command) -> None:
    answer = command(
        "screen", FOLDER, "--elements", "La,Y", "--cations", 2, "--maximize", "alpha_5"
    )
    assert answer.code == 0, answer.text
    assert "of other elements" in answer.text
    assert "! doubtful: 19 of 19" in answer.text


def test_files_have_all_columns_and_units(command: Command, workdir: Path) -> None:
    for out in ("best.csv", "best.parquet"):
        answer = command("screen", FOLDER, *ASK, "--maximize", "alpha_5", "--out", out)
        assert answer.code == 0, answer.text
        assert f"{out}: 20 compositions" in answer.text
    table, parquet = pd.read_csv("best.csv"), pd.read_parquet("best.parquet")
    assert list(table.columns) == list(parquet.columns)
    assert list(table.columns[:5]) == ["rank", "formula", "system", "probability", "improvement"]
    assert {f"alpha_{i}{end}" for i in range(1, 11) for end in ("", "_std")} <= set(table.columns)
    assert {"distance", "warning"} <= set(table.columns)
    assert parquet.attrs["units"]["improvement"] == "1e5/cm"
    np.testing.assert_allclose(table["improvement"], parquet["improvement"])


def test_json_for_scripts(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hclmp.cli.main import main

    arguments = ["screen", str(FOLDER), *ASK, "--maximize", "alpha_5", "--top", "2", "--json"]
    monkeypatch.setattr(sys, "argv", ["hclmp", "--quiet", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert not leaving.value.code
    captured = capsys.readouterr()
    assert captured.err == "", "quiet"
    content = json.loads(captured.out)
    assert content["simulated"] is True
    assert content["units"]["alpha_5"] == content["units"]["improvement"] == "1e5/cm"
    assert content["candidates"] + content["known"] == 4 * EACH
    assert [c["rank"] for c in content["compositions"]] == [1, 2]
    assert "best measured" in content["notes"][0]


def test_oxygen_is_left_out_and_said(command: Command) -> None:
    answer = command(
        *("screen", FOLDER, "--elements", "Fe,Ti,O", "--cations", 2, "--maximize", "alpha_5")
    )
    assert answer.code == 0, answer.text
    assert "left out of compositions, as in training: O" in answer.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--elements", "Fe,Xx,Ti", "--maximize", "alpha_5"], "knows nothing of Xx"),
        (["--elements", ",", "--maximize", "alpha_5"], "--elements names none"),
        (
            ["--elements", "Fe,Co,O", "--maximize", "alpha_5"],
            "--elements: O is left out of compositions, as in training; too few remain for "
            "--cations 3 (Fe, Co)",
        ),
        (
            ["--elements", "O", "--cations", "1", "--maximize", "alpha_5"],
            "O is left out of compositions, as in training; too few remain for --cations 1 (none)",
        ),
        (
            ["--elements", "Fe,Ti,W", "--maximize", "alpha_5", "--seed", "1"],
            "--seed 1 is that of --samples, which is not given",
        ),
        (["--elements", "Fe,Ti", "--maximize", "alpha_5"], "--cations 3: only 2 elements"),
        (["--elements", "Fe,Ti,W"], "0 goals"),
        (["--elements", "Fe,Ti,W", "--maximize", "gap"], "no property `gap`"),
        (["--elements", "Fe,Ti,W", "--maximize", "alpha_5", "--rank-by", "luck"], "luck: choose"),
        (["--elements", "Fe,Ti,W", "--maximize", "alpha_5", "--out", "a.txt"], "a.txt: name a"),
        (
            ["--elements", "Fe,Ti,W", "--maximize", "alpha_5", "--samples", "9999"],
            "--samples 9999: the grid has 171",
        ),
        (
            [
                *("--elements", "Fe,Ti,W", "--maximize", "alpha_5", "--minimize", "alpha_1"),
                *("--rank-by", "predicted"),
            ],
            "--rank-by predicted: two goals are ranked by probability",
        ),
        (
            [
                *("--elements", "Fe,Ti,W", "--maximize", "alpha_5", "--rank-by", "predicted"),
                *("--where", "alpha_1<-99"),
            ],
            "no candidate is left: no candidate is likelier than not to meet alpha_1<-99: relax "
            "--where, or another --rank-by",
        ),
        (
            [
                *("--elements", "Fe,Co,Ti,W", "--cations", "1", "--step", "1"),
                "--maximize",
                "alpha_5",
            ],
            "no candidate is left: all 4 have been measured: finer --step or other --elements",
        ),
    ],
)
def test_what_cannot_be_screened_is_one_message(
    command: Command, arguments: list[str], words: str
) -> None:
    answer = command("screen", FOLDER, *arguments)
    assert answer.code == 2, answer.text
    assert answer.text.count("error:") == 1
    assert words in answer.text


def test_nothing_measured_meets_the_conditions(command: Command) -> None:
    answer = command("screen", FOLDER, *ASK, "--maximize", "alpha_5", "--where", "alpha_1<-99")
    assert answer.code == 0, answer.text
    assert "by probability of meeting the conditions" in answer.text
    assert "nothing measured that meets the conditions" in answer.text
    assert "no candidate is likelier than not to meet alpha_1<-99: relax --where" in answer.text
    assert "`probability` is 0 for all: ranked by predicted alpha_5" in answer.text
    for word in ("surpass", "--rank-by", "see the front"):
        assert word not in answer.text
    two = ("--maximize", "alpha_5", "--minimize", "alpha_3", "--where", "alpha_1<-99")
    answer = command("screen", FOLDER, *ASK, *two)
    assert answer.code == 0, answer.text
    assert "surpass it" not in answer.text
    assert "see the front" not in answer.text


def test_a_record_out_of_reach_is_said(command: Command) -> None:
    answer = command("screen", FOLDER, *ASK, "--maximize", "alpha_5", "--where", "alpha_5>0.9")
    assert answer.code == 0, answer.text
    assert "none of these is likely to surpass it (at most 0.000): see --rank-by" in answer.text
    words = "`improvement` is 0 for all: ranked by `feasible`, then by predicted alpha_5"
    assert words in answer.text


def test_quiet_is_without_notes_but_not_without_warnings(
    command: Command, monkeypatch: pytest.MonkeyPatch, workdir: Path
) -> None:
    ask = ("--elements", "La,Y", "--cations", 2, "--maximize", "alpha_5", "--out", "best.csv")
    answer = command("-q", "screen", FOLDER, *ask)
    assert answer.code == 0, answer.text
    assert "! doubtful: 19 of 19" in answer.text
    for word in ("best measured", "likely", "19 compositions", "screening"):
        assert word not in answer.text
    assert Path("best.csv").is_file()


def test_the_uncertainty_of_a_log10_property_is_an_interval(
    command: Command, workdir: Path
) -> None:
    folder = Path(shutil.copytree(FOLDER, "model"))
    about = json.loads((folder / "model.json").read_text())
    about["properties"][4]["transform"] = "log10"  # a positive one, whose errors are of its decades
    (folder / "model.json").write_text(json.dumps(about))
    goals = ("--maximize", "alpha_5", "--minimize", "alpha_1", "--top", 1)
    answer = command("screen", "model", *ASK, *goals, "--out", "best.csv")
    assert answer.code == 0, answer.text
    best = pd.read_csv("best.csv").iloc[0]
    value, low, high = (best[f"alpha_5{end}"] for end in ("", "_low", "_high"))
    assert 0 < low < value < high
    assert f"{value:.3g} ({low:.2g} to {high:.2g}) │ {best['alpha_1']:.3g} ± " in answer.text
    assert "± one standard deviation (low to high): 90 % interval" in answer.text


def test_the_table_must_be_the_models(model: Model, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "model")
    path = folder / "training.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match="not the table that the model was trained on"):
        read_measured(folder, model)
    path.unlink()
    with pytest.raises(UserError, match=r"training\.parquet: no such file"):
        read_measured(folder, model)


MEASURE = """
import resource, sys
from hclmp.cli.main import main
sys.argv = ["hclmp", "-q", *sys.argv[1:]]
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def peak(samples: int) -> float:
    """Peak memory of a screen of so many candidates, in MB."""
    elements = "Al,Co,Cr,Cu,Fe,Mn,Mo,Nb,Ni,Ti,V,W,Zn,Zr"
    grid = ["--elements", elements, "--cations", "4", "--step", "0.02", "--samples", str(samples)]
    goals = ["--maximize", "alpha_5", "--minimize", "alpha_1", "--where", "alpha_3<1"]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, "screen", str(FOLDER), *grid, *goals],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(run.stderr.split()[-1]) / 1024


@pytest.mark.slow
def test_a_million_candidates_take_no_more_memory_than_some() -> None:
    assert peak(1_000_000) < peak(20_000) + 100
