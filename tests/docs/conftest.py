"""A small checkout in which the commands of the documentation are run, and what was not run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import PAGES, ROOT, Block, blocks_of
from tests.docs.given import GIVEN

SHIPPED = [
    *("hclmp", "workflow", "config", "docs", "benchmarks", "README.md", "data/raw/README.md"),
    *("dvc.yaml", ".dvc", ".dvcignore", ".gitignore", "environment.yml", "constraints.txt"),
]
SHEET = "system\tfold\nCo-Ti-Zr\tfirst\nCr-Fe-Mn\tfirst\nCo-Cu-Nb\tsecond\nCo-Fe-Mo\tsecond\n"
# the demo, small: every key that dvc.yaml names must be there
SIZES: dict[str, Any] = {
    "model": {"embedding": "matscholar", "message_hidden": 8, "latent": 8},
    "encoder": {"epochs": 1},
    "training": {"epochs": 3, "members": 1, "seed": 0},
    "baselines": {"trees": 5},
}
DEMO: dict[str, Any] = {
    "targets": {"source": "demo", "left_out": ["O"], "limit": 120},
    "dos": {"source": "demo", "held_out": "keep", "limit": 60},
    "gan": {"source": "train", "epochs": 2, "generator_hidden": [16], "critic_hidden": [16]},
    "systems": "config/systems.tsv",
    "split": "systems",
    "variants": ["hclmp_t", "extra_trees"],
    **SIZES,
}
# pages that need no results of the demo: they start from a clone as it comes
WITHOUT_A_RUN = ("docs/own-table.md", "docs/paper.md", "docs/plates.md", "docs/extending.md")
LONGEST = 3600  # seconds for a block; a busy machine is slow
MADE_BY_NEW = "# Made by `hclmp new`"


@dataclass
class Checkout:
    """A small checkout: the same commands as in a whole one, but little to compute."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, block: Block) -> None:
        """Do what a block says: run its commands, write its file, or apply its difference.

        Raises:
            AssertionError: a command fails, or does not print what the page shows.
        """
        before = time.monotonic()
        if block.title is not None:
            file = self.folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        elif block.language == "diff":
            self._done(block, "git", "apply", "--recount", "-", text=block.text)
        elif block.language == "python":
            self._done(block, sys.executable, "-", text=block.text)
        else:
            # a new shell for each block, in the checkout: as in a new terminal
            shell = ["bash", "-euo", "pipefail", "-s"]
            printed = self._done(block, *shell, text=block.commands())
            there = {line.rstrip() for line in printed.splitlines()}
            missing = [line for line in block.shown_output() if line not in there]
            assert not missing, f"{block.where} shows what was not printed: {missing}\n{printed}"
        self._shrink()
        self.seconds[block.where] = time.monotonic() - before

    def _done(self, block: Block, *command: str, text: str) -> str:
        """What a command that succeeds prints, errors too."""
        answer = subprocess.run(
            command,
            input=text,
            cwd=self.folder,
            env=environment(self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST,
        )
        assert answer.returncode == 0, (
            f"{block.where} fails ({answer.returncode})\n{text}\n{answer.stdout[-6000:]}"
        )
        return answer.stdout

    def _shrink(self) -> None:
        """Little to compute in a directory that `hclmp new` has made, too."""
        for file in self.folder.glob("*/config/config.yaml"):
            text = file.read_text()
            if text.startswith(MADE_BY_NEW):
                config = yaml.safe_load(text)
                # all folds in one job: to start one takes longer than its training
                training = {**SIZES["training"], "folds_per_job": 5}
                config |= {**SIZES, "training": training, "variants": config["variants"][:1]}
                file.write_text(yaml.safe_dump(config, sort_keys=False))


def environment(checkout: Path) -> dict[str, str]:
    """As a user has it: this Python's commands, this checkout's source, a name in Git."""
    who = {"NAME": "Test", "EMAIL": "test@localhost"}
    git = {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HCLMP_", "MP_", "SNAKEMAKE"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    more = {"PATH": path, "PYTHONPATH": str(checkout), "DVC_NO_ANALYTICS": "1", "COLUMNS": "80"}
    return {**kept, **git, **more}


def small_checkout(folder: Path) -> Checkout:
    """What a clone holds, with a small demo, committed."""
    ignored = shutil.ignore_patterns("__pycache__", "tmp", "cache", "config.local")
    for name in SHIPPED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy(source, target)
    (folder / "config/config.yaml").write_text(yaml.safe_dump(DEMO, sort_keys=False))
    (folder / "config/systems.tsv").write_text(SHEET)
    checkout = Checkout(folder)
    start = "git init --quiet --initial-branch main && git add . && git commit --quiet -m start"
    checkout.run(Block("(start)", 0, "bash", None, start))
    return checkout


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The small checkout as cloned. Copy it."""
    return small_checkout(tmp_path_factory.mktemp("docs") / "hclmp")


@pytest.fixture(scope="session")
def finished(fresh: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The same with the demo run to its end, once for all pages. Copy it."""
    checkout = Checkout(copied(fresh, tmp_path_factory.mktemp("finished") / "hclmp"))
    checkout.run(Block("(the demo)", 0, "bash", None, "snakemake --cores all"))
    return checkout


def copied(checkout: Checkout, folder: Path) -> Path:
    shutil.copytree(checkout.folder, folder, symlinks=True)
    return folder


@pytest.fixture
def on_page(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A page -> a checkout of its own, with the reader's own files."""

    def prepare(page: str) -> Checkout:
        start = request.getfixturevalue("fresh" if page in WITHOUT_A_RUN else "finished")
        checkout = Checkout(copied(start, tmp_path / "hclmp"))
        for give in GIVEN.get(page, []):
            give(checkout.folder)
        return checkout

    return prepare


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which blocks of the documentation no test runs, and why."""
    blocks = [block for page in PAGES for block in blocks_of(page)]
    run = [block for block in blocks if block.runs]
    slow = [block.where for block in run if block.slow]
    reasons = Counter(block.not_run for block in blocks if block.not_run)
    terminalreporter.section("blocks of the documentation")
    terminalreporter.write_line(f"run: {len(run) - len(slow)}; with -m slow: {len(slow)} more")
    for reason, count in reasons.most_common():
        where = ", ".join(block.where for block in blocks if block.not_run == reason)
        terminalreporter.write_line(f"not run, {reason}: {count} ({where})")
