"""A small repository under Git and DVC, run once to the end and cloned or copied by each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hclmp.provenance import read_provenance
from tests.made_up.tables import (
    good_table,
    wide_dos,
    write,
)

ROOT = Path(__file__).parents[2]
SHIPPED = ["hclmp", "workflow", "dvc.yaml", ".dvc", ".dvcignore", ".gitignore", "environment.yml"]
SHEET = "system\tfold\nCu-Fe-Mn\tfirst\nFe-Ti-W\tsecond\n"
CONFIG: dict[str, Any] = {
    "targets": {"source": "table", "path": "data/raw/targets.csv", "left_out": ["O"]},
    "dos": {
        "source": "table",
        "path": "data/raw/dos.csv",
        "held_out": "keep",
        "energies": {"start": -1.0, "stop": 0.75, "n": 8},
    },
    "gan": {"source": "train", "epochs": 1, "generator_hidden": [8], "critic_hidden": [8]},
    "encoder": {"epochs": 1},
    "systems": "config/systems.tsv",
    "split": "systems",
    "variants": ["hclmp_t", "mean"],
    "model": {"embedding": "matscholar", "message_hidden": 8, "latent": 8, "trunk": 16},
    "training": {"epochs": 2, "members": 1, "seed": 0},
    "baselines": {"trees": 5},
}
FOLDS = ("first", "second")
BYTECODE = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
Run = subprocess.CompletedProcess[str]


class Repository:
    """A checkout: its folder, and the commands that are given in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def run(self, *command: str, **options: Any) -> Run:
        """A command as a user types it; ``dvc``, ``snakemake`` and ``python`` of this Python."""
        if command[0] in ("dvc", "snakemake"):
            command = (sys.executable, "-m", *command)
        elif command[0] == "python":
            command = (sys.executable, *command[1:])
        options = {"env": environment(), "timeout": 600, **options}
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, **options)

    def done(self, *command: str, **options: Any) -> str:
        """What a command that succeeds prints."""
        answer = self.run(*command, **options)
        text = answer.stdout + answer.stderr
        assert answer.returncode == 0, f"{' '.join(command)}\n{text[-6000:]}"
        return text

    def refused(self, *command: str, **options: Any) -> str:
        """What a command that fails prints: no traceback."""
        answer = self.run(*command, **options)
        text = answer.stdout + answer.stderr
        assert answer.returncode != 0, text[-6000:]
        assert "Traceback" not in text, text[-6000:]
        return text

    def config(self, **change: Any) -> None:
        """Write the configuration; mappings are merged into the small one."""
        config = {
            key: {**value, **change.get(key, {})} if isinstance(value, dict) else value
            for key, value in CONFIG.items()
        }
        config |= {k: v for k, v in change.items() if not isinstance(v, dict)}
        text = yaml.safe_dump(config, sort_keys=False)
        (self.folder / "config/config.yaml").write_text(text)

    def commit(self, message: str = "change") -> None:
        self.done("git", "add", "--all")
        self.done("git", "commit", "--quiet", "--message", message)

    def is_clean(self, *stages: str) -> bool:
        """Whether `dvc status` finds nothing changed."""
        return "up to date" in self.done("dvc", "status", *stages)

    def clone(self, target: Path) -> Repository:
        """A fresh clone, without data; one gets them with `dvc pull`."""
        self.done("git", "clone", "--quiet", ".", str(target))
        return Repository(target)

    def copy(self, target: Path) -> Repository:
        """The same checkout elsewhere, data and caches too."""
        shutil.copytree(self.folder, target, symlinks=True)
        return Repository(target)


def environment(**more: str) -> dict[str, str]:
    """As a user has it who knows this Python alone, and no identity in Git but one."""
    who = {"NAME": "Test", "EMAIL": "test@localhost"}
    git = {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # a user's Python writes what it compiles into the package
    kept = {name: value for name, value in os.environ.items() if name not in BYTECODE}
    return {**kept, "PATH": path, "DVC_NO_ANALYTICS": "1", **git, **more}


def epochs(run: Repository) -> set[int]:
    """What the trained models themselves say."""
    models = [run / f"results/models/hclmp_t/{fold}/model.safetensors" for fold in FOLDS]
    return {read_provenance(model)["config"]["training"]["epochs"] for model in models}


def new_repository(folder: Path) -> Repository:
    """A repository with this checkout's source and the small configuration, committed."""
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "tmp", "cache", "config.local")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    (folder / "config").mkdir()
    (folder / "config/systems.tsv").write_text(SHEET)
    (folder / "data/raw").mkdir(parents=True)
    write(folder / "data/raw/targets.csv", good_table())
    write(folder / "data/raw/dos.csv", wide_dos())
    # the small tables are kept in Git here, so that a clone has them
    (folder / "data/raw/.gitignore").write_text("!*.csv\n")
    repository = Repository(folder)
    repository.config()
    repository.done("git", "init", "--quiet", "--initial-branch", "main")
    repository.commit("start")
    return repository


@pytest.fixture(scope="session")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("remote")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, remote: Path) -> Repository:
    """Run by `dvc repro` from a fresh clone to the end, committed, pushed to a folder. Copy it."""
    origin = new_repository(tmp_path_factory.mktemp("origin") / "run")
    run = origin.clone(tmp_path_factory.mktemp("recorded") / "run")
    run.done("dvc", "repro")
    run.done("dvc", "remote", "add", "--default", "box", str(remote))
    run.done("dvc", "push")
    run.commit("results")
    return run
