"""``hclmp new`` and ``hclmp systems``: from someone's table to a run that can start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hclmp.data.folds import read_systems, split_fold
from hclmp.data.formula import parse_formulas, system_of
from tests.conftest import Command, assert_refused
from tests.made_up.plates import plate, store
from tests.made_up.tables import (
    TERNARIES,
    good_dos,
    good_table,
    wide_dos,
    write,
)
from tests.new_command import made, new


@pytest.fixture(autouse=True)
def tables(workdir: Path) -> None:
    write(workdir / "table.csv", good_table())
    write(workdir / "dos.csv", wide_dos())
    write(workdir / "dos.parquet", good_dos())


def test_a_directory_is_made_that_the_steps_accept(
    workdir: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, said = made(command, "--folds", 2, "--dos", "dos.csv")
    assert "snakemake --cores all --directory mine" in said
    assert "25 rows, 5 elements, 9 systems" in said
    assert "held out: 4 systems in 2 folds, 20 compositions" in said
    assert config.targets.path == str(workdir / "table.csv")
    assert config.dos.path == str(workdir / "dos.csv")
    assert config.targets.left_out == ["O"]
    assert list(config.targets.properties) == ["gap", "rate"]
    monkeypatch.chdir("mine")  # as `snakemake --directory` does
    for step in ("prepare-targets", "pull-dos"):
        answer = command(step, "--config", "config/config.yaml")
        assert answer.code == 0, answer.text


@pytest.mark.parametrize("folds", [None, 2, 3, 4])
def test_every_fold_of_the_sheet_splits(command: Command, folds: int | None) -> None:
    config, _ = made(command, *([] if folds is None else ["--folds", folds]))
    sheet = read_systems("mine/config/systems.tsv")
    assert len(sheet) == (folds or len(TERNARIES))
    assert sorted(s for members in sheet.values() for s in members) == sorted(TERNARIES)
    parsed = parse_formulas(good_table()["formula"].tolist(), left_out=["O"], origin="")
    systems = [system_of(fractions) for fractions in parsed]
    for fold, held_out in sheet.items():
        rows = split_fold(
            systems,
            held_out,
            validation_fraction=config.training.validation_fraction,
            seed=config.training.seed,
            fold=fold,
        )
        assert {systems[i] for i in rows.test} == set(held_out)
        assert len(rows.train)
        assert len(rows.validation)


def test_without_dos_no_variant_transfers(command: Command) -> None:
    config, _ = made(command)
    assert config.dos.source == "none"
    assert not config.transfers
    assert "extra_trees" in config.variants


@pytest.mark.parametrize(
    ("dos", "energies", "words"),
    [
        ("dos.csv", (-1.0, 0.75, 8, "eV"), "8 energies from -1 to 0.75 eV, a unit that is assumed"),
        ("dos.parquet", (0.0, 7.0, 8, "bin"), "0 to 7 bin, which the file does not tell"),
    ],
)
def test_the_energy_grid_is_told_as_far_as_the_file_does(
    command: Command, dos: str, energies: tuple[Any, ...], words: str
) -> None:
    config, said = made(command, "--dos", dos)
    assert "25 densities of states on 8 energies" in said
    assert words in said
    grid = config.dos.energies
    assert (grid.start, grid.stop, grid.n, grid.unit) == energies
    assert config.transfers
    unknown = "the file does not tell them" in Path("mine/config/config.yaml").read_text()
    assert unknown == (energies[-1] == "bin")


def test_ids_beside_the_energies_are_no_energies(workdir: Path, command: Command) -> None:
    ids = [f"m-{i}" for i in range(25)]
    write(workdir / "dos.csv", wide_dos().assign(material_id=ids, sample_id=ids))
    config, _ = made(command, "--dos", "dos.csv")
    assert config.dos.energies.n == 8


def test_log10_is_learned_where_it_is_asked_for(command: Command) -> None:
    config, said = made(command)
    assert {p.transform for p in config.targets.properties.values()} == {"identity"}
    assert "suggested" in said


@pytest.mark.parametrize(
    ("log10", "learned"), [("auto", {"rate"}), ("gap", {"gap"}), ("auto,gap", {"gap", "rate"})]
)
def test_log10_by_name_or_as_suggested(command: Command, log10: str, learned: set[str]) -> None:
    config, _ = made(command, "--log10", log10)
    found = {n for n, p in config.targets.properties.items() if p.transform == "log10"}
    assert found == learned


def spoiled(column: str, value: object) -> pd.DataFrame:
    frame = good_table().astype(object)
    frame.loc[2, column] = value
    return frame


def differing_in_one_composition() -> pd.DataFrame:
    """Two values of ``gap``, in rows that are merged to one."""
    table = good_table().assign(gap=1.5)
    return pd.concat([table, table.head(1).assign(gap=1.4), table.head(1)])


@pytest.mark.parametrize(
    ("frame", "options", "words"),
    [
        (spoiled("gap", "?"), [], "column `gap` is not a finite number in row 3 ('?')"),
        (spoiled("formula", "Xx"), [], "row 3: 'Xx' names no real element"),
        (spoiled("rate", -1.0), ["--log10", "rate"], "--log10 rate: not positive in row 3 (-1)"),
        (good_table(), ["--log10", "ratio"], "--log10 names ratio; the properties are gap, rate"),
        (good_table(), ["--formula-column", "name"], "no column `name`; column `formula` looks"),
        (
            good_table(),
            ["--elements-per-system", 4],
            "no sample is of 4 elements, but of 1, 3: choose another",
        ),
        (
            good_table(),
            ["--folds", 5],
            "only 4 systems of 3 elements have at least 5 samples, too few for 5 folds. Lower",
        ),
        (
            good_table(),
            ["--min-samples", 6],
            "none of the 4 systems of 3 elements has 6 samples; the largest has 5. Lower --min-s",
        ),
        (good_table().head(5), [], "fold `Cu-Fe-Mn` leaves no training data"),
        (good_table().head(0), [], "table.csv: the table is empty"),
        (good_table(), ["--dos", "none.csv"], "none.csv: no such file"),
        (good_table(), ["--left-out", "ox"], "ox is no element"),
        (spoiled("gap", None), [], "(`hclmp new --allow-missing`) accepts blank cells"),
        (good_table().rename(columns={"gap": "warning"}), [], "cannot be called warning, which"),
        (good_table().rename(columns={"gap": "distance"}), [], "cannot be called distance, which"),
        (
            good_table().assign(gap_std=-1.0),
            [],
            "column `gap_std` is a standard deviation, but neg",
        ),
        (
            good_table()[["formula"]].assign(gap=1.5, rate=2),
            [],
            "columns with one value in every row: gap (1.5), rate (2). There is nothing",
        ),
        (differing_in_one_composition(), [], "gap has one value in every row"),
        (spoiled("formula", "Og2O3"), [], "row 3 (Og2O3: Og)"),
    ],
)
def test_a_bad_table_makes_no_directory(
    workdir: Path, command: Command, frame: pd.DataFrame, options: list[object], words: str
) -> None:
    write(workdir / "table.csv", frame)
    assert_refused(new(command, *options), words)
    assert not Path("mine").exists()


def uneven() -> pd.DataFrame:
    return wide_dos().rename(columns={"-0.5": "-0.4"})


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (good_dos().drop(columns="formula"), "no column `formula`; it has dos"),
        (good_dos().rename(columns={"dos": "x"}), "no list column `dos`; it has formula, x"),
        (good_dos().assign(dos=[None, *good_dos()["dos"][1:]]), "0 DOS values per row"),
        (good_dos().assign(dos=[*good_dos()["dos"][1:], [1.0]]), "lists of one length"),
        (good_dos().assign(dos=[-x for x in good_dos()["dos"]]), "density of states is negative"),
        (good_dos().assign(formula="Xx"), "row 1: 'Xx' names no real element"),
        (good_dos().assign(formula="Og2O3"), "row 1 (Og2O3: Og)"),
        (
            wide_dos().assign(gap=1.0, note="x"),
            "columns gap, note are not named after an energy, as the others are. Take them out",
        ),
        (wide_dos()[["formula"]], "0 DOS values per row"),
        (uneven(), "are not ascending in equal steps"),
        (wide_dos().iloc[:, [0, *range(8, 0, -1)]], "are not ascending in equal steps"),
    ],
)
def test_a_bad_dos_table_makes_no_directory(
    workdir: Path, command: Command, frame: pd.DataFrame, words: str
) -> None:
    path = write(workdir / ("bad.parquet" if "dos" in frame or "x" in frame else "bad.csv"), frame)
    if "formula" not in frame:
        path = write(workdir / "bad.parquet", frame)
    assert_refused(new(command, "--dos", path.name), f"{path.name}", words)
    assert not Path("mine").exists()


@pytest.mark.parametrize("name", ["config.yaml", "systems.tsv"])
def test_what_is_there_is_not_overwritten(workdir: Path, command: Command, name: str) -> None:
    (workdir / "mine/config").mkdir(parents=True)
    (workdir / "mine/config" / name).write_text("precious")
    assert_refused(new(command), f"mine/config/{name}: there already; choose another directory")
    assert [p.name for p in Path("mine/config").iterdir()] == [name]
    assert (workdir / "mine/config" / name).read_text() == "precious"


def test_a_file_in_the_place_of_the_directory_is_refused(workdir: Path, command: Command) -> None:
    (workdir / "mine").write_text("precious")
    assert_refused(new(command), "mine: a file, not a directory")
    assert (workdir / "mine").read_text() == "precious"


def test_a_sheet_is_written_for_a_table(workdir: Path, command: Command) -> None:
    answer = command("systems", "table.csv", "--left-out", "O", "--folds", 2, "--out", "s.tsv")
    assert answer.code == 0, answer.text
    assert "s.tsv: 4 systems in 2 folds" in answer.text
    sheet = read_systems("s.tsv")
    assert list(sheet) == ["fold-1", "fold-2"]
    assert [len(members) for members in sheet.values()] == [2, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["table.csv", "--formula-column", "name"],
            "table.csv: no column `name`; column `formula`",
        ),
        (["none.csv"], "none.csv: no such file"),
        (["table.csv", "--min-samples", 99], "none of the 4 systems"),
    ],
)
def test_no_sheet_is_written_for_a_bad_table(
    command: Command, options: list[object], words: str
) -> None:
    answer = command("systems", *options, "--left-out", "O", "--out", "s.tsv")
    assert_refused(answer, words)
    assert not Path("s.tsv").exists()


def test_suggestions_follow_the_spread(workdir: Path, command: Command) -> None:
    """Two decades of positive values suggest log10; a sign or a narrower spread does not."""
    table = good_table().drop(columns="rate")
    table["wide"] = np.roll(np.geomspace(1.0, 100.0, 25), -1)
    table["narrow"] = np.roll(np.geomspace(1.0, 99.0, 25), -1)
    table["signed"] = np.linspace(-1.0, 1000.0, 25)
    write(workdir / "table.csv", table)
    config, _ = made(command, "--log10", "auto")
    learned = {n for n, p in config.targets.properties.items() if p.transform == "log10"}
    assert learned == {"wide"}


def test_the_command_to_go_on_with_can_be_pasted(command: Command) -> None:
    answer = command("new", "my [oxides]", "--targets", "table.csv", "--left-out", "O")
    assert answer.text.endswith("snakemake --cores all --directory 'my [oxides]'")


def test_rows_without_a_label_do_not_make_a_sheet(
    workdir: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mn-Ti-W has five rows, one of them bare; Cu-Ti-W five, two of them one composition."""
    table = good_table()
    rows = {s: table.index[i * 5 : i * 5 + 5] for i, s in enumerate(TERNARIES)}
    table.loc[rows["Mn-Ti-W"][0], ["gap", "rate"]] = np.nan
    table.loc[rows["Cu-Ti-W"][1], "formula"] = table.loc[rows["Cu-Ti-W"][0], "formula"]
    write(workdir / "table.csv", table)
    _, said = made(command, "--allow-missing")
    assert list(read_systems("mine/config/systems.tsv")) == ["Cu-Fe-Mn", "Fe-Ti-W"]
    assert "1 rows without any property" in said
    assert "1 rows share a composition" in said
    assert "2 systems in 2 folds, 10 compositions" in said
    monkeypatch.chdir("mine")
    answer = command("prepare-targets", "--config", "config/config.yaml")
    assert answer.code == 0, answer.text
    assert "1 rows merged by composition" in answer.text


def test_a_system_without_any_label_is_not_held_out(workdir: Path, command: Command) -> None:
    table = good_table()
    table.loc[:4, ["gap", "rate"]] = np.nan  # all of Cu-Fe-Mn
    write(workdir / "table.csv", table)
    made(command, "--allow-missing", "--min-samples", 1)
    assert "Cu-Fe-Mn" not in read_systems("mine/config/systems.tsv")
    # compositions alone do not tell
    assert command("systems", "table.csv", "--left-out", "O", "--out", "s.tsv").code == 0
    assert "Cu-Fe-Mn" in read_systems("s.tsv")


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (slice(20, 24), "no held-out sample has a value of rate"),
        (slice(0, 4), "fold `Cu-Fe-Mn` leaves"),
    ],
)
def test_a_sheet_that_prepare_targets_would_refuse_is_not_written(
    workdir: Path, command: Command, kept: slice, words: str
) -> None:
    table = good_table()
    table["rate"] = table["rate"].where(table.index.isin(range(25)[kept]))
    write(workdir / "table.csv", table)
    assert_refused(new(command, "--allow-missing"), words)
    assert not Path("mine").exists()


def test_a_sheet_is_written_for_plates(workdir: Path, command: Command) -> None:
    rng = np.random.default_rng(5)
    triples = ("Co-Fe-Ni", "Cu-In-Sn", "Mg-Ta-Y", "Ce-La-Nd", "Hf-Ti-Zr")
    for number, system in enumerate(triples):
        shares = rng.dirichlet(np.full(3, 9.0), 6).round(3)
        mixed = [dict(zip(system.split("-"), map(float, s), strict=True)) for s in shares]
        store(workdir / "raw/ten_replicas", {f"p{number}": plate(mixed, number=number)})
    for folder in ("raw", "raw/ten_replicas"):
        answer = command("systems", folder, "--out", "s.tsv", "--min-samples", 6)
        assert answer.code == 0, answer.text
        assert "of 300 patches averaged to 30 compositions" in answer.text
        assert "s.tsv: 5 systems in 5 folds" in answer.text
        assert set(read_systems("s.tsv")) == set(triples)


def test_a_folder_of_neither_kind_makes_no_sheet(workdir: Path, command: Command) -> None:
    (workdir / "stuff").mkdir()
    answer = command("systems", "stuff", "--out", "s.tsv")
    assert_refused(answer, "stuff: neither the paper's archive", "nor printed plates")
