"""The commands for people, beside the steps of a run: their arguments, options and help texts."""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from hclmp import __version__

Command = Callable[..., None]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, for scripts, instead of a table.")
]
LeftOut = Annotated[
    str, typer.Option(help="Elements dropped from the compositions, comma-separated.")
]
FormulaColumn = Annotated[str, typer.Option(help="The column of formulas.")]
Folds = Annotated[
    int | None,
    typer.Option(min=2, help="Number of cross-validation folds; default: one per system."),
]
ElementsPerSystem = Annotated[
    int, typer.Option(min=1, help="Number of elements of a held-out system.")
]
MinSamples = Annotated[
    int, typer.Option(min=1, help="Smallest number of compositions of a held-out system.")
]


def _lazy(declared: Command) -> Command:
    """A command that the function of the same name in ``hclmp.cli.NAME`` carries out.

    The module is imported only then: it brings torch and others, which take seconds.
    """

    @wraps(declared)
    def command(**options: Any) -> None:
        name = declared.__name__
        getattr(import_module(f"hclmp.cli.{name}"), name)(**options)

    return command


@_lazy
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


@_lazy
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


@_lazy
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


@_lazy
def results(as_json: JsonOption = False) -> None:
    """Show the table of results of the run in this directory."""


@_lazy
def new(
    directory: Annotated[Path, typer.Argument(help="The working directory to create.")],
    targets: Annotated[Path, typer.Option(help="CSV or Parquet: formulas and properties.")],
    dos: Annotated[
        Path | None, typer.Option(help="CSV or Parquet: formulas and densities of states.")
    ] = None,
    left_out: LeftOut = "",
    log10: Annotated[
        str,
        typer.Option(help="Columns learned as log10, comma-separated; `auto`: the suggested ones."),
    ] = "",
    formula_column: FormulaColumn = "formula",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Accept blank property cells.")
    ] = False,
    folds: Folds = None,
    elements_per_system: ElementsPerSystem = 3,
    min_samples: MinSamples = 5,
) -> None:
    """Create a working directory for your own table, and say how to run it."""


@_lazy
def systems(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV or Parquet with a column of formulas; the folder of the printed plates; or "
            "the paper's data.zip or its folder, whose own held-out systems are written."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The sheet to write.")] = Path("config/systems.tsv"),
    left_out: LeftOut = "",
    formula_column: FormulaColumn = "formula",
    folds: Folds = None,
    elements_per_system: ElementsPerSystem = 3,
    min_samples: MinSamples = 5,
) -> None:
    """Write the sheet of held-out systems of a table, of plates, or of the paper's archive.

    It reads only compositions: rows without any property count too (`hclmp new` leaves them out).
    """


@_lazy
def sources() -> None:
    """List the sources of data, with licence, citation and how to get them."""


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


COMMANDS: tuple[Command, ...] = (
    *(predict, screen, results, doctor, new, systems, sources, fetch, import_generator),
    *(config_docs, version),
)
