"""The command line: one command per step, and a few for people; heavy imports wait for use."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from hclmp import __version__, paths
from hclmp.config import Config, load_config
from hclmp.errors import UserError

app = typer.Typer(
    name="hclmp",
    help="Predict vectors of correlated materials properties from composition: H-CLMP(T).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
ConfigOption = Annotated[
    Path, typer.Option("--config", help="The configuration, resolved (JSON) or as written (YAML).")
]
FoldOption = Annotated[str, typer.Option("--fold", help="A fold of the sheet of systems.")]
OptionalFold = Annotated[
    str | None,
    typer.Option("--fold", help="With `dos.held_out: drop`: the fold whose systems are not seen."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of the computation.")]


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    _log_to_stderr()
    try:
        app()
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
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


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


def _features(config: Config) -> dict[str, Path]:
    """Fold -> the features file of its models."""
    from hclmp.folds import fold_names

    return {
        fold: paths.features(fold if config.generator_per_fold else None)
        for fold in fold_names(config)
    }


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
    from hclmp.steps.pull_dos import pull_dos as step

    settings = load_config(config)
    _run("pull-dos", lambda: step(settings, table=paths.DOS, record=paths.DOS_RECORD))


@app.command("prepare-targets")
def prepare_targets(config: ConfigOption = paths.CONFIG) -> None:
    """Read and check the measured properties -> data/processed/targets.parquet."""
    from hclmp.steps.prepare_targets import prepare_targets as step

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
    from hclmp.steps.pretrain_gan import pretrain_gan as step

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


@app.command("featurize")
def featurize(config: ConfigOption = paths.CONFIG, fold: OptionalFold = None) -> None:
    """Compute what every model sees of every sample -> results/features/."""
    _set_threads(1)
    from hclmp.origins import generator_of
    from hclmp.steps.featurize import featurize as step

    settings = load_config(config)
    scope = _scope(settings, fold)
    _run(
        "featurize" + (f".{scope}" if scope else ""),
        lambda: step(
            settings,
            targets=paths.TARGETS,
            generator=generator_of(settings, scope),
            features=paths.features(scope),
        ),
    )


@app.command("train")
def train(
    variant: Annotated[str, typer.Option("--variant", help="A variant of the configuration.")],
    fold: FoldOption,
    config: ConfigOption = paths.CONFIG,
    threads: Threads = 1,
) -> None:
    """Train one variant on one fold and predict its held-out samples -> results/predictions/."""
    _set_threads(threads)
    from hclmp.steps.train import train as step

    settings = load_config(config)
    _run(
        f"train.{variant}.{fold}",
        lambda: step(
            settings,
            variant=variant,
            fold=fold,
            targets=paths.TARGETS,
            features=paths.features(fold if settings.generator_per_fold else None),
            out=paths.Trained(variant, fold),
            threads=threads,
        ),
    )


@app.command("aggregate")
def aggregate(config: ConfigOption = paths.CONFIG) -> None:
    """Pool the predictions of all folds to metrics and plots -> results/metrics/."""
    from hclmp.steps.aggregate import aggregate as step

    settings = load_config(config)
    _run(
        "aggregate",
        lambda: step(
            settings, targets=paths.TARGETS, features=_features(settings), folder=paths.METRICS
        ),
    )


@app.command("finalize")
def finalize(config: ConfigOption = paths.CONFIG, threads: Threads = 1) -> None:
    """Train the model for use on all samples -> results/final/."""
    _set_threads(threads)
    from hclmp.origins import final_generator_of
    from hclmp.steps.finalize import finalize as step

    settings = load_config(config)
    _run(
        "finalize",
        lambda: step(
            settings,
            targets=paths.TARGETS,
            features=_features(settings),
            generator=final_generator_of(settings),
            metrics=paths.METRICS / "metrics.json",
            out=paths.Final(),
            threads=threads,
        ),
    )


@app.command("report")
def report(config: ConfigOption = paths.CONFIG) -> None:
    """Write the results as one page, which needs no network -> results/report.html."""
    from hclmp.steps.report import report as step

    settings = load_config(config)
    _run("report", lambda: step(settings, page=paths.REPORT))


@app.command("predict")
def predict(
    model: Annotated[Path, typer.Argument(help="The folder of a final model.")],
    formulas: Annotated[
        list[str] | None, typer.Argument(help="Compositions, such as Fe0.3Ti0.5W0.2.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV or Parquet with a column of formulas.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV or Parquet to write; printed without it.")
    ] = None,
    formula_column: Annotated[str, typer.Option(help="The column of formulas.")] = "formula",
) -> None:
    """Predict compositions that nobody has made yet, with 90 % intervals and warnings."""
    from hclmp.prediction import predict as run

    run(model, formulas or [], table=table, out=out, formula_column=formula_column)


@app.command("results")
def results() -> None:
    """Show the table of results of the run in this directory."""
    from hclmp.results import show

    show(paths.METRICS / "summary.csv", paths.METRICS / "metrics.json", paths.TARGETS_RECORD)


@app.command("new")
def new(
    directory: Annotated[Path, typer.Argument(help="The working directory to make.")],
    targets: Annotated[Path, typer.Option(help="CSV or Parquet: formulas and properties.")],
    dos: Annotated[
        Path | None, typer.Option(help="CSV or Parquet: formulas and densities of states.")
    ] = None,
    left_out: Annotated[
        str, typer.Option(help="Elements dropped from the compositions, comma-separated.")
    ] = "",
    log10: Annotated[
        str, typer.Option(help="Columns learned as log10, by commas; `auto`: those suggested.")
    ] = "",
    formula_column: Annotated[str, typer.Option(help="The column of formulas.")] = "formula",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Accept blank cells of properties.")
    ] = False,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Hold systems out in so many groups.")
    ] = None,
    elements_per_system: Annotated[int, typer.Option(min=1, help="Size of held-out systems.")] = 3,
    min_samples: Annotated[
        int, typer.Option(min=1, help="Fewest compositions of such a system.")
    ] = 5,
) -> None:
    """Make a working directory for your own table, and say how to run it."""
    from hclmp.new import new_directory

    new_directory(
        directory,
        targets=targets,
        dos=dos,
        left_out=_listed(left_out),
        log10=_listed(log10),
        formula_column=formula_column,
        allow_missing=allow_missing,
        folds=folds,
        elements_per_system=elements_per_system,
        min_samples=min_samples,
    )


@app.command("systems")
def systems(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV or Parquet with a column of formulas; the folder of the printed plates; or "
            "the paper's data.zip or its folder, whose own held-out systems are written."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The sheet to write.")] = Path("config/systems.tsv"),
    left_out: Annotated[str, typer.Option(help="Elements dropped, comma-separated.")] = "",
    formula_column: Annotated[str, typer.Option(help="The column of formulas.")] = "formula",
    folds: Annotated[int | None, typer.Option(min=2, help="Group them in so many folds.")] = None,
    elements_per_system: Annotated[int, typer.Option(min=1, help="Size of the systems.")] = 3,
    min_samples: Annotated[int, typer.Option(min=1, help="Fewest compositions of a system.")] = 5,
) -> None:
    """Write the sheet of held-out systems of a table, of plates, or of the paper's archive.

    It reads compositions alone: rows without any property count too (`hclmp new` leaves them out).
    """
    from hclmp.sheet import write_systems

    write_systems(
        table,
        out,
        left_out=_listed(left_out),
        formula_column=formula_column,
        folds=folds,
        elements_per_system=elements_per_system,
        min_samples=min_samples,
    )


@app.command("sources")
def sources() -> None:
    """List the sources of data: what they are, licence, citation, how to get them."""
    from hclmp.sources.downloads import show_sources

    show_sources()


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A name that `hclmp sources` lists.")],
    out: Annotated[Path, typer.Option(help="The folder it goes to.")] = Path("data/raw"),
) -> None:
    """Download a file and verify its hash, or say how to fetch it by hand."""
    from hclmp.sources.downloads import fetch as download

    download(name, out)


@app.command("import-generator")
def import_generator(
    file: Annotated[Path, typer.Argument(help="The published state dict, such as FILE.pt.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("generator.safetensors"),
) -> None:
    """Turn the published generator of DOS into one for `gan.source: pretrained`."""
    from hclmp.models.published_generator import import_generator as read

    generator = read(file, out)
    grid = generator.grid
    print(
        f"{out}: generator of {grid.n} standardised DOS values from {grid.start:g} to "
        f"{grid.stop:g} {grid.unit}, for compositions of {len(generator.vocabulary)} elements: "
        f"{' '.join(generator.vocabulary)}"
    )


@app.command("config-docs")
def config_docs(
    root: Annotated[Path, typer.Option(help="The checkout of hclmp.")] = Path(),
) -> None:
    """Write what is generated from the configuration's types: JSON schema and config/README.md."""
    from hclmp.config_docs import write_docs

    write_docs(root)


@app.command("version")
def version() -> None:
    """Print the version."""
    print(__version__)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _set_threads(threads: int) -> None:
    """Before numpy and torch are imported: their pools of threads take their size from this."""
    os.environ["OMP_NUM_THREADS"] = str(threads)


if __name__ == "__main__":
    main()
