"""What the profile does with jobs that are killed, fail or want a GPU."""

import re
from pathlib import Path

import pytest

from tests.slurm.cluster import Slurm
from tests.slurm.conftest import Run, Submission

pytestmark = pytest.mark.slurm
# The small Snakefile has no profile beside it: the workflow's own is named.
SNAKEFILE = (
    "--snakefile",
    "tests/slurm/Snakefile",
    "--workflow-profile",
    "workflow/profiles/default",
)


@pytest.fixture(scope="module")
def small(slurm: Slurm, site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """All rules that end soon, in one run, which the one that fails does not stop."""
    directory = tmp_path_factory.mktemp("small") / "run"
    targets = ("memory.txt", "mistake.txt", "gres.txt", "gpus.txt")
    return directory, Submission(slurm, site, directory).run(*targets, *SNAKEFILE, "--keep-going")


def states(run: Run, rule: str) -> list[str]:
    """The states of a rule's jobs, in the order of their submission."""
    return [job.state for job in run.jobs if job.comment.startswith(f"rule_{rule}")]


def test_a_job_killed_for_memory_is_run_again_with_more(small: tuple[Path, Run]) -> None:
    directory, run = small
    first, second = states(run, "memory")
    assert first in ("FAILED", "OUT_OF_MEMORY")
    assert second == "COMPLETED"
    assert (directory / "memory.txt").read_text() == "1200\n"


@pytest.mark.slow
def test_a_job_killed_for_time_is_run_again_with_more(
    slurm: Slurm, site: Path, tmp_path: Path
) -> None:
    run = Submission(slurm, site, tmp_path / "run").run("time.txt", *SNAKEFILE)
    assert run.code == 0, run.text
    assert states(run, "time") == ["TIMEOUT", "COMPLETED"]
    assert (tmp_path / "run/time.txt").read_text() == "2\n"


def test_a_failed_job_shows_its_message_and_where_its_logs_are(small: tuple[Path, Run]) -> None:
    directory, run = small
    assert run.code == 1
    assert states(run, "mistake") == ["FAILED"]
    assert "logs/mistake.log" in run.text
    assert "column `gap` is not a number" in run.text
    (job,) = [job for job in run.jobs if job.comment == "rule_mistake"]
    (log,) = set(re.findall(rf"\S+/{job.number}\.log", run.text))
    assert Path(log.strip("'(")).is_relative_to(directory)
    assert "mistake" in Path(log.strip("'(")).read_text()
    assert not (directory / "mistake.txt").exists(), "half a file"


@pytest.mark.parametrize("form", ["gres", "gpus"])
def test_a_job_that_asks_for_a_gpu_gets_one(form: str, small: tuple[Path, Run]) -> None:
    directory, run = small
    (job,) = [job for job in run.jobs if job.comment == f"rule_gpu_wildcards_{form}"]
    assert (job.state, job.partition) == ("COMPLETED", "gpu")
    assert (directory / f"{form}.txt").read_text().strip() in ("0", "1")


def test_other_jobs_go_where_the_site_says(small: tuple[Path, Run]) -> None:
    _, run = small
    others = [job for job in run.jobs if not job.comment.startswith("rule_gpu")]
    assert {job.partition for job in others} == {"cpu"}
