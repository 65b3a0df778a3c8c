"""The configuration, checked once, and what the rules take from the table of jobs."""

import json
import re
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from hclmp.cli.estimate import estimate
from hclmp.config import as_json, resolve
from hclmp.data.folds import CALIBRATION, fold_names
from hclmp.errors import UserError
from hclmp.files import write_text
from hclmp.pipeline.jobs import CONFIG, STEPS, Job, jobs, module_of
from hclmp.pipeline.scopes import training_batches
from hclmp.provenance import source_hash
from hclmp.sources.inputs import input_files

try:
    SETTINGS = resolve(config, origin="config")
    # DVC pulls the DOS whether or not a variant uses them yet; only a table in use must be there.
    PULLS = SETTINGS.pretrains or (
        SETTINGS.dos.source != "none" and Path(SETTINGS.dos.path or ".").exists()
    )
    FOLDS = [*fold_names(SETTINGS), *CALIBRATION]
    # Folds that train as one model; none where each is a job.
    BATCHES = training_batches(SETTINGS) if SETTINGS.training.folds_per_job > 1 else []
    # The user's own files: a rule reruns when one of them changes.
    OWN = {
        "targets": input_files(SETTINGS.targets),
        "dos": input_files(SETTINGS.dos) if PULLS else [],
    }
    if (path := SETTINGS.gan.path if SETTINGS.transfers else None) is not None:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file (relative to the working directory)")
except UserError as error:
    raise WorkflowError(str(error))
validate(config, "../schemas/config.schema.json", set_default=False)

# What `snakemake --report` shows: category and caption by the beginning of an output's name.
SHOWN = {
    "summary": ("Tables", "tables"),
    "by_system": ("Tables", "tables"),
    "parity_": ("Errors", "parity"),
    "mae_by": ("Errors", "errors"),
    "loss_curves": ("Training", "losses"),
    "correlation": ("Correlation", "correlation"),
    "generated_dos": ("Density of states", "dos"),
    "gan_curves": ("Density of states", "dos"),
}

# What the training asks a cluster for, beside memory and time.
GPU = {"gpu": 1} if SETTINGS.training.device.startswith("cuda") else {}
STARTED = time.time()
BASELINES = [name for name in SETTINGS.variants if name not in SETTINGS.neural]

# So that the jobs find `hclmp` even if the environment of this Snakemake is not activated.
shell.prefix(f'set -euo pipefail; export PATH="{Path(sys.executable).parent}:$PATH"; ')


def scope_of(step, wildcards):
    """The scope of the job that a rule's wildcards name."""
    if hasattr(wildcards, "scope"):
        # "FOLD/", or nothing where one job serves all folds
        return tuple(filter(None, wildcards.scope.split("/")))
    return tuple(wildcards.get(option.strip("-")) for option in STEPS[step].options)


def outputs(step, *scope):
    """The files that a job writes, or the pattern of them: name -> path."""
    files = Job(SETTINGS, step, scope).outputs.items()
    return {name: str(path).replace("{scope}/", "{scope}") for name, path in files}


def read_by(step, *scope):
    """The files that a job reads."""
    return [str(path) for path in Job(SETTINGS, step, scope).inputs.values()]


def settings_of(step, *scope):
    """What a job's result depends on beside its inputs, as text."""
    return json.dumps(Job(SETTINGS, step, scope).settings, sort_keys=True)


def inputs(step):
    """What a rule reads, as a function of its wildcards."""
    return lambda wildcards: read_by(step, *scope_of(step, wildcards))


def settings(step):
    """A parameter of a rule, which reruns when this changes."""
    return lambda wildcards: settings_of(step, *scope_of(step, wildcards))


def source(step):
    """The hash of the code of a step; its rule reruns when this changes."""
    return source_hash(module_of(step))


def every(step):
    """All files of all jobs of a step."""
    return [str(f) for made in jobs(SETTINGS, step) for f in made.outputs.values()]


def by_attempt(amount):
    """So much memory or time, and as much again at every further attempt (`retries`)."""
    return lambda wildcards, attempt: amount * attempt


def fold_option(wildcards):
    """`--fold NAME` for a step that runs once per fold, else nothing."""
    return "".join(f"--fold {fold}" for fold in wildcards.scope.split("/") if fold)


def in_report(file, category, caption):
    """An output that `snakemake --report` shows."""
    return report(
        file,
        caption=f"../report/{caption}.rst",
        category=category,
        labels={"what": Path(file).stem.replace("_", " ")},
    )


def shown(name, path):
    """An output of aggregate, in the report if it belongs there."""
    for start, place in SHOWN.items():
        if name.startswith(start):
            return in_report(path, *place)
    return path


METRICS = [outputs("aggregate")[name] for name in ("summary", "metrics")]


wildcard_constraints:
    fold="|".join(map(re.escape, FOLDS)),
    scope="|".join(["(?:)", *(f"{re.escape(fold)}/" for fold in FOLDS)]),
    variant="|".join(SETTINGS.variants),


localrules:
    all,


if workflow.is_main_process:
    print(estimate(SETTINGS), file=sys.stderr)
