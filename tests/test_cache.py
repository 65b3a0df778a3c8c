"""Finished folds are restored by content, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hclmp.pipeline import cache
from hclmp.provenance import Provenance
from tests.conftest import Command
from tests.made_up.tables import (
    config_for,
    set_up,
)

ORIGIN: Provenance = {"step": "train", "config": {"fold": "a", "variant": "v"}, "source": "1"}
FILES = [Path("results/models/v/a/model.json"), Path("results/predictions/v/a.parquet")]


@pytest.fixture
def kept(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a kept result, whose files are then gone; the entry."""
    monkeypatch.setenv(cache.VARIABLE, str(workdir / "kept"))
    for file in FILES:
        file.parent.mkdir(parents=True)
        file.write_text(f"content of {file}")
    cache.keep(ORIGIN, FILES)
    for file in FILES:
        file.unlink()
    (entry,) = (workdir / "kept").iterdir()
    return entry


def test_a_kept_result_comes_back(kept: Path) -> None:
    assert cache.restore(ORIGIN, FILES)
    for file in FILES:
        assert file.read_text() == f"content of {file}"
        assert not file.is_symlink()
        assert file.stat().st_nlink == 1, "a copy: writing to it must not change what is kept"


@pytest.mark.parametrize(
    "other",
    [
        {**ORIGIN, "config": {"fold": "b", "variant": "v"}},
        {**ORIGIN, "config": {"fold": "a", "variant": "w"}},
        {**ORIGIN, "source": "2"},
    ],
)
def test_another_origin_finds_nothing(kept: Path, other: Provenance) -> None:
    assert not cache.restore(other, FILES)
    assert not FILES[0].exists()


def test_another_version_of_a_library_finds_nothing(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "version", lambda name: "0")
    assert not cache.restore(ORIGIN, FILES)


@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_a_damaged_entry_is_named_and_removed(
    kept: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    copy = kept / "a.parquet"
    if damage == "changed":
        copy.write_text("something else")
    else:
        copy.unlink()
    assert not cache.restore(ORIGIN, FILES)
    assert f"{copy}: damaged or missing" in caplog.text
    assert not kept.exists()
    assert not FILES[0].exists(), "nothing of it is put back"


def test_what_was_half_kept_is_not_found(kept: Path) -> None:
    (kept / cache.ABOUT).unlink()
    assert not cache.restore(ORIGIN, FILES)


def test_a_cache_that_cannot_be_written_costs_no_finished_result(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path("file").write_text("a file, in which no folder can be made")
    monkeypatch.setenv(cache.VARIABLE, "file/kept")
    Path("a.parquet").touch()
    cache.keep(ORIGIN, [Path("a.parquet")])
    assert "so this result is not kept" in caplog.text


def test_an_entry_of_another_user_is_restored(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(cache.os, "utime", refused)
    assert cache.restore(ORIGIN, FILES)


def test_an_entry_says_what_it_is(kept: Path) -> None:
    about = json.loads((kept / cache.ABOUT).read_text())
    assert about["origin"] == ORIGIN
    assert set(about["files"]) == {"model.json", "a.parquet"}


def test_without_a_folder_nothing_is_kept(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    cache.keep(ORIGIN, FILES)
    assert not cache.restore(ORIGIN, FILES)
    assert list(workdir.iterdir()) == []


def test_of_several_folds_only_those_that_were_not_kept_are_trained(
    workdir: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(workdir / "cache"))
    config = config_for() | {
        "variants": ["hclmp"],
        "training": {"epochs": 1, "refit_epochs": 0, "members": 1},
    }
    file = set_up(workdir, config=config)

    def run(*arguments: str) -> str:
        answer = command(*arguments, "--config", file)
        assert answer.code == 0, answer.text
        return answer.text

    run("prepare-targets")
    run("featurize")
    run("train", "--variant", "hclmp", "--fold", "a")
    kept = Path("results/models/hclmp/a/model.safetensors").read_bytes()
    shutil.rmtree("results/models")
    shutil.rmtree("results/predictions")
    text = run("train", "--variant", "hclmp", "--fold", "a", "--fold", "b")
    assert text.count("restored from") == 1
    assert "hclmp on fold b: standardised MAE" in text
    assert "hclmp on fold a: standardised MAE" not in text
    assert Path("results/models/hclmp/a/model.safetensors").read_bytes() == kept
    assert Path("results/predictions/hclmp/a.parquet").is_file()
    shutil.rmtree("results/models")
    assert run("train", "--variant", "hclmp", "--fold", "b").count("restored from") == 1
