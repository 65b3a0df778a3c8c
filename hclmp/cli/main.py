"""The command line, and its commands for the steps of a run; heavy imports wait for use."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from hclmp.cli.commands import COMMANDS
from hclmp.config import Config, load_config
from hclmp.errors import UserError
from hclmp.pipeline import paths

app = typer.Typer(
    name="hclmp",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
ConfigOption = Annotated[
    Path, typer.Option("--config", help="The configuration, resolved (JSON) or as written (YAML).")
]
FoldsOption = Annotated[
    list[str], typer.Option("--fold", help="A fold of the sheet; several train as one model.")
]
OptionalFold = Annotated[
    str | None,
    typer.Option("--fold", help="With `dos.held_out: drop`: the fold whose systems are not seen."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of the computation.")]


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2.

    Who reads the output through a pipe may stop when they have enough, as `head` does: that ends
    the command, and is no fault.
    """
    _log_to_stderr()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # a closed pipe is to be noticed here, not when Python ends
    except (BrokenPipeError, SystemExit) as end:
        # Typer and Rich turn a closed pipe into exit code 1
        if not isinstance(end, BrokenPipeError) and not isinstance(
            end.__context__, BrokenPipeError
        ):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to write
        sys.exit(0)
    except UserError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            "error:", str(error), markup=False
        )
        sys.exit(2)


def _log_to_stderr() -> None:
    """Bare messages on a terminal; with the time in a log file."""
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(
            console=Console(stderr=True), show_time=False, show_path=False, show_level=False
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("hclmp")
    logger.handlers = [handler]  # one, however often this is called
    logger.setLevel(logging.INFO)


@app.callback()
def options(
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="No progress and notes: results, warnings, errors."),
    ] = False,
) -> None:
    """Predict vectors of correlated materials properties from composition: H-CLMP(T).

    Exit codes: 0 done; 1 a fault of hclmp itself, or a problem that `hclmp doctor` found;
    2 a mistake that the message says how to mend; 130 interrupted.
    """
    if quiet:
        logging.getLogger("hclmp").setLevel(logging.WARNING)


def _run(name: str, step: Callable[[], None]) -> None:
    """Run a step, noting date and duration beside it."""
    from hclmp.provenance import run_record

    with run_record(name):
        step()


def _scope(config: Config, fold: str | None) -> str | None:
    """The fold that a generator and its features belong to; None for one generator."""
    if not config.generator_per_fold:
        if fold is not None:
            raise UserError("--fold is for `dos.held_out: drop`; here one generator serves all")
        return None
    if fold is None:
        raise UserError("`dos.held_out: drop` trains one generator per fold: name it with --fold")
    return fold


@app.command("pull-dos")
def pull_dos(
    config: ConfigOption = paths.CONFIG,
    offline: Annotated[
        bool,
        typer.Option("--offline", envvar="HCLMP_OFFLINE", help="Use what was downloaded before."),
    ] = False,
) -> None:
    """Read and check the densities of states -> data/processed/dos.parquet."""
    if offline:
        os.environ["HCLMP_OFFLINE"] = "1"
    from hclmp.pipeline.steps.pull_dos import pull_dos as step

    settings = load_config(config)
    _run("pull-dos", lambda: step(settings, table=paths.DOS, record=paths.DOS_RECORD))


@app.command("prepare-targets")
def prepare_targets(config: ConfigOption = paths.CONFIG) -> None:
    """Read and check the measured properties -> data/processed/targets.parquet."""
    from hclmp.pipeline.steps.prepare_targets import prepare_targets as step

    settings = load_config(config)
    _run(
        "prepare-targets",
        lambda: step(settings, table=paths.TARGETS, record=paths.TARGETS_RECORD),
    )


@app.command("pretrain-gan")
def pretrain_gan(
    config: ConfigOption = paths.CONFIG, fold: OptionalFold = None, threads: Threads = 1
) -> None:
    """Train the generator of density of states -> results/gan/."""
    _set_threads(threads)
    from hclmp.pipeline.steps.pretrain_gan import pretrain_gan as step

    settings = load_config(config)
    # without a fold: of all DOS, for the final model
    scope = _scope(settings, fold) if fold or not settings.generator_per_fold else None
    gan = paths.Gan(scope)
    _run(
        "pretrain-gan" + (f".{scope}" if scope else ""),
        lambda: step(
            settings,
            dos=paths.DOS,
            generator=gan.generator,
            metrics=gan.metrics,
            history=gan.history,
            examples=gan.examples,
            fold=scope,
        ),
    )


@app.command("pretrain-encoder")
def pretrain_encoder(
    config: ConfigOption = paths.CONFIG, fold: OptionalFold = None, threads: Threads = 1
) -> None:
    """Train the encoder of H-CLMP(T) on the densities of states -> results/encoder/."""
    _set_threads(threads)
    from hclmp.pipeline.steps.pretrain_encoder import pretrain_encoder as step

    settings = load_config(config)
    if not settings.pretrains_encoder:
        raise UserError("no variant starts from a pretrained encoder in this configuration")
    # without a fold: on all DOS, for the final model
    scope = _scope(settings, fold) if fold or not settings.generator_per_fold else None
    files = paths.Encoder(scope)
    _run(
        "pretrain-encoder" + (f".{scope}" if scope else ""),
        lambda: step(
            settings,
            dos=paths.DOS,
            encoder=files.weights,
            history=files.history,
            fold=scope,
            threads=threads,
        ),
    )


@app.command("featurize")
def featurize(config: ConfigOption = paths.CONFIG, fold: OptionalFold = None) -> None:
    """Compute what every model sees of every sample -> results/features/."""
    _set_threads(1)
    from hclmp.pipeline.origins import generator_of
    from hclmp.pipeline.steps.featurize import featurize as step

    settings = load_config(config)
    scope = _scope(settings, fold)
    _run(
        "featurize" + (f".{scope}" if scope else ""),
        lambda: step(
            settings,
            targets=paths.TARGETS,
            generator=generator_of(settings, scope),
            features=paths.features(scope),
            fold=scope,
        ),
    )


@app.command("train")
def train(
    variant: Annotated[str, typer.Option("--variant", help="A variant of the configuration.")],
    folds: FoldsOption,
    config: ConfigOption = paths.CONFIG,
    threads: Threads = 1,
) -> None:
    """Train one variant on folds and predict their held-out samples -> results/predictions/."""
    _set_threads(threads)
    from hclmp.config import variant_settings
    from hclmp.pipeline.origins import encoder_of
    from hclmp.pipeline.steps.train import train as step

    settings = load_config(config)
    variant_settings(settings, variant)  # is there such a variant?
    features = {fold: paths.features(settings.scope_of(fold)) for fold in folds}
    others = f"+{len(features) - 1}" if len(features) > 1 else ""
    _run(
        f"train.{variant}.{folds[0]}{others}",
        lambda: step(
            settings,
            variant=variant,
            targets=paths.TARGETS,
            features=features,
            encoders={fold: encoder_of(settings, variant, fold) for fold in features},
            threads=threads,
        ),
    )


@app.command("aggregate")
def aggregate(config: ConfigOption = paths.CONFIG) -> None:
    """Pool the predictions of all folds to metrics and plots -> results/metrics/."""
    from hclmp.pipeline.steps.aggregate import aggregate as step

    settings = load_config(config)
    _run(
        "aggregate",
        lambda: step(settings, folder=paths.METRICS),
    )


@app.command("finalize")
def finalize(config: ConfigOption = paths.CONFIG, threads: Threads = 1) -> None:
    """Train the model for use on all samples -> results/final/."""
    _set_threads(threads)
    from hclmp.pipeline.origins import final_encoder_of, final_generator_of
    from hclmp.pipeline.steps.finalize import finalize as step

    settings = load_config(config)
    _run(
        "finalize",
        lambda: step(
            settings,
            targets=paths.TARGETS,
            encoder=final_encoder_of(settings),
            generator=final_generator_of(settings),
            metrics=paths.METRICS / "metrics.json",
            out=paths.Final(),
            threads=threads,
        ),
    )


@app.command("report")
def report(config: ConfigOption = paths.CONFIG) -> None:
    """Write the results as one page, which needs no network -> results/report.html."""
    from hclmp.pipeline.steps.report import report as step

    settings = load_config(config)
    _run("report", lambda: step(settings, page=paths.REPORT))


def _set_threads(threads: int) -> None:
    """Before numpy and torch are imported: their pools of threads take their size from this."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # what torch wants of cuBLAS if the same numbers are to come out of it every time
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


if __name__ == "__main__":
    main()
