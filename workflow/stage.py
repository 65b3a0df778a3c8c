"""DVC's side of the workflow: `python -m workflow.stage` STAGE, commit or restore.

DVC decides between stages by content, Snakemake runs the jobs inside one. ``dvc.yaml`` calls this
for every stage; docs/dvc.md says when to call the other two. It is no part of hclmp, which knows
neither Snakemake nor DVC, and no recipe in ``dvc.yaml``, whose commands must be constant.
"""

import argparse
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import yaml

from hclmp.config import Config, load_config
from hclmp.errors import UserError, join_some
from hclmp.files import write_json
from hclmp.pipeline import cache
from hclmp.pipeline.checks import check_results
from hclmp.pipeline.jobs import PROCESSED, RESULTS, STEPS, jobs, module_of
from hclmp.pipeline.scopes import training_batches

CONFIG = Path("config/config.yaml")
RAW = Path("data/raw")
LOCK = Path(".hclmp/stage.lock")
# What DVC tracks; each is made by one stage of dvc.yaml, as a test checks.
TABLES = [
    PROCESSED / f"{name}.{kind}" for name in ("dos", "targets") for kind in ("parquet", "json")
]
FOLDERS = ("gan", "encoder", "features", "models", "predictions", "metrics", "final")
OUTS = [*TABLES, *(RESULTS / name for name in FOLDERS), RESULTS / "report.html"]
# The stages that may have nothing to do, and what they then leave: DVC wants every out to be there.
EMPTY = {"pretrain-gan": "gan", "pretrain-encoder": "encoder", "finalize": "final"}
NO_DOS = {"none": "`dos.source` is `none`: there is no density of states"}
DOS, DOS_RECORD = TABLES[:2]


def run(stage: str) -> None:
    """Make the results of one stage, and hold them against their provenance.

    Raises:
        UserError: a bad configuration, an input that DVC does not see, another run in this
            directory, or a job that failed.
    """
    config = load_config(CONFIG)
    check_inputs(config)
    if not jobs(config, stage):
        write_nothing(stage)
        return
    with _alone(stage) as (lock, killed):
        if killed:
            _snakemake("--unlock", lock=lock)
        # Upstream files are DVC's affair: without the fence a mere `touch` would remake them.
        fence = ("--allowed-rules", *rules_of(config, stage))
        # What can be finished is, and is kept: the next run makes only what failed.
        code = _snakemake(*targets(config, stage), *fence, "--keep-going", lock=lock)
    if code:
        raise UserError(
            f"stage {stage}: a job failed, its message is above. What was finished is kept: after "
            "the cause is mended, `dvc repro` makes only the rest."
        )
    # Read again: DVC is about to record what the configuration and the source say now, which may
    # have been edited while the jobs ran.
    check_results(load_config(CONFIG), stage)


def commit() -> None:
    """Record in DVC what a plain Snakemake run made.

    Raises:
        UserError: a result is missing, not of this configuration, inputs and source, or left over.
    """
    config = _configured()
    for stage in ("pull-dos", *EMPTY):
        if not jobs(config, stage):
            write_nothing(stage)
    if config.dos.source != "none" and not config.pretrains and not _has_table(DOS):
        DOS.unlink(missing_ok=True)  # no variant uses it, so the plain run did without
        run("pull-dos")
    for step in STEPS:
        check_results(config, step)
    _check_leftovers(config)
    _ask("dvc", "commit", "--force")


def restore() -> None:
    """Make Snakemake see that results which DVC brought (pull, checkout) are up to date.

    Raises:
        UserError: a result is missing, not as recorded to the byte, or not of this configuration,
            inputs and source.
    """
    config = _configured()
    _check_bytes()
    for step in STEPS:
        check_results(config, step)
    # all, so that what Snakemake noted of an earlier run in this directory is replaced as well
    _ask("snakemake", "--touch", "--forceall", "--cores", "1")


def rules_of(config: Config, stage: str) -> list[str]:
    """The rules that make the results of a stage."""
    rules = [module_of(stage)]
    if stage == "train":
        rules.append("train_baseline")
        if config.training.folds_per_job > 1:
            rules += [f"train_batch_{i}" for i in range(1, len(training_batches(config)) + 1)]
    return rules


def targets(config: Config, stage: str) -> list[str]:
    """The files that Snakemake is asked for; its rules make the rest along with them."""
    return [str(next(iter(made.outputs.values()))) for made in jobs(config, stage)]


def check_inputs(config: Config) -> None:
    """The user's own files must lie where DVC sees them change."""
    given = {
        "targets.path": config.targets.path,
        "dos.path": config.dos.path,
        "gan.path": config.gan.path if config.transfers else None,
    }
    for key, path in given.items():
        if path is None:
            continue
        if not Path(path).exists():
            raise UserError(f"{CONFIG}: `{key}: {path}`: no such file or folder")
        parents = Path(path).resolve().parents
        if RAW.resolve() not in parents or (RAW / "materials_project").resolve() in parents:
            raise UserError(
                f"{CONFIG}: `{key}: {path}` is not in {RAW}/, the folder of inputs that DVC "
                "watches; a change of it would go unnoticed. Put the file there."
            )


def write_nothing(stage: str) -> None:
    """The outs of a stage that makes nothing, since DVC wants every out to be there."""
    if folder := EMPTY.get(stage):
        (RESULTS / folder).mkdir(parents=True, exist_ok=True)
        return
    if _has_table(DOS):
        raise UserError(f"{DOS}: left over from another configuration; remove it")
    DOS.parent.mkdir(parents=True, exist_ok=True)
    DOS.touch()  # no table: reading it is an error that names the file
    write_json(DOS_RECORD, NO_DOS)


def _has_table(path: Path) -> bool:
    """Whether there is a table, rather than nothing or the empty file that stands for none."""
    return path.is_file() and path.stat().st_size > 0


def _check_bytes() -> None:
    """Results must be what ``dvc.lock`` records: DVC trusts a remote that is not verified."""
    cached = Path(_ask("dvc", "cache", "dir", quiet=True).strip()) / "files/md5"
    bad = [
        path
        for path, digest in _recorded(cached).items()
        if digest not in (_md5(path), _md5(cached / digest[:2] / digest[2:]))
    ]
    if bad:
        raise UserError(
            f"{join_some(bad)}: not as dvc.lock records, neither here nor in DVC's cache {cached}: "
            "lost or damaged in the remote. Push it again from where it is whole, or make it again "
            "with `dvc repro`."
        )


def _recorded(cached: Path) -> dict[Path, str]:
    """File -> MD5 of all outs in ``dvc.lock``, folders file by file."""
    try:
        stages = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    except FileNotFoundError as error:
        raise UserError("dvc.lock: no such file: nothing was recorded here yet") from error
    files: dict[Path, str] = {}
    for out in (out for stage in stages.values() for out in stage["outs"]):
        path, digest = Path(out["path"]), out["md5"]
        if not digest.endswith(".dir"):
            files[path] = digest
            continue
        listing = cached / digest[:2] / digest[2:]
        if _md5(listing) != digest.removesuffix(".dir"):
            raise UserError(
                f"{path}: not all of it was pulled; `dvc status --cloud` names what the remote "
                f"lacks (DVC's list of the files, {listing}, is missing or damaged here)"
            )
        parts = json.loads(listing.read_text())
        files |= {path / part["relpath"]: part["md5"] for part in parts}
    return files


def _md5(path: Path) -> str | None:
    """MD5 of a file's bytes, which is how DVC names it; None if there is none."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _check_leftovers(config: Config) -> None:
    """Nothing but results of this configuration may lie in what is recorded."""
    made = {DOS, DOS_RECORD}  # there also where no variant needs them, and checked already
    made |= {path for step in STEPS for job in jobs(config, step) for path in job.outputs.values()}
    files = [f for out in OUTS for f in (out.rglob("*") if out.is_dir() else [out])]
    if left := [file for file in files if file.is_file() and file not in made]:
        raise UserError(
            f"{join_some(left)}: not made by this configuration, left over from another or from a "
            "killed run. Remove what is left over, then commit."
        )


@contextmanager
def _alone(stage: str) -> Iterator[tuple[int, bool]]:
    """Hold the lock of this directory; also tells whether the run before was killed.

    Snakemake inherits the lock: if only `dvc repro` is killed, Snakemake goes on, and a second one
    beside it could have its results overwritten by those of the first.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with open(LOCK, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{LOCK}: another stage still runs in this directory (a `dvc repro` that was "
                "killed leaves its Snakemake running). Wait for it or end it, then repeat."
            ) from error
        lock.seek(0)
        killed = bool(lock.read())
        lock.truncate(0)
        lock.write(stage)
        lock.flush()
        yield lock.fileno(), killed
        lock.truncate(0)


def _snakemake(*arguments: str, lock: int) -> int:
    """Run Snakemake on this checkout, whatever `hclmp` is installed; its exit code."""
    # From the environment, so that the command in dvc.lock is the same on every machine.
    cores = os.environ.get("HCLMP_CORES") or (None if "SNAKEMAKE_PROFILE" in os.environ else "all")
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *arguments, *(["--cores", cores] if cores else [])],
        env=_environment(),
        pass_fds=[lock],
    )
    try:
        return process.wait()
    except KeyboardInterrupt:  # Snakemake was told too, and ends its jobs
        process.wait()
        raise


def _environment() -> dict[str, str]:
    """This environment, in which jobs import this checkout's hclmp and keep finished folds."""
    here = Path.cwd()
    # `dvc exp run --temp` and `--queue` work in <checkout>/.dvc/tmp/exps/<name>: one cache for all
    home = next((p.parent for p in here.parents if p.name == ".dvc"), here)
    search = [str(here), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = os.environ.get(cache.VARIABLE) or str(home / ".hclmp/cache")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search), cache.VARIABLE: kept}


def _ask(module: str, *arguments: str, quiet: bool = False) -> str:
    """Run a tool to its end; what it printed, if ``quiet``."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=_environment(),
        capture_output=quiet,
        text=True,
    )
    if done.returncode:
        said = f": {done.stderr.strip()}" if quiet else "; its message is above"
        raise UserError(f"`{module} {arguments[0]}` failed{said}")
    return done.stdout or ""


def _configured() -> Config:
    """The configuration, where DVC can be used."""
    if find_spec("dvc") is None:
        raise UserError("DVC is not installed: pip install -c constraints.txt -e '.[dvc]'")
    if not Path(".dvc").is_dir():
        raise UserError("no .dvc folder here: run this in the checkout, after `git clone`")
    config = load_config(CONFIG)
    check_inputs(config)
    return config


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m workflow.stage", description=__doc__)
    parser.add_argument("task", choices=[*STEPS, "commit", "restore"])
    task = parser.parse_args().task
    try:
        {"commit": commit, "restore": restore}.get(task, lambda: run(task))()
    except UserError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
