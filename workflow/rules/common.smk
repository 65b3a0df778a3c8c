"""The configuration, checked once; the folds; what every rule's parameters are made of."""

import json
import re
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from hclmp.pipeline import paths
from hclmp.config import as_json, resolve
from hclmp.errors import UserError
from hclmp.cli.estimate import estimate
from hclmp.data.folds import fold_batches, fold_names
from hclmp.pipeline.origins import report_inputs
from hclmp.provenance import source_hash
from hclmp.files import write_text
from hclmp.pipeline.slices import (
    aggregate_slice,
    dos_slice,
    encoder_slice,
    features_slice,
    final_slice,
    gan_slice,
    report_slice,
    targets_slice,
    train_slice,
)
from hclmp.sources.inputs import input_files

try:
    SETTINGS = resolve(config, origin="config")
    # DVC pulls the DOS whether or not a variant uses them yet; only a table in use must be there.
    PULLS = SETTINGS.pretrains or (
        SETTINGS.dos.source != "none" and Path(SETTINGS.dos.path or ".").exists()
    )
    FOLDS = fold_names(SETTINGS)
    # Folds that train as one model; none where each is a job.
    BATCHES = fold_batches(SETTINGS) if SETTINGS.training.folds_per_job > 1 else []
    ESTIMATE = estimate(SETTINGS, folds=len(FOLDS))
    # The user's own files: a rule reruns when one of them changes.
    OWN = {
        "targets": input_files(SETTINGS.targets),
        "dos": input_files(SETTINGS.dos) if PULLS else [],
    }
    OWN_GENERATOR = SETTINGS.gan.path if SETTINGS.transfers else None
    if OWN_GENERATOR and not Path(OWN_GENERATOR).is_file():
        raise UserError(
            f"{OWN_GENERATOR}: no such file (relative to the working directory)"
        )
except UserError as error:
    raise WorkflowError(str(error))
validate(config, "../schemas/config.schema.json", set_default=False)

# What the training asks a cluster for, beside memory and time.
GPU = {"gpu": 1} if SETTINGS.training.device.startswith("cuda") else {}
STARTED = time.time()
NEURAL = [name for name, v in SETTINGS.variants.items() if v.model == "hclmp"]
BASELINES = [name for name, v in SETTINGS.variants.items() if v.model != "hclmp"]

# With `dos.held_out: drop` each fold has a generator and features of its own.
PER_FOLD = SETTINGS.generator_per_fold
SCOPE = "{fold}/" if PER_FOLD else ""
FEATURES = f"results/features/{SCOPE}features.safetensors"
ENCODER = f"results/encoder/{SCOPE}encoder.safetensors"
GENERATOR = OWN_GENERATOR or f"results/gan/{SCOPE}generator.safetensors"
# The variant that is trained on all samples in the end, if any is H-CLMP.
FINAL = SETTINGS.final_variant
FINAL_TRANSFERS = FINAL is not None and SETTINGS.variants[FINAL].transfer
FINAL_ENCODER = FINAL is not None and SETTINGS.starts_pretrained(FINAL)
FINAL_GENERATOR = OWN_GENERATOR or "results/gan/generator.safetensors"
METRICS = ["results/metrics/summary.csv", "results/metrics/metrics.json"]

# So that the jobs find `hclmp` even if the environment of this Snakemake is not activated.
shell.prefix(f'set -euo pipefail; export PATH="{Path(sys.executable).parent}:$PATH"; ')


def as_parameter(settings):
    """A slice of the configuration as a parameter: a rule reruns when it changes."""
    return json.dumps(settings, sort_keys=True)


def by_attempt(amount):
    """So much memory or time, and as much again at every further attempt (`retries`)."""
    return lambda wildcards, attempt: amount * attempt


def fold_option(wildcards):
    """`--fold NAME` for steps that run once per fold, else nothing."""
    return f"--fold {wildcards.fold}" if PER_FOLD else ""


def fold_of(wildcards):
    """The fold of a step that runs once per fold, else None."""
    return wildcards.fold if PER_FOLD else None


def encoders(variant, folds):
    """The pretrained encoders that a variant starts from on these folds, if any."""
    if not SETTINGS.starts_pretrained(variant):
        return []
    return expand(ENCODER, fold=folds) if PER_FOLD else [ENCODER]


def in_report(file, category, caption):
    """An output that `snakemake --report` shows."""
    return report(
        file,
        caption=f"../report/{caption}.rst",
        category=category,
        labels={"what": Path(file).stem.replace("_", " ")},
    )


def plots():
    """The pictures that aggregate draws, and the data for `dvc plots`."""
    shown = {
        ("Errors", "parity"): [
            f"parity_{variant}.png" for variant in SETTINGS.variants
        ],
        ("Errors", "errors"): ["mae_by_property.png", "mae_by_system.png"],
    }
    data = ["parity.csv"]
    if NEURAL:
        shown["Training", "losses"] = ["loss_curves.png"]
        shown["Correlation", "correlation"] = ["correlation.png"]
        data.append("losses.csv")
    if SETTINGS.pretrains:
        shown["Density of states", "dos"] = ["generated_dos.png", "gan_curves.png"]
        data.append("gan.csv")
    folder = "results/metrics/plots"
    pictures = [
        in_report(f"{folder}/{name}", *place)
        for place, names in shown.items()
        for name in names
    ]
    return pictures + [f"{folder}/{name}" for name in data]


def final_files():
    """The folder of the final model."""
    if FINAL is None:
        return []
    names = ["model.json", "model.safetensors", "elements.safetensors"]
    names += ["training.parquet", "history.csv"]
    names += ["generator.safetensors"] if FINAL_TRANSFERS else []
    return [f"results/final/{name}" for name in names]


def gan_results():
    """The generator's metrics and curves, of every fold where each has one of its own."""
    if not SETTINGS.pretrains:
        return []
    files = [
        f"results/gan/{SCOPE}{name}"
        for name in ("metrics.json", "history.csv", "examples.csv")
    ]
    return expand(files, fold=FOLDS) if PER_FOLD else files


wildcard_constraints:
    fold="|".join(map(re.escape, FOLDS)),
    variant="|".join(SETTINGS.variants),


localrules:
    all,


if workflow.is_main_process:
    print(ESTIMATE, file=sys.stderr)
