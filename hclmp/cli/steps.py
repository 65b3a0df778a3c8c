"""The commands for the steps of a run; heavy imports wait for use."""

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from threadpoolctl import threadpool_limits

from hclmp.config import load_config
from hclmp.pipeline.jobs import CONFIG, job, module_of

ConfigOption = Annotated[
    Path, typer.Option("--config", help="The configuration, resolved (JSON) or as written (YAML).")
]
FoldsOption = Annotated[
    list[str],
    typer.Option("--fold", help="A fold of the sheet; several train as one model."),
]
OptionalFold = Annotated[
    str | None,
    typer.Option("--fold", help="With `dos.held_out: drop`: the fold whose systems are left out."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of the computation.")]


def pull_dos(
    config: ConfigOption = CONFIG,
    offline: Annotated[
        bool,
        typer.Option("--offline", envvar="HCLMP_OFFLINE", help="Use what was downloaded before."),
    ] = False,
) -> None:
    """Read and check the densities of states -> data/processed/dos.parquet."""
    if offline:
        os.environ["HCLMP_OFFLINE"] = "1"
    _run("pull-dos", config)


def prepare_targets(config: ConfigOption = CONFIG) -> None:
    """Read and check the measured properties -> data/processed/targets.parquet."""
    _run("prepare-targets", config)


def pretrain_gan(
    config: ConfigOption = CONFIG, fold: OptionalFold = None, threads: Threads = 1
) -> None:
    """Train the generator of densities of states -> results/gan/."""
    _set_threads(threads)
    _run("pretrain-gan", config, fold)


def pretrain_encoder(
    config: ConfigOption = CONFIG, fold: OptionalFold = None, threads: Threads = 1
) -> None:
    """Train the encoder of H-CLMP(T) on the densities of states -> results/encoder/."""
    _set_threads(threads)
    _run("pretrain-encoder", config, fold, threads=threads)


def featurize(config: ConfigOption = CONFIG, fold: OptionalFold = None) -> None:
    """Compute the inputs of the models for all samples -> results/features/."""
    _set_threads(1)
    _run("featurize", config, fold)


def train(
    variant: Annotated[str, typer.Option("--variant", help="A variant of the configuration.")],
    folds: FoldsOption,
    config: ConfigOption = CONFIG,
    threads: Threads = 1,
) -> None:
    """Train one variant on folds and predict their held-out samples -> results/predictions/."""
    _set_threads(threads)
    from hclmp.pipeline.steps.train import train as step
    from hclmp.provenance import run_record

    settings = load_config(config)
    made = [job(settings, "train", variant, fold) for fold in dict.fromkeys(folds)]
    others = f"+{len(made) - 1}" if len(made) > 1 else ""
    with run_record(made[0].name + others):
        step(settings, made, threads=threads)


def aggregate(config: ConfigOption = CONFIG) -> None:
    """Compute metrics and plots from the predictions of all folds -> results/metrics/."""
    _run("aggregate", config)


def finalize(config: ConfigOption = CONFIG, threads: Threads = 1) -> None:
    """Train the final model on all samples -> results/final/."""
    _set_threads(threads)
    _run("finalize", config, threads=threads)


def report(config: ConfigOption = CONFIG) -> None:
    """Write the results as one page, which needs no network -> results/report.html."""
    _run("report", config)


def _run(name: str, config: Path, fold: str | None = None, **options: Any) -> None:
    """Run a step that is a single job, noting date and duration beside it."""
    from hclmp.provenance import run_record

    settings = load_config(config)
    made = job(settings, name, *([] if fold is None else [fold]))
    module = import_module(f"hclmp.pipeline.steps.{module_of(name)}")
    with run_record(made.name):
        getattr(module, module_of(name))(settings, made, **options)


def _set_threads(threads: int) -> None:
    """Before scipy and torch are imported, whose pools of threads take their size from this."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # That of numpy is there already: the table of jobs imports it.
    threadpool_limits(limits=threads, user_api="blas")
    # torch needs it to get the same numbers from cuBLAS every time
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
