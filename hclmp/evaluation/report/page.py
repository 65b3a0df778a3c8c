"""The page: one HTML file that holds its numbers, styles, scripts and plotting library."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from hclmp import CITATION, __version__
from hclmp.evaluation.coverage import coverage_at, extremes
from hclmp.evaluation.metrics import LINEAR
from hclmp.evaluation.ratio import FEWEST_SYSTEMS
from hclmp.evaluation.report.data import MOST_CORRELATED, has_map, page_data
from hclmp.evaluation.report.run import Run
from hclmp.evaluation.report.words import about_dos, findings, what_is_given, what_is_held_out
from hclmp.provenance import Provenance

HERE = Path(__file__).parent
LIBRARIES = ("numpy", "pandas", "scikit-learn", "torch")
HEADLINE = ["mae_std", "mae_std_certain", "r2", "coverage90", "width90_std", "nll", "nll_joint"]
TABULATED = (0.5, 0.8, 0.9, 0.95)  # levels in the table of calibration
MOST_PROPERTIES = 200  # properties in the table of properties


def render(run: Run, origin: Provenance) -> str:
    """The page as text, with its origin. What the user named (properties, files) is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "sort_keys": True,
        "separators": (",", ":"),
        "allow_nan": False,
    }
    environment.filters |= {
        "fixed": _fixed,
        "short": _short,
        "interval": _interval,
        "percent": _percent,
    }
    data = page_data(run)
    return environment.get_template("page.html").render(
        run=run,
        data=data,
        findings=findings(run),
        held_out=what_is_held_out(run),
        headline=_headline(run),
        by_property=_by_property(run),
        calibration=_calibration(run),
        levels=TABULATED,
        ablation=_ablation(run),
        details=_details(run, data),
        given=what_is_given(run),
        dos_words=about_dos(run),
        most_correlated=MOST_CORRELATED,
        fewest_systems=FEWEST_SYSTEMS,
        provenance=_provenance(run, origin),
        embedded={"provenance": origin},
        citation=CITATION,
        plotly=get_plotlyjs(),
        css=(HERE / "page.css").read_text(),
        scripts=[(HERE / name).read_text() for name in ("table.js", "plots.js")],
    )


def _headline(run: Run) -> list[dict[str, Any]]:
    """A row per variant, best first, beside the best baseline."""
    rows = []
    for variant, row in run.overall.iterrows():
        name = str(variant)
        rows.append(
            {"name": name, "what": run.describe(name), "comparison": run.comparisons.get(name)}
            | {metric: row.get(metric, float("nan")) for metric in HEADLINE}
        )
    return rows


def _by_property(run: Run) -> list[dict[str, Any]]:
    """A row per property: metrics of the shown variant, and the error of the best baseline.

    ``linear`` has those in property units of a property that is learned as log10.
    """
    table, other = run.by_property, run.baseline

    def metrics(prop: str, end: str = "") -> dict[str, Any]:
        found = {m: table[m + end][(run.shown, prop)] for m in ("mae", "r2", "width90")}
        return found | {"baseline": table["mae" + end][(other, prop)] if other else float("nan")}

    return [
        {"name": p.name, "unit": p.learned_unit}
        | {m: table[m][(run.shown, p.name)] for m in ("mae_std", "coverage90")}
        | metrics(p.name)
        | {"linear": {"unit": p.unit} | metrics(p.name, LINEAR) if p.transform == "log10" else None}
        for p in run.properties[:MOST_PROPERTIES]
    ]


def _calibration(run: Run) -> list[dict[str, Any]]:
    """A row per variant, best first: coverage at some levels and of the extreme labels, width."""
    rows = []
    for variant, row in run.overall.iterrows():
        name = str(variant)
        frame = run.frames[name].dropna(subset=["y_true"])
        ends = {part.name: part.coverage for part in extremes(frame)}
        rows.append(
            {"name": name, "observed": coverage_at(frame, TABULATED), "width": row["width90_std"]}
            | {end: ends.get(end, float("nan")) for end in ("lowest", "highest")}
        )
    return rows


def _ablation(run: Run) -> list[dict[str, Any]]:
    """The H-CLMP variants beside the first: what differs, and their errors relative to its."""
    rows, first = [], run.config.variants[run.shown]
    for variant in run.config.neural[1:]:
        settings = run.config.variants[variant]
        parts = []
        if settings.transfer != first.transfer:
            parts.append(f"{'with' if settings.transfer else 'without'} the density of states")
        if changes := run.changes(variant):
            parts.append(changes)
        what = "; ".join(parts) or "the same settings"
        error, ratio = run.overall["mae_std"][variant], run.ratio(variant, run.shown)
        rows.append({"name": variant, "what": what, "mae_std": error, "ratio": ratio})
    return rows


def _details(run: Run, data: dict[str, Any]) -> dict[str, Any]:
    """How many systems are shown in full, and how many of them have a map."""
    shown = data["details"]
    thinned = [s for s, d in shown.items() if len(d["formulas"]) < d["of"]]
    all_systems = run.frames[run.shown]["system"].unique()
    return {
        "shown": len(shown),
        "of": len(all_systems),
        "with_map": sum(map(has_map, shown)),
        "of_with_map": sum(has_map(str(s)) for s in all_systems),
        "thinned": len(thinned),
        "compositions": max((len(shown[s]["formulas"]) for s in thinned), default=0),
    }


def _provenance(run: Run, origin: Provenance) -> dict[str, Any]:
    """What made the page and the results in it."""
    tables = {"targets": run.targets} | ({"dos": run.dos} if run.dos else {})
    return {
        "version": __version__,
        "source": origin["source"],
        "inputs": origin["inputs"],
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in LIBRARIES}
        | {"plotly.js": get_plotlyjs_version()},
        "tables": {
            name: {
                "notes": record["facts"].get("notes", []),
                "facts": json.dumps(record["facts"], indent=1, sort_keys=True, ensure_ascii=False),
                **{
                    key: record["facts"].get(key)
                    for key in ("source", "file", "sha256", "citation", "licence", "license")
                },
            }
            for name, record in tables.items()
        },
        "config": yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False),
        "sheet": "system\tfold\n"
        + "".join(f"{s}\t{fold}\n" for fold, systems in run.sheet.items() for s in systems)
        if run.sheet
        else "",
    }


def _fixed(value: float, digits: int = 3) -> str:
    """A number with so many decimals; a dash where there is none."""
    return "–" if value != value else f"{value:.{digits}f}"


def _percent(share: float) -> str:
    """A share in percent; a dash where there is none."""
    return "–" if share != share else f"{100 * share:.0f} %"


def _interval(ends: tuple[float | None, float | None]) -> str:
    """The ends of an interval, or that there is none."""
    low, high = ends
    if low is None or high is None or low != low:
        return "no interval"
    return f"{_fixed(low, 2)} to {_fixed(high, 2)}"


def _short(value: float | None) -> str:
    """A number with three significant digits; a dash where there is none."""
    return "–" if value is None or value != value else f"{value:#.3g}".rstrip(".")
