"""The demo's DAG through Slurm, its Snakemake killed on the way."""

from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import Slurm, wait_for
from tests.slurm.conftest import Run, Submission, kill
from tests.workflow.conftest import TINY, snakemake, succeeded, write_config

pytestmark = pytest.mark.slurm
DEMO: dict[str, Any] = {
    **TINY,
    "variants": ["hclmp_t", "ridge"],
    "training": {"epochs": 60},
}


@pytest.fixture(scope="module")
def submission(slurm: Slurm, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Submission:
    return Submission(slurm, site, write_config(tmp_path_factory.mktemp("demo") / "run", DEMO))


@pytest.fixture(scope="module")
def killed(submission: Submission) -> Run:
    """The run until a training has finished some epochs, when Snakemake is killed."""
    process = submission.start()

    def some_epochs_are_done() -> bool:
        assert process.poll() is None, submission.output.read_text()[-6000:]
        return any("/60 validation" in text for text in training_logs(submission))

    try:
        wait_for(some_epochs_are_done, seconds=600)
    finally:
        kill(process)
    return submission.ended(process)


@pytest.fixture(scope="module")
def cancelled(killed: Run, submission: Submission) -> Run:
    """The jobs that it left are cancelled, as docs/cluster.md says."""
    submission.slurm.cancel(killed.name)
    return Run(killed.code, killed.text, submission.slurm.jobs(killed.name))


@pytest.fixture(scope="module")
def left(cancelled: Run, submission: Submission) -> list[str]:
    """The results that there are then, before anything goes on."""
    results = submission.directory / "results"
    return [path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def finished(left: list[str], submission: Submission) -> Run:
    """The lock removed, the same command again."""
    succeeded(snakemake(submission.directory, "--unlock"))
    return submission.run()


def training_logs(submission: Submission) -> list[str]:
    return [path.read_text() for path in submission.directory.glob("logs/train/hclmp_t.*.log")]


def trainings(run: Run) -> set[str]:
    return {job.state for job in run.jobs if job.comment.startswith("rule_train_wildcards")}


def test_jobs_outlive_a_killed_snakemake_until_they_are_cancelled(
    killed: Run, cancelled: Run
) -> None:
    assert "RUNNING" in trainings(killed)
    assert "CANCELLED" in trainings(cancelled)
    assert {job.state for job in cancelled.jobs} == {"COMPLETED", "CANCELLED"}


def test_a_cancelled_job_leaves_no_half_file(cancelled: Run, left: list[str]) -> None:
    assert "features/features.safetensors" in left, "what was finished"
    assert not [name for name in left if name.endswith(".part")]
    stopped = {job.comment for job in cancelled.jobs if job.state == "CANCELLED"}
    folds = [f for f in ("first", "second") if f"rule_train_wildcards_hclmp_t_{f}" in stopped]
    assert folds
    for fold in folds:
        assert not [name for name in left if f"hclmp_t/{fold}" in name]


def test_the_same_command_goes_on_to_the_end(finished: Run, submission: Submission) -> None:
    assert finished.code == 0, finished.text
    assert {job.state for job in finished.jobs} == {"COMPLETED"}
    logs = training_logs(submission)
    assert any("resuming an interrupted training after epoch" in log for log in logs)
    assert "simulated held-out samples" in finished.text, "the table of results ends the run"
    assert "Nothing to be done" in succeeded(snakemake(submission.directory))


def test_what_was_finished_is_not_done_again(cancelled: Run, finished: Run) -> None:
    """Of a group that ended after the kill, Snakemake does not know: it is done again."""
    first = {job.comment for job in cancelled.jobs if job.state == "COMPLETED"}
    steps = {
        f"rule_{step}" for step in ("prepare_targets", "pull_dos", "pretrain_gan", "featurize")
    }
    assert steps <= first
    assert not steps & {job.comment for job in finished.jobs}


def test_short_jobs_go_together_and_ask_for_the_time_of_all_and_the_memory_of_one(
    killed: Run,
) -> None:
    (group,) = [job for job in killed.jobs if "baseline" in job.comment]
    assert group.comment.startswith("rule_baselines"), group
    assert (group.memory, group.time) == ("8000M", "4:00:00"), "of two jobs"


def test_training_goes_where_the_site_sends_it(finished: Run) -> None:
    for job in finished.jobs:
        expected = "gpu" if job.comment.startswith("rule_train_wildcards") else "cpu"
        assert job.partition == expected, job
