"""One Slurm for all tests of this folder, and Snakemake as a user runs it there."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.slurm.cluster import Job, Slurm, obstacle, running_slurm
from tests.workflow.conftest import ROOT, environment


@dataclass(frozen=True)
class Run:
    """A Snakemake that ended or was killed: what it printed, and its jobs as Slurm saw them."""

    code: int
    text: str
    jobs: list[Job]

    @property
    def name(self) -> str:
        """The name of all its jobs in Slurm."""
        return run_name(self.text)


@dataclass(frozen=True)
class Submission:
    """Snakemake with the project's profile and that of a site, in a working directory."""

    slurm: Slurm
    site: Path
    directory: Path

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start it, its output going to a file."""
        options = ["--profile", "workflow/profiles/slurm", "--profile", str(self.site)]
        options += ["--directory", str(self.directory)]
        with open(self.output, "wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "snakemake", *arguments, *options],
                cwd=ROOT,
                env={**environment(ROOT), **self.slurm.environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> Run:
        """Run it to its end."""
        process = self.start(*arguments)
        try:
            process.wait(timeout=900)
        finally:
            kill(process)
        return self.ended(process)

    def ended(self, process: "subprocess.Popen[bytes]") -> Run:
        """What there is to know about a Snakemake that is no more."""
        text = self.output.read_text()
        return Run(process.returncode, text, self.slurm.jobs(run_name(text)))

    @property
    def output(self) -> Path:
        return self.directory.with_suffix(".out")


def run_name(text: str) -> str:
    """The run's identifier, by which its jobs are found in Slurm."""
    (name,) = re.findall(r"SLURM run ID: (\S+)", text) or [""]
    return str(name)


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill Snakemake and its children, not its jobs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := obstacle():
        pytest.skip(reason)
    with running_slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile that a user writes for a cluster: docs/cluster.md."""
    directory = tmp_path_factory.mktemp("site")
    profile = {
        "default-resources": {"slurm_partition": "cpu"},
        "set-resources": {"train": {"gres": "gpu:1", "slurm_partition": "gpu"}},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(profile))
    return directory
