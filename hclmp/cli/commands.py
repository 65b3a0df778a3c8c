"""The commands for people, beside the steps of a run; heavy imports wait for use."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from hclmp import __version__
from hclmp.pipeline.jobs import PROCESSED, RESULTS

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, for scripts, instead of a table.")
]


def predict(
    model: Annotated[Path, typer.Argument(help="The folder of a final model.")],
    formulas: Annotated[
        list[str] | None, typer.Argument(help="Compositions, such as Fe0.3Ti0.5W0.2.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV or Parquet with formulas, or with amounts of elements.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV or Parquet file to write; without it, print.")
    ] = None,
    formula_column: Annotated[
        str | None, typer.Option(help="The table's column of formulas; default: `formula`.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Predict compositions that nobody has made yet, with 90 % intervals and warnings."""
    from hclmp.cli.predict import predict as run

    run(
        model,
        formulas or [],
        table=table,
        out=out,
        formula_column=formula_column,
        as_json=as_json,
    )


def screen(
    model: Annotated[Path, typer.Argument(help="The folder of a final model.")],
    elements: Annotated[
        str, typer.Option(help="Elements to choose from, such as Fe,Co,W,Ti.", show_default=False)
    ],
    cations: Annotated[
        int, typer.Option(min=1, help="Exact number of these elements in each composition.")
    ] = 3,
    step: Annotated[
        float, typer.Option(help="Step of the fractions; each element has at least one step.")
    ] = 0.05,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Screen this number of grid points, drawn at random.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of --samples; default: 0.")] = None,
    maximize: Annotated[
        list[str] | None, typer.Option(help="A property to maximise; one or two goals in all.")
    ] = None,
    minimize: Annotated[list[str] | None, typer.Option(help="A property to minimise.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help='A condition, such as "alpha_1<0.2"; may be repeated.')
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of compositions to keep.")] = 20,
    rank_by: Annotated[
        str | None,
        typer.Option(
            help="improvement (expected; the default for one goal), probability (of surpassing the "
            "best measured value; the default for two), or predicted (value)."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV or Parquet file to write, with all properties.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rank compositions that nobody has made yet: which one to make next."""
    from hclmp.cli.screen import screen as run

    run(
        model,
        elements=_listed(elements),
        cations=cations,
        step=step,
        samples=samples,
        seed=seed,
        maximize=maximize or [],
        minimize=minimize or [],
        where=where or [],
        top=top,
        rank_by=rank_by,
        out=out,
        as_json=as_json,
    )


def doctor(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="The configuration; default: config/config.yaml, if it exists."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check what hclmp needs here, and say how to repair what is wrong."""
    from hclmp.cli.doctor import examine

    if not examine(config, as_json=as_json):
        raise typer.Exit(1)


def results(as_json: JsonOption = False) -> None:
    """Show the table of results of the run in this directory."""
    from hclmp.cli.results import show

    metrics = RESULTS / "metrics"
    show(
        metrics / "summary.csv",
        metrics / "metrics.json",
        PROCESSED / "targets.json",
        as_json=as_json,
    )


def new(
    directory: Annotated[Path, typer.Argument(help="The working directory to create.")],
    targets: Annotated[Path, typer.Option(help="CSV or Parquet: formulas and properties.")],
    dos: Annotated[
        Path | None, typer.Option(help="CSV or Parquet: formulas and densities of states.")
    ] = None,
    left_out: Annotated[
        str, typer.Option(help="Elements dropped from the compositions, comma-separated.")
    ] = "",
    log10: Annotated[
        str,
        typer.Option(help="Columns learned as log10, comma-separated; `auto`: the suggested ones."),
    ] = "",
    formula_column: Annotated[str, typer.Option(help="The column of formulas.")] = "formula",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Accept blank property cells.")
    ] = False,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Number of cross-validation folds; default: one per system."),
    ] = None,
    elements_per_system: Annotated[
        int, typer.Option(min=1, help="Number of elements of a held-out system.")
    ] = 3,
    min_samples: Annotated[
        int, typer.Option(min=1, help="Smallest number of compositions of a held-out system.")
    ] = 5,
) -> None:
    """Create a working directory for your own table, and say how to run it."""
    from hclmp.cli.new import new_directory

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


def systems(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV or Parquet with a column of formulas; the folder of the printed plates; or "
            "the paper's data.zip or its folder, whose own held-out systems are written."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The sheet to write.")] = Path("config/systems.tsv"),
    left_out: Annotated[
        str, typer.Option(help="Elements dropped from the compositions, comma-separated.")
    ] = "",
    formula_column: Annotated[str, typer.Option(help="The column of formulas.")] = "formula",
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Number of cross-validation folds; default: one per system."),
    ] = None,
    elements_per_system: Annotated[
        int, typer.Option(min=1, help="Number of elements of a held-out system.")
    ] = 3,
    min_samples: Annotated[
        int, typer.Option(min=1, help="Smallest number of compositions of a system.")
    ] = 5,
) -> None:
    """Write the sheet of held-out systems of a table, of plates, or of the paper's archive.

    It reads only compositions: rows without any property count too (`hclmp new` leaves them out).
    """
    from hclmp.cli.systems import write_systems

    write_systems(
        table,
        out,
        left_out=_listed(left_out),
        formula_column=formula_column,
        folds=folds,
        elements_per_system=elements_per_system,
        min_samples=min_samples,
    )


def sources() -> None:
    """List the sources of data, with licence, citation and how to get them."""
    from hclmp.cli.sources import show_sources

    show_sources()


def fetch(
    name: Annotated[str, typer.Argument(help="A name from the list of `hclmp sources`.")],
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("data/raw"),
) -> None:
    """Download a file and verify its hash, or say how to fetch it by hand."""
    from hclmp.sources.downloads import fetch as download

    download(name, out)


def import_generator(
    file: Annotated[Path, typer.Argument(help="The published state dict, such as FILE.pt.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("generator.safetensors"),
) -> None:
    """Convert the published generator of DOS into one for `gan.source: pretrained`."""
    from hclmp.models.generator.published import import_generator as read

    generator = read(file, out)
    grid = generator.grid
    print(
        f"{out}: generator of {grid.n} standardised DOS values from {grid.start:g} to "
        f"{grid.stop:g} {grid.unit}, for compositions of {len(generator.vocabulary)} elements: "
        f"{' '.join(generator.vocabulary)}"
    )


def config_docs(
    root: Annotated[Path, typer.Option(help="The checkout of hclmp.")] = Path(),
) -> None:
    """Generate the JSON schema and config/README.md from the types of the configuration."""
    from hclmp.cli.docs import write_docs

    write_docs(root)


def version() -> None:
    """Print the version."""
    print(__version__)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


COMMANDS: dict[str, Callable[..., None]] = {
    "predict": predict,
    "screen": screen,
    "results": results,
    "doctor": doctor,
    "new": new,
    "systems": systems,
    "sources": sources,
    "fetch": fetch,
    "import-generator": import_generator,
    "config-docs": config_docs,
    "version": version,
}
