"""Printed plates: replicas averaged, outliers and impossible patches counted, bad files named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hclmp.config import TargetsConfig
from hclmp.data.formula import DECIMALS, parse_formula
from hclmp.errors import UserError
from hclmp.provenance import sha256
from hclmp.sources.plates import read as plates
from hclmp.sources.plates import rows as plate_rows
from hclmp.sources.plates.read import read_targets
from hclmp.sources.plates.rows import SIGNALS
from hclmp.sources.raw import RawTargets
from tests.conftest import Command, assert_refused
from tests.made_up.plates import plate, store, two_plates
from tests.made_up.tables import (
    set_up,
)

NAMES = [f"absorbance_{nm}nm" for nm in (375, 395, 455, 530, 590, 617, 660, 735, 850)]


def read(path: Path, **settings: Any) -> RawTargets:
    return read_targets(TargetsConfig(source="plates", path=str(path), **settings))


def row_of(raw: RawTargets, formula: str) -> int:
    """The row whose formula means this composition."""
    wanted = parse_formula(formula)
    (row,) = [
        i for i, text in enumerate(raw.formula) if parse_formula(text) == pytest.approx(wanted)
    ]
    return row


def test_replicas_on_all_plates_are_averaged_with_their_standard_error(workdir: Path) -> None:
    frames = two_plates()
    raw = read(store(workdir / "ten_replicas", frames), plates={"outlier": 1000})
    both = pd.concat([frames["p1"][:10], frames["p2"][:10]])[list(SIGNALS)].to_numpy()
    absorbance = -np.log10(both)
    row = row_of(raw, "FeCo")
    np.testing.assert_allclose(raw.values[row], absorbance.mean(axis=0), rtol=1e-12)
    error = absorbance.std(axis=0, ddof=1) / np.sqrt(20)
    np.testing.assert_allclose(raw.noise[row], error, rtol=1e-9)
    # the absorbance of the mean transmission would be another number
    assert not np.allclose(raw.values[row], -np.log10(both.mean(axis=0)), rtol=1e-6)
    assert len(raw.values) == 4
    assert raw.sample_id == raw.formula
    assert not raw.simulated
    assert raw.facts["counts"]["averaged"] == raw.facts["counts"]["patches"] == 50


def test_the_properties_are_nine_absorbances_at_photon_energies(workdir: Path) -> None:
    raw = read(store(workdir / "ten_replicas", two_plates()))
    assert [p.name for p in raw.properties] == NAMES
    assert {(p.unit, p.transform) for p in raw.properties} == {("", "identity")}
    energies = [p.coordinate for p in raw.properties]
    assert energies[0] == pytest.approx(3.3062, abs=1e-4)  # 375 nm
    assert energies[-1] == pytest.approx(1.4586, abs=1e-4)  # 850 nm
    assert raw.values.shape == raw.noise.shape == (4, 9)


def test_transmission_itself_and_a_choice_of_properties(workdir: Path) -> None:
    frames = two_plates()
    folder = store(workdir / "ten_replicas", frames)
    raw = read(
        folder,
        plates={"quantity": "transmission", "outlier": 1000},
        properties={"transmission_455nm": {"transform": "log10"}},
    )
    (prop,) = raw.properties
    assert (prop.name, prop.transform) == ("transmission_455nm", "log10")
    assert prop.coordinate == pytest.approx(2.72493, abs=1e-5)
    nickel = frames["p1"]["signal_2"][20:30].to_numpy()
    np.testing.assert_allclose(raw.values[row_of(raw, "Ni"), 0], nickel.mean(), rtol=1e-12)
    with pytest.raises(UserError, match=r"names absorbance_455nm; .*transmission_375nm"):
        read(folder, plates={"quantity": "transmission"}, properties={"absorbance_455nm": {}})


def test_outliers_are_counted_and_left_out(workdir: Path) -> None:
    frame = plate([{"Fe": 1.0}], replicas=10)
    spoiled = frame.copy()
    spoiled.loc[3, "signal_7"] *= 0.01  # at one wavelength of nine
    raw = read(store(workdir / "spoiled", {"p": spoiled}), plates={"outlier": 40})
    clean = -np.log10(frame.drop(index=3)[list(SIGNALS)].to_numpy())
    np.testing.assert_allclose(raw.values[0], clean.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(raw.noise[0], clean.std(axis=0, ddof=1) / np.sqrt(9), rtol=1e-9)
    assert raw.facts["counts"]["outliers"] == 1
    assert any(
        "1 patches left out as outliers: farther than 40 robust" in line
        for line in raw.facts["sentences"]
    )


def test_the_outlier_is_measured_in_robust_standard_deviations(workdir: Path) -> None:
    """Median 4, median absolute deviation 2: 20 lies at 16 / 2.9652 = 5.396 of them."""
    values = np.tile(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 20.0])[:, None], 9)
    group = np.zeros(7, dtype=np.int64)
    assert plates.outliers(values, group, 5.39).tolist() == [False] * 6 + [True]
    assert not plates.outliers(values, group, 5.40).any()


@pytest.mark.parametrize(
    "column", [[1.0, 1.0, 9.0], [1.0, 1.1, 1.2, 1.3, 1.4, 9.0], [1.0] * 6 + [9.0]]
)
def test_too_few_or_equal_replicas_have_no_outliers(column: list[float]) -> None:
    values = np.tile(np.array(column)[:, None], 9)
    assert not plates.outliers(values, np.zeros(len(values), dtype=np.int64), 5.0).any()


def test_impossible_and_blank_patches_are_counted_once_each(workdir: Path) -> None:
    frame = plate([{"Fe": 1.0}, {"Fe": 1.0, "Mg": 1.0}], replicas=8)
    frame.loc[0, "signal_0"] = 0.0
    frame.loc[1, "signal_1"] = -0.1
    frame.loc[2, "signal_2"] = np.nan
    frame.loc[3, "signal_3"] = np.inf
    frame.loc[4, ["Fe", "Mg"]] = 0.0
    frame.loc[4, "signal_4"] = -1.0  # bare substrate first of all
    frame.loc[5, "signal_5"] = 1.2
    folder = store(workdir / "p", {"p": frame})
    counts = read(folder, plates={"outlier": 1e6}).facts["counts"]
    assert counts == {
        "patches": 16,
        "blank": 1,
        "not_finite": 2,
        "impossible": 2,
        "above_one": 1,
        "blank_amounts": 0,
        "outliers": 0,
        "averaged": 11,
        "compositions": 2,
        "single": 0,
        "without_patches": 0,
    }
    as_it_is = read(folder, plates={"outlier": 1e6, "quantity": "transmission"}).facts["counts"]
    assert (as_it_is["impossible"], as_it_is["averaged"]) == (0, 13)
    text = "; ".join(read(folder).facts["sentences"])
    for words in (
        "1 patches without any metal",
        "2 patches left out whose transmission is blank or not finite",
        "2 patches left out whose transmission is not positive",
        "1 patches transmit more than all light",
    ):
        assert words in text


def test_a_single_patch_has_unknown_noise(workdir: Path) -> None:
    raw = read(store(workdir / "p", {"p": plate([{"In": 1.0}], replicas=1)}))
    assert np.isnan(raw.noise).all()
    assert np.isfinite(raw.values).all()
    assert raw.facts["counts"]["single"] == 1


def test_the_result_depends_on_neither_order_of_files_nor_size_of_blocks(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = two_plates()
    frames["p3"] = plate([{"Fe": 0.1 * i, "Cu": 1 - 0.1 * i} for i in range(11)], number=3)
    first = read(store(workdir / "one", frames))
    shuffled = {
        f"z{9 - i}": f.sample(frac=1, random_state=i) for i, f in enumerate(frames.values())
    }
    shuffled["z7"] = shuffled["z7"][shuffled["z7"].columns[::-1]]
    folder = store(workdir / "two" / "ten_replicas", shuffled)
    monkeypatch.setattr(plate_rows, "BLOCK", 2000)
    monkeypatch.setattr(plate_rows, "BUCKET", 1000)
    batches = list(plate_rows.patches_of(plate_rows.read_header(folder / "z7.csv"), positive=True))
    assert len(batches) > 3  # the blocks are small indeed
    second = read(folder.parent)  # and the folder may be the one above
    assert second.formula == first.formula
    assert second.values.tobytes() == first.values.tobytes()
    assert second.noise.tobytes() == first.noise.tobytes()
    assert second.facts["counts"] == first.facts["counts"]


def test_the_limit_takes_the_first_compositions_of_the_whole(workdir: Path) -> None:
    folder = store(workdir / "p", two_plates())
    whole, some = read(folder), read(folder, limit=2)
    assert some.formula == whole.formula[:2]
    np.testing.assert_array_equal(some.values, whole.values[:2])
    np.testing.assert_array_equal(some.noise, whole.noise[:2])
    assert some.facts["counts"]["compositions"] == 2
    assert "targets.limit" in some.facts["sentences"][0]


def test_equal_fractions_are_one_composition_whatever_their_amounts(workdir: Path) -> None:
    """Also at 1/128 = 0.0078125, half-way between two roundings to 6 decimals."""
    assert DECIMALS == 6
    amounts = [{"Fe": k, "Co": 127 * k} for k in (1.0, 0.1, 0.7, 1 / 3, 1e-3, 1 / 128, 5e5)]
    raw = read(store(workdir / "p", {"p": plate(amounts, replicas=1)}))
    assert len(raw.formula) == 1
    apart = [{"Fe": 0.1, "Co": 0.9}, {"Fe": 0.100001, "Co": 0.899999}]
    assert len(read(store(workdir / "q", {"q": plate(apart)})).formula) == 2


def test_every_column_named_after_an_element_is_a_metal(workdir: Path) -> None:
    frame = plate([{"Bi": 1.0, "V": 1.0}]).assign(operator=7)
    raw = read(store(workdir / "p", {"p": frame}))
    assert raw.formula == ["Bi0.5V0.5"]
    assert raw.facts["ignored_columns"] == ["operator"]


def test_blank_amounts_are_0_and_counted(workdir: Path) -> None:
    frame = plate([{"Bi": 1.0, "V": 1.0}, {"Bi": 1.0}])
    frame["V"] = frame["V"].where(frame["V"] > 0)
    raw = read(store(workdir / "p", {"p": frame}))
    assert sorted(map(str, raw.formula)) == ["Bi0.5V0.5", "Bi1"]
    assert raw.facts["counts"]["blank_amounts"] == 10


def test_the_facts_name_hash_licence_and_citation(workdir: Path) -> None:
    folder = store(workdir / "p", two_plates())
    facts = read(folder).facts
    assert facts["licence"] == "CC BY 4.0"
    assert "e2106042118" in facts["citation"]
    assert facts["plates"] == 2
    assert facts["metals"] == ["Ce", "Co", "Fe", "Ni", "Ta"]
    assert len(facts["sha256"]) == 64
    (folder / "p1.csv").rename(folder / "renamed.csv")
    assert read(folder).facts["sha256"] == facts["sha256"]
    with (folder / "p2.csv").open("a") as file:
        file.write("\n")
    assert read(folder).facts["sha256"] != facts["sha256"]
    assert sha256(folder / "p2.csv") != facts["sha256"]
    json.dumps(facts)


def test_more_data_makes_more_buckets_not_larger_ones(tmp_path: Path) -> None:
    """A bucket is in memory as a whole."""
    sizes = (0, 100, 10, 1)
    files = [plate_rows.Buckets(tmp_path, ["Fe"], n * plate_rows.BUCKET).bits for n in sizes]
    assert files == [1, 7, 4, 1]
    with plate_rows.Buckets(tmp_path, ["Co", "Fe"], 100 * plate_rows.BUCKET) as buckets:
        share = np.arange(4000, dtype=np.int32)
        parts = np.stack([share, plate_rows.PARTS - share], axis=1).astype(np.int32)
        signals = np.ones((4000, 9))
        buckets.add(["Co", "Fe"], plate_rows.Patches(parts, signals, plate_rows.Counter()))
    rows = [len(bucket) for bucket in buckets]
    assert sum(rows) == 4000
    assert max(rows) < 3 * 4000 / 128  # compositions are spread evenly


def test_nothing_temporary_stays(workdir: Path) -> None:
    read(store(workdir / "p", two_plates()))
    assert list((workdir / ".hclmp").iterdir()) == []
    (workdir / "p" / "zz.csv").write_text((workdir / "p" / "p1.csv").read_text() + "1,2\n")
    with pytest.raises(UserError):
        read(workdir / "p")
    assert list((workdir / ".hclmp").iterdir()) == []


def spoil(name: str) -> tuple[str, list[str]]:
    """A plate's text with one mistake, and the words that the message must have."""
    frame = plate([{"Fe": 1.0, "Co": 1.0}]).astype(object)
    words: list[str] = []
    if name == "missing column":
        frame, words = frame.drop(columns="signal_4"), ["no column signal_4", "signal_3"]
    elif name == "no metal":
        frame, words = frame.drop(columns=["Fe", "Co"]), ["no metal column", "ExpID"]
    elif name == "text":
        frame.loc[[1, 6], "signal_2"] = "dark"
        words = ["not a number in column `signal_2`: row 2 ('dark'), row 7 ('dark')"]
    elif name == "text amount":
        frame.loc[4, "Fe"] = "trace"
        words = ["column `Fe`: row 5 ('trace')"]
    elif name == "negative":
        frame.loc[8, "Co"] = -0.5
        words = ["column `Co`", "negative", "row 9 (-0.5)"]
    elif name == "blank":
        frame[["Fe", "Co"]] = 0
        words = ["no patch can be used", "10 patches without any metal"]
    elif name == "twice":
        frame = frame.rename(columns={"row": "signal_0"})
        words = ["columns named twice: signal_0"]
    text = frame.to_csv(index=False)
    if name == "empty":
        text, words = "", ["empty"]
    elif name == "header alone":
        text, words = text.splitlines()[0] + "\n", ["no rows"]
    elif name == "cut off":
        text, words = (
            text.rsplit(",", 3)[0],
            ["cannot be read: row 10: expected 18 columns, got 15"],
        )
    elif name == "not text":
        text, words = "\udcff\udcfe" + text, ["not a CSV file in UTF-8"]
    assert words, name
    return text, words


BAD = [
    "missing column", "no metal", "text", "text amount", "negative", "blank", "twice", "empty",
    "header alone", "cut off", "not text",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plate_ends_in_one_message(command: Command, workdir: Path, name: str) -> None:
    text, words = spoil(name)
    folder = workdir / "ten_replicas"
    folder.mkdir()
    (folder / "plate_7.csv").write_bytes(text.encode(errors="surrogateescape"))
    if name != "blank":  # a good plate before it changes nothing
        store(folder, {"plate_1": plate([{"Ni": 1.0}])})
    config = {
        "targets": {"source": "plates", "path": "ten_replicas"},
        "dos": {"source": "none"},
        "systems": "systems.tsv",
        "variants": ["ridge"],
    }
    answer = command("prepare-targets", "--config", set_up(workdir, config=config))
    file = "ten_replicas" if name == "blank" else "ten_replicas/plate_7.csv"
    assert_refused(answer, file, *words)


@pytest.mark.parametrize(
    ("path", "words"),
    [("nowhere", "no such folder"), ("bare", "no .csv file"), ("a.zip", "unpacked folder")],
)
def test_a_bad_folder_ends_in_one_message(workdir: Path, path: str, words: str) -> None:
    (workdir / "bare").mkdir()
    (workdir / "bare" / "._hidden.csv").write_text("x")
    (workdir / "a.zip").write_text("x")
    with pytest.raises(UserError, match=words):
        read(Path(path))


def test_the_same_file_twice_is_refused(workdir: Path) -> None:
    frame = plate([{"Fe": 1.0}])
    with pytest.raises(UserError, match=r"b\.csv: the same bytes as a\.csv"):
        read(store(workdir / "p", {"a": frame, "b": frame}))


def test_plates_pass_through_the_whole_step(command: Command, workdir: Path) -> None:
    """The targets table has one row per composition, and the standard error as its noise."""
    rng = np.random.default_rng(5)
    for number, metals in enumerate((("Fe", "Co", "Ni"), ("Cu", "In", "Sn"), ("Mg", "Y", "Ta"))):
        shares = rng.dirichlet(np.full(3, 9.0), 12).round(3)
        mixed = [dict(zip(metals, map(float, share), strict=True)) for share in shares]
        store(workdir / "ten_replicas", {f"p{number}": plate(mixed, number=number)})
    config = {
        "targets": {"source": "plates", "path": str(workdir)},
        "dos": {"source": "none"},
        "systems": "systems.tsv",
        "variants": ["ridge"],
    }
    sheet = "system\tfold\nCo-Fe-Ni\ta\n"
    answer = command("prepare-targets", "--config", set_up(workdir, config=config, sheet=sheet))
    assert answer.code == 0, answer.text
    assert "of 360 patches averaged to 36 compositions" in answer.text
    table = pd.read_parquet(workdir / "data/processed/targets.parquet")
    assert len(table) == 36
    assert set(NAMES) | {f"{name}_std" for name in NAMES} <= set(table.columns)
    assert (table[f"{NAMES[0]}_std"] > 0).all()
    assert set(table["system"]) == {"Co-Fe-Ni", "Cu-In-Sn", "Mg-Ta-Y"}
