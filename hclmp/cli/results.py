"""The table of results on the terminal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from hclmp.cli.terminal import note, say, show_table
from hclmp.errors import UserError
from hclmp.evaluation.ratio import FEWEST_SYSTEMS
from hclmp.evaluation.verdict import Comparison
from hclmp.pipeline.jobs import PROCESSED, RESULTS

METRICS = ("mae_std", "r2", "coverage90", "width90_std", "nll")


def results(as_json: bool) -> None:
    """Print the headline of a finished run: one line per variant, best first.

    Below it stands what became of the rows of the table (merged, not used), from the record that
    ``prepare-targets`` wrote. JSON has the same, and every metric.

    Raises:
        UserError: there are no results here.
    """
    summary, metrics = (RESULTS / "metrics" / name for name in ("summary.csv", "metrics.json"))
    if not (summary.is_file() and metrics.is_file()):
        raise UserError(f"{summary}: no results here yet; `snakemake --cores all` makes them")
    about = json.loads(metrics.read_text())
    notes = _notes(PROCESSED / "targets.json")
    if as_json:
        print(json.dumps({k: v for k, v in about.items() if k != "provenance"} | {"notes": notes}))
        return
    if "comparisons" not in about:
        raise UserError(f"{metrics}: of an earlier version; `hclmp aggregate` makes it again")
    comparisons = {v: Comparison.from_json(c) for v, c in about["comparisons"].items()}
    overall = pd.read_csv(summary).query("property == 'all'")
    wide = overall.pivot(index="variant", columns="metric", values="value")
    show_table(_table(wide, comparisons, about, caption=str(summary)))
    if (shown := comparisons.get(about["shown"])) is not None:
        say(shown.verdict()[0])
    for line in notes:
        note(line)


def _table(
    metrics: pd.DataFrame,
    comparisons: Mapping[str, Comparison],
    about: Mapping[str, Any],
    *,
    caption: str,
) -> Table:
    """A row per variant, best first; ``metrics`` has a row per variant and a column per metric."""
    data = "simulated" if about["simulated"] else "measured"
    dos = about["dos_of_held_out_systems"]
    if (own := about.get("own_dos")) is not None:
        dos += f" ({own} of {about['n']} samples were given their own computed DOS)"
    table = Table(
        title=f"{about['n']} {data} held-out samples, {len(about['properties'])} properties",
        caption="mae_std: mean absolute error over the standard deviation of the training labels\n"
        "r2: of logarithms, where a property is learned as one; the mean over the properties\n"
        "coverage90: share of labels in the 90 % interval; width90_std: its width, as mae_std\n"
        "nll: negative log-likelihood of a standardised label\n"
        f"DOS of held-out systems: {dos}. {caption}",
    )
    table.add_column("variant")
    for name in METRICS:
        table.add_column(name, justify="right")
    if comparisons:
        interval = " (95 % interval)" if about["systems"] >= FEWEST_SYSTEMS else ""
        table.add_column(f"mae_std / baseline{interval}", justify="right")
        table.add_column("best baseline")
    for variant, row in metrics.sort_values("mae_std").iterrows():
        cells = [f"{row[name]:.3f}" for name in METRICS]
        if (found := comparisons.get(str(variant))) is not None:
            cells += (
                ["1", "itself"] if found.baseline == variant else [_ratio(found), found.against]
            )
        table.add_row(str(variant), *cells)
    return table


def _notes(targets_record: Path) -> list[str]:
    if not targets_record.is_file():
        return []
    notes: list[str] = json.loads(targets_record.read_text())["facts"]["notes"]
    return notes


def _ratio(found: Comparison) -> str:
    interval = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
    return f"{found.ratio:.3f}{interval}"
