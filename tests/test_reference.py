"""The paper's archive: what is read, what is counted, and what is refused before anything runs."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from hclmp.config import Config, DosConfig, TargetsConfig
from hclmp.config.data import PAPER_CATIONS
from hclmp.data.folds import read_systems
from hclmp.data.formula import parse_formulas, system_of
from hclmp.data.tables import read_dos as read_dos_table
from hclmp.data.tables import read_targets as read_targets_table
from hclmp.errors import UserError
from hclmp.pipeline.jobs import job
from hclmp.pipeline.steps.prepare_targets import prepare_targets
from hclmp.pipeline.steps.pull_dos import pull_dos
from hclmp.provenance import sha256
from hclmp.sources.raw import check_dos
from hclmp.sources.reference import archive
from hclmp.sources.reference.read import count_rows, read_dos, read_targets
from tests.conftest import Command, assert_refused
from tests.made_up.archive import (
    DOS,
    HELD_OUT,
    UVIS,
    compositions,
    densities,
    entries,
    files,
    npy,
    write_folder,
    write_zip,
)

ROOT = Path(__file__).parents[1]
LABELS = f"{UVIS}/uvis_dict.chkpt"


@pytest.fixture(autouse=True)
def _inside(workdir: Path) -> None:
    """Each test in a working directory of its own."""


def targets(path: object = "data.zip", **more: Any) -> TargetsConfig:
    return TargetsConfig(source="reference", path=str(path), **more)


def dos(path: object = "data.zip", **more: Any) -> DosConfig:
    return DosConfig(source="reference", path=str(path), **more)


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class Attack:
    """A pickle of this creates the file ``pwned`` when it is loaded the usual way."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["zip", "zip without data/", "folder", "folder with data/"])
def test_labels_come_out_as_they_went_in(kind: str, legacy: bool) -> None:
    found = files(legacy=legacy)
    path = Path("data.zip")
    if kind.startswith("zip"):
        write_zip(path, found, top="" if "without" in kind else "data/")
    else:
        path = Path("unpacked")
        write_folder(path / "data" if "data/" in kind else path, found)
    raw = read_targets(targets(path))
    samples = [entry for key, entry in entries().items() if isinstance(key, int)]
    np.testing.assert_array_equal(raw.values, np.stack([entry["fom"] for entry in samples]))
    parsed = parse_formulas(raw.formula, left_out=["O"], origin="")
    for fractions, wanted in zip(parsed, compositions(), strict=True):
        assert fractions == pytest.approx(wanted, abs=1e-7)
    assert [p.name for p in raw.properties] == [f"fom_{i}" for i in range(10)]
    assert {p.coordinate for p in raw.properties} == {None}
    assert raw.sample_id is not None
    assert raw.sample_id[:2] == ["uvis-0", "uvis-1"]
    assert not raw.simulated
    assert "keys that are no samples, not used: elements" in raw.facts["sentences"]
    assert "MIT" in raw.facts["license"]


def test_dos_of_objects_come_out_as_they_went_in() -> None:
    write_zip(Path("data.zip"), files())
    table = densities()
    assert table.dtype == object
    raw = read_dos(dos())
    np.testing.assert_array_equal(raw.dos, table[:, 39:].astype(float))
    check_dos(raw)
    assert (raw.grid.start, raw.grid.stop, raw.grid.n, raw.unit) == (-8, 8, 161, "states/eV")
    fractions = parse_formulas(raw.formula, left_out=["O"], origin="")
    for row, got in zip(table[:, :39].astype(float), fractions, strict=True):
        assert got == pytest.approx({PAPER_CATIONS[i]: row[i] for i in np.flatnonzero(row)})
    assert "30 train, 10 test rows is not used" in raw.facts["sentences"][0]
    assert "CC BY 4.0" in raw.facts["license"]


def test_both_steps_write_checked_tables() -> None:
    write_zip(Path("data.zip"), files())
    Path("systems.tsv").write_text("system\nFe-Ti-W\nCo-Fe-Mn\n")
    config = Config(targets=targets(), dos=dos(), systems="systems.tsv")
    made, pulled = job(config, "prepare-targets"), job(config, "pull-dos")
    prepare_targets(config, made)
    pull_dos(config, pulled)
    table = read_targets_table(made.outputs["table"])
    assert table.values.shape == (len(compositions()), 10)
    assert sum(system == "Fe-Ti-W" for system in table.system) == 6
    assert table.provenance["origin"]["sha256"] == sha256("data.zip")
    assert read_dos_table(pulled.outputs["table"]).dos.shape == (40, 161)


def test_limit_and_named_properties() -> None:
    write_zip(Path("data.zip"), files())
    raw = read_targets(targets(limit=7, properties={"fom_3": {"unit": "1/cm", "coordinate": 2.1}}))
    assert raw.values.shape == (7, 1)
    np.testing.assert_array_equal(raw.values[:, 0], [entries()[i]["fom"][3] for i in range(7)])
    assert raw.properties[0].unit == "1/cm"
    assert len(raw.split or []) == 7
    assert read_dos(dos(limit=5)).dos.shape == (5, 161)
    with pytest.raises(UserError, match=r"no property `gap`.* fom_0, fom_1"):
        read_targets(targets(properties={"gap": {}}))


def test_rows_are_counted_without_reading_them() -> None:
    write_zip(Path("data.zip"), files())
    assert count_rows(targets()) == len(compositions())
    assert count_rows(dos()) == 40
    assert count_rows(targets("absent.zip")) == count_rows(dos("absent.zip")) == 0


def test_hash_of_a_folder_follows_the_files_that_are_used() -> None:
    write_folder(Path("unpacked"), files())
    first = read_dos(dos("unpacked")).facts["sha256"]
    (Path("unpacked") / "readme.txt").write_text("not used")
    assert read_dos(dos("unpacked")).facts["sha256"] == first
    (Path("unpacked") / DOS / "train_idx.npy").write_bytes(npy(np.arange(29)))
    assert read_dos(dos("unpacked")).facts["sha256"] != first


# --- its splits -----------------------------------------------------------------------------------


def test_the_random_split_is_disjoint_and_its_overlaps_are_said() -> None:
    write_zip(Path("data.zip"), files())
    raw = read_targets(targets())
    order = np.random.default_rng(1).permutation(len(compositions()))
    assert raw.split is not None
    assert {i for i, part in enumerate(raw.split) if part == "test"} == set(order[:8].tolist())
    # the validation samples stand in train as well: they are validation alone
    assert {i for i, part in enumerate(raw.split) if part == "val"} == set(order[8:14].tolist())
    assert raw.split.count("train") == len(order) - 14
    said = " ".join(raw.facts["sentences"])
    assert (
        "6 samples of the random split stand in train and val: they are kept in val alone" in said
    )


def test_without_a_random_split_there_is_none() -> None:
    found = {name: content for name, content in files().items() if "rd_idx" not in name}
    write_zip(Path("data.zip"), found)
    raw = read_targets(targets())
    assert raw.split is None
    assert "no random split in it" in raw.facts["sentences"]


def test_systems_of_the_archive_become_the_sheet(command: Command) -> None:
    found = files()
    # one sample more than our rule has: a binary of the system
    binary = next(i for i, x in enumerate(compositions()) if set(x) == {"Co", "Fe"})
    six = [i for i, x in enumerate(compositions()) if set(x) == {"Co", "Fe", "Mn"}]
    found[f"{UVIS}/idx/test/Co-Fe-Mn.npy"] = npy(np.array([*six, binary], dtype=object))
    write_zip(Path("data.zip"), found)
    answer = command("systems", "data.zip", "--out", "config/paper_systems.tsv")
    assert answer.code == 0, answer.text
    assert "3 held-out systems with 19 test samples; 2 have just the samples" in answer.text
    assert "not so Co-Fe-Mn (7 there, 6 here, 6 in both)" in answer.text
    sheet = read_systems("config/paper_systems.tsv")
    assert list(sheet) == sorted("-".join(sorted(s.split("-"))) for s in HELD_OUT)
    facts = read_targets(targets()).facts
    assert facts["held_out_systems"] == 3
    assert any("not so Co-Fe-Mn (7 there, 6 here" in s for s in facts["sentences"])
    assert any(
        "validation samples of 3 of its systems are trained on" in s for s in facts["sentences"]
    )
    assert_code_2 = command("systems", "data.zip", "--folds", "2")
    assert assert_code_2.code == 2
    assert "folds of their own" in assert_code_2.text


def test_our_rule_on_the_archive_finds_its_systems() -> None:
    write_zip(Path("data.zip"), files())
    raw = read_targets(targets())
    found = [system_of(f) for f in parse_formulas(raw.formula, origin="")]
    assert found.count("Fe-Ti-W") == 6


# --- what is refused ------------------------------------------------------------------------------


def spoiled(**changes: Any) -> dict[Any, Any]:
    samples = entries()
    samples[4] = {**samples[4], **changes}
    return samples


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (spoiled(fom=np.zeros(9)), ["`fom` is not 10 finite numbers in sample 4"]),
        (spoiled(fom=np.full(10, np.nan)), ["`fom` is not 10 finite numbers in sample 4"]),
        (spoiled(composition=np.zeros(38)), ["`composition` is not 39 finite numbers"]),
        (spoiled(composition=np.full(39, 0.1)), ["do not sum to 1 in sample 4 (sum 3.9)"]),
        (spoiled(nonzero_element_name=["Ag"]), ["do not agree with `composition` in sample 4"]),
        (spoiled(composition_nonzero_idx=[0, 1, 2]), ["do not agree with `composition`"]),
        (spoiled(composition_nonzero=[0.1, 0.1, 0.8]), ["do not agree with `composition`"]),
        (spoiled(gen_dos_fea=np.zeros(3)), ["`gen_dos_fea` is not 161 finite numbers"]),
        ({"elements": []}, ["no samples in it"]),
        ([1, 2], ["holds a list, not a dict of samples"]),
        ({0: 3}, ["sample 0 is no dict"]),
    ],
)
def test_samples_that_are_not_as_described(samples: Any, words: list[str]) -> None:
    found = files() | {LABELS: saved(samples)}
    write_zip(Path("data.zip"), found)
    with pytest.raises(UserError) as caught:
        read_targets(targets())
    for word in [f"data.zip: data/{LABELS}", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("idx/test/Co-Fe-Mn.npy", np.array([10**6]), "index 1000000 is of no sample"),
        ("idx/test/Co-Fe-Mn.npy", np.array([0.5]), "holds more than indices"),
        ("idx/test/notes.npy", np.array([1]), "not named after a system of known cations"),
        ("idx/test/Mn-Co-Fe.npy", np.array([1]), "Co-Fe-Mn twice"),
    ],
)
def test_index_files_that_are_not_as_described(name: str, array: np.ndarray, words: str) -> None:
    write_zip(Path("data.zip"), files() | {f"{UVIS}/{name}": npy(array)})
    with pytest.raises(UserError, match=words):
        read_targets(targets())


def test_dos_that_is_not_as_described() -> None:
    write_zip(Path("data.zip"), files())
    with pytest.raises(UserError, match=r"161 DOS values .* but `dos\.energies\.n` is 66"):
        read_dos(dos(energies={"n": 66}))
    table = densities()
    table[3, 50] = -1.0
    write_zip(Path("negative.zip"), files(dos=table))
    with pytest.raises(UserError, match=r"negative in row 4"):
        check_dos(read_dos(dos("negative.zip")))
    table[2, :39] = 0.0
    write_zip(Path("empty.zip"), files(dos=table))
    with pytest.raises(UserError, match=r"do not sum to 1 in row 3 \(sum 0\)"):
        read_dos(dos("empty.zip"))
    table[2, 0] = "Ag"
    write_zip(Path("text.zip"), files(dos=table))
    with pytest.raises(UserError, match="holds more than numbers"):
        read_dos(dos("text.zip"))


def hostile_npy() -> bytes:
    return npy(np.array([Attack()], dtype=object))


@pytest.mark.parametrize("how", ["torch", "legacy", "bare"])
def test_a_program_in_the_labels_is_named_and_not_run(how: str) -> None:
    samples = spoiled(fom=Attack())
    found = files(samples if how != "bare" else None, legacy=how == "legacy")
    if how == "bare":
        found[LABELS] = pickle.dumps(samples)
    write_zip(Path("data.zip"), found)
    with pytest.raises(UserError, match=r"data\.zip: data/.*uvis_dict\.chkpt: .*`posix\.system`"):
        read_targets(targets())
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", [f"{DOS}/MP_comp39_dos161.npy", f"{DOS}/train_idx.npy"])
def test_a_program_in_an_array_is_named_and_not_run(name: str) -> None:
    write_zip(Path("data.zip"), files() | {name: hostile_npy()})
    with pytest.raises(UserError, match=rf"{Path(name).name}: .*`posix\.system`"):
        read_dos(dos())
    assert not Path("pwned").exists()


def test_the_command_line_says_it_in_one_message(command: Command) -> None:
    write_zip(Path("data.zip"), files(spoiled(fom=Attack())))
    config = {"targets": targets().model_dump(), "dos": {"source": "none"}, "variants": ["mean"]}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    assert_refused(command("prepare-targets", "--config", "config.yaml"), "`posix.system`")
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "name", ["../evil.npy", "/etc/evil.npy", "data/a/../../../b", "C:/x", "..\\x"]
)
def test_paths_that_climb_out_are_refused_by_name(name: str) -> None:
    write_zip(Path("data.zip"), files())
    with zipfile.ZipFile("data.zip", "a") as archive:
        archive.writestr(name, b"evil")
    for read in (lambda: read_targets(targets()), lambda: read_dos(dos())):
        with pytest.raises(UserError) as caught:
            read()
        assert f"`{name}` (leads out of the archive)" in str(caught.value)


def test_a_link_in_the_zip_is_refused_by_name() -> None:
    write_zip(Path("data.zip"), files())
    link = zipfile.ZipInfo("data/link.npy")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile("data.zip", "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match=r"`data/link\.npy` \(a link\)"):
        read_targets(targets())


def test_other_files_are_one_message() -> None:
    Path("text.zip").write_text("no zip")
    write_zip(Path("other.zip"), {"a/b.txt": b"x"})
    write_zip(Path("half.zip"), {f"{UVIS}/idx/test/Fe-Ti-W.npy": npy(np.arange(3))})
    Path("folder").mkdir()
    for path, words in {
        "absent.zip": "no such file or folder",
        "text.zip": "not a zip archive",
        "other.zip": "not the archive of H-CLMP",
        "folder": "not the archive of H-CLMP",
        "half.zip": rf"{LABELS}: no such file in it",
    }.items():
        with pytest.raises(UserError, match=words):
            read_targets(targets(path))


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("at", [0, 20, 200])
def test_damaged_members_are_one_message(packing: int, at: int) -> None:
    found = files()
    with zipfile.ZipFile("data.zip", "w", packing) as made:
        for name, content in found.items():
            made.writestr(name, content)
        start = made.getinfo(LABELS).header_offset + 30 + len(LABELS)
    data = bytearray(Path("data.zip").read_bytes())
    data[start + at : start + at + 40] = b"\xff" * 40
    Path("data.zip").write_bytes(data)
    with pytest.raises(UserError, match=rf"{LABELS}: cannot be read: .*Download the archive again"):
        read_targets(targets())


def test_files_beyond_the_bound_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert archive.LARGEST == 4 << 30
    write_zip(Path("data.zip"), files())
    write_folder(Path("unpacked"), files())
    monkeypatch.setattr(archive, "LARGEST", 1000)
    for path in ("data.zip", "unpacked"):
        with pytest.raises(UserError, match=rf"{LABELS}: has \d+ bytes, and is not read: .* 1000"):
            read_targets(targets(path))
