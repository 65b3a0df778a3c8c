"""Real runs of the workflow on tiny sizes, each made once and copied where a test changes it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from hclmp.config import DEFAULT_VARIANTS

ROOT = Path(__file__).parents[2]
SHEET = "system\tfold\nCo-Ti-Zr\tfirst\nCr-Fe-Mn\tfirst\nCo-Cu-Nb\tsecond\nCo-Fe-Mo\tsecond\n"
VARIANTS = list(DEFAULT_VARIANTS)
TINY: dict[str, Any] = {
    "targets": {"source": "demo", "limit": 120},
    "dos": {"source": "demo", "limit": 60},
    "gan": {"epochs": 3, "generator_hidden": [16], "critic_hidden": [16]},
    "variants": VARIANTS,
    "model": {"message_hidden": 8, "latent": 8, "property_size": 16, "token_size": 16},
    "encoder": {"epochs": 2},
    "training": {"epochs": 3},
    "baselines": {"trees": 5},
}


def write_config(directory: Path, config: dict[str, Any], sheet: str = SHEET) -> Path:
    """A working directory with this configuration and sheet."""
    (directory / "config").mkdir(parents=True, exist_ok=True)
    (directory / "config" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (directory / "config" / "systems.tsv").write_text(sheet)
    return directory


def snakemake(
    directory: Path, *arguments: str, root: Path = ROOT
) -> "subprocess.CompletedProcess[str]":
    """Run Snakemake as a user does, from the checkout, on a working directory."""
    return subprocess.run(
        snakemake_command(directory, *arguments),
        cwd=root,
        env=environment(root),
        capture_output=True,
        text=True,
        timeout=600,
    )


def snakemake_command(directory: Path, *arguments: str) -> list[str]:
    snakemake_ = [sys.executable, "-m", "snakemake", "--cores", "2"]
    return [*snakemake_, "--directory", str(directory), *arguments]


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root)}


def succeeded(run: "subprocess.CompletedProcess[str]") -> str:
    """All that a successful run printed."""
    text = run.stdout + run.stderr
    assert run.returncode == 0, text[-6000:]
    return text


def planned(directory: Path, *arguments: str, root: Path = ROOT) -> dict[str, int]:
    """How many jobs of each rule a dry run shows."""
    text = succeeded(snakemake(directory, "--dry-run", *arguments, root=root))
    counts: dict[str, int] = {}
    for line in _job_table(text.splitlines()):
        rule, count = line.split()
        counts[rule] = int(count)
    return counts


def _job_table(lines: Sequence[str]) -> list[str]:
    """The rows of Snakemake's table of jobs."""
    if "Job stats:" not in lines:
        return []
    start = lines.index("Job stats:") + 3
    rows = []
    for line in lines[start:]:
        if len(line.split()) != 2 or line.startswith("total"):
            break
        rows.append(line)
    return rows


def copied(source: Path, target: Path) -> Path:
    """A copy of a finished run, its times of change kept."""
    shutil.copytree(source, target)
    return target


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The default configuration on tiny sizes: the directory, and what the run printed."""
    directory = write_config(tmp_path_factory.mktemp("demo") / "run", TINY)
    return directory, succeeded(snakemake(directory))


def hclmp(*arguments: str) -> None:
    """Run a command of hclmp in a process of its own; it must succeed."""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "hclmp.cli.main", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
