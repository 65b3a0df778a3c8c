"""Who may read what a run writes: whoever the umask of its user lets."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hclmp.files import atomic_write, write_text
from hclmp.pipeline.cache import VARIABLE
from hclmp.tensors import write_tensors
from tests.made_up.oxides import OF_DOS, calibrate, run

ROOT = Path(__file__).parents[1]
NOBODY = 65534
UMASKS = [0o022, 0o077, 0o002]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def check_modes(folder: Path, mask: int) -> int:
    """Every file and folder in here is as the umask has it; how many files there are."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    assert {str(f): oct(mode(f)) for f in files if mode(f) != 0o666 & ~mask} == {}
    assert {str(f): oct(mode(f)) for f in folders if mode(f) != 0o777 & ~mask} == {}
    return len(files)


@pytest.mark.parametrize("mask", UMASKS)
def test_a_file_has_the_mode_of_the_umask_whoever_writes_it(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        write_text(tmp_path / "new/text", "a")
        write_tensors(tmp_path / "new/tensors", {"x": np.zeros(2)}, {})
        with atomic_write(tmp_path / "new/moved") as temporary:
            descriptor, name = tempfile.mkstemp(dir=tmp_path)
            os.write(descriptor, b"b")
            os.close(descriptor)
            os.replace(name, temporary)
        assert check_modes(tmp_path / "new", mask) == 3
    assert (tmp_path / "new/moved").read_bytes() == b"b"


def test_a_failed_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "old")

    def fail() -> None:
        with atomic_write(tmp_path / "text") as temporary:
            temporary.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("text", "old")]


def test_all_files_of_a_run_have_the_mode_of_the_umask(audited: Path, tmp_path: Path) -> None:
    for name in ("table.csv", "dos.parquet", "config.yaml", "systems.tsv"):
        shutil.copy(audited / "keep" / name, tmp_path / name)
    with umask(0o002):
        run(tmp_path, "prepare-targets", *OF_DOS, "aggregate", "report")
    assert check_modes(tmp_path / "results", 0o002) > 20
    assert check_modes(tmp_path / "data", 0o002) == 4


@pytest.fixture
def evaluated(audited: Path, shared_folder: Path) -> Path:
    """A run that lacks its final model alone, in a folder that all users may read."""
    copy = shutil.copytree(audited / "keep", shared_folder / "run")
    calibrate(copy)
    return copy


@pytest.mark.parametrize("mask", UMASKS)
def test_the_final_model_has_the_mode_of_the_umask(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, mask: int
) -> None:
    """Made, kept in the cache, and put back from it."""
    cache = evaluated / "cache"
    monkeypatch.setenv(VARIABLE, str(cache))
    with umask(mask):
        run(evaluated, "finalize")
        assert check_modes(evaluated / "results/final", mask) == 6
        assert check_modes(cache, mask) == 7  # and the record of the entry
        shutil.rmtree(evaluated / "results/final")
        run(evaluated, "finalize")
        assert check_modes(evaluated / "results/final", mask) == 6


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the user without rights, in a folder that everyone may read."""
    return subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"},
    )


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that all users can enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no `setpriv` on this machine")
def test_another_user_predicts_with_a_final_model(evaluated: Path) -> None:
    if as_nobody(sys.executable, "-c", "import hclmp.model").returncode:
        pytest.skip("another user cannot run the Python of these tests, or read this checkout")
    with umask(0o022):
        run(evaluated, "finalize")
    final = evaluated / "results/final"
    predict = (sys.executable, "-m", "hclmp.cli.main", "predict", str(final), "Fe2TiO5", "--json")
    done = as_nobody(*predict)
    assert done.returncode == 0, done.stderr
    assert '"gap_low"' in done.stdout
    (final / "model.safetensors").chmod(0o600)  # as hclmp made it before
    refused = as_nobody(*predict)
    assert refused.returncode == 2
    assert "you may not read model.safetensors" in refused.stderr
    assert f"chmod -R a+rX {final}" in refused.stderr
