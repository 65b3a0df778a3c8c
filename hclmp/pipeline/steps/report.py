"""Step ``report``: the results as one page that anyone can open, send and keep."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from hclmp.config import Config
from hclmp.data.folds import fold_names, read_systems
from hclmp.data.tables import read_predictions
from hclmp.errors import UserError
from hclmp.evaluation.report.page import render
from hclmp.evaluation.report.run import Run
from hclmp.files import write_text
from hclmp.pipeline.origins import check_metrics, report_inputs
from hclmp.pipeline.slices import report_slice
from hclmp.provenance import provenance

log = logging.getLogger(__name__)
MAKERS = {"targets": "prepare-targets", "dos": "pull-dos", "gan": "pretrain-gan"} | dict.fromkeys(
    ("predictions", "history"), "train"
)


def report(config: Config, *, page: Path) -> None:
    """Write the page of results.

    Args:
        config: the resolved configuration.
        page: the HTML file; it holds all that it shows and asks the network for nothing.

    Raises:
        UserError: a file of an earlier step is missing, or the metrics are those of another
            configuration or of other predictions.
    """
    files = report_inputs(config)
    for name, file in files.items():
        if not file.is_file():
            command = MAKERS.get(name.split("/")[0].split(" ")[0], "aggregate")
            raise UserError(f"{file}: no such file; `hclmp {command}` makes it")
    check_metrics(config, files["metrics.json"])
    origin = provenance("report", config=report_slice(config), inputs=files)
    write_text(page, render(_read(config, files), origin))
    log.info("%s: %.1f MB", page, page.stat().st_size / 1e6)


def _read(config: Config, files: dict[str, Path]) -> Run:
    folds = fold_names(config)
    tables = {
        v: [read_predictions(files[f"predictions/{v}/{fold}"]) for fold in folds]
        for v in config.variants
    }
    first = next(iter(tables.values()))[0]
    neural = [v for v, settings in config.variants.items() if settings.model == "hclmp"]
    examples = files.get("gan examples")
    return Run(
        config=config,
        properties=first.properties,
        frames={v: pd.concat([t.frame for t in ts], ignore_index=True) for v, ts in tables.items()},
        covariances={
            v: covariances
            for v, ts in tables.items()
            if (covariances := [t.covariance for t in ts if t.covariance is not None])
        },
        histories={
            v: {fold: pd.read_csv(files[f"history/{v}/{fold}"]) for fold in folds} for v in neural
        },
        summary=pd.read_csv(files["summary.csv"]),
        by_system=pd.read_csv(files["by_system.csv"]),
        simulated=first.simulated,
        targets=_json(files["targets"]),
        dos=_json(files["dos"]) if "dos" in files else None,
        gan={n.removeprefix("gan/"): _json(f) for n, f in files.items() if n.startswith("gan/")},
        examples=None if examples is None else pd.read_csv(examples),
        sheet=read_systems(config.systems) if config.split == "systems" else {},
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
