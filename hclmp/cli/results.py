"""The table of results on the terminal."""

import json
from pathlib import Path

import pandas as pd
from rich.table import Table

from hclmp.cli.terminal import note, show_table
from hclmp.errors import UserError
from hclmp.evaluation.ratio import FEWEST_SYSTEMS, too_few
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
    overall = pd.read_csv(summary).query("property == 'all'")
    wide = overall.pivot(index="variant", columns="metric", values="value")
    data = "simulated" if about["simulated"] else "measured"
    table = Table(
        title=f"{about['n']} {data} held-out samples, {len(about['properties'])} properties",
        caption="mae_std: mean absolute error over the standard deviation of the training labels\n"
        "r2: of logarithms, where a property is learned as one; the mean over the properties\n"
        "coverage90: share of labels in the 90 % interval; width90_std: its width, as mae_std\n"
        "nll: negative log-likelihood of a standardised label\n"
        f"DOS of held-out systems: {about['dos_of_held_out_systems']}. {summary}",
    )
    baseline = next((v for v in ("extra_trees", "ridge", "mean") if v in wide.index), None)
    table.add_column("variant")
    for name in METRICS:
        table.add_column(name, justify="right")
    if baseline:
        interval = " (95 % interval)"
        if about["systems"] < FEWEST_SYSTEMS:
            interval, table.caption = "", f"{too_few(about['systems'])}\n{table.caption}"
        table.add_column(f"mae_std / {baseline}{interval}", justify="right")
    for variant, row in wide.sort_values("mae_std").iterrows():
        cells = [f"{row[name]:.3f}" for name in METRICS]
        if baseline:
            cells.append(
                "1"
                if variant == baseline
                else _ratio(row, float(wide["mae_std"][baseline]), baseline)
            )
        table.add_row(str(variant), *cells)
    show_table(table)
    for line in notes:
        note(line)


def _notes(targets_record: Path) -> list[str]:
    if not targets_record.is_file():
        return []
    notes: list[str] = json.loads(targets_record.read_text())["facts"]["notes"]
    return notes


def _ratio(row: "pd.Series[float]", reference: float, baseline: str) -> str:
    low, high = (row.get(f"mae_std_vs_{baseline}_{end}") for end in ("low", "high"))
    interval = "" if pd.isna(low) else f" ({low:.3f} to {high:.3f})"
    return f"{row['mae_std'] / reference:.3f}{interval}"
