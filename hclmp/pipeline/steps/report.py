"""Step ``report``: the results as one page that anyone can open, send and keep."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from hclmp.config import Config
from hclmp.data.folds import fold_names, read_systems
from hclmp.data.tables import read_predictions
from hclmp.evaluation.report.page import render
from hclmp.evaluation.report.run import Run
from hclmp.files import write_text
from hclmp.pipeline.checks import check_inputs
from hclmp.pipeline.jobs import Files, Job
from hclmp.pipeline.scopes import evaluation_scopes

log = logging.getLogger(__name__)


def report(config: Config, job: Job) -> None:
    """Write the page of results, which holds all that it shows and asks the network for nothing.

    Raises:
        UserError: a file of an earlier step is missing, or belongs to another run.
    """
    check_inputs(job)
    page = job.outputs["page"]
    write_text(page, render(_read(config, job.inputs), job.provenance()))
    log.info("%s: %.1f MB", page, page.stat().st_size / 1e6)


def _read(config: Config, files: Files) -> Run:
    folds = fold_names(config)
    tables = {
        v: [read_predictions(files[f"predictions/{v}/{fold}"]) for fold in folds]
        for v in config.variants
    }
    first = next(iter(tables.values()))[0]
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
            v: {fold: pd.read_csv(files[f"history/{v}/{fold}"]) for fold in folds}
            for v in config.neural
        },
        summary=pd.read_csv(files["summary"]),
        by_system=pd.read_csv(files["by_system"]),
        simulated=first.simulated,
        targets=_json(files["targets"]),
        dos=_json(files["dos"]) if "dos" in files else None,
        gan={
            scope[0] if scope else "all": _json(files["/".join(("gan/metrics", *scope))])
            for scope in (evaluation_scopes(config) if config.pretrains else [])
        },
        own_dos=_json(files["metrics"]).get("own_dos"),
        examples=pd.read_csv(files["gan/examples"]) if config.pretrains else None,
        sheet=read_systems(config.systems) if config.split == "systems" else {},
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
