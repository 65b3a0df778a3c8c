"""A new key of the configuration is stated once; Snakemake and DVC both rerun what it touches."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.workflow.conftest import (
    ROOT,
    environment,
    planned,
    snakemake,
    succeeded,
    write_config,
)

KEY = '    extra: int = 0\n    """A new key."""\n'
TINY: dict[str, Any] = {
    "targets": {"source": "demo", "limit": 120},
    "dos": {"source": "none"},
    "variants": ["ridge", "mean"],
}


def test_a_new_key_reruns_what_it_touches(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    for folder in ("hclmp", "workflow", "config"):
        shutil.copytree(ROOT / folder, root / folder)
    shutil.copy(ROOT / "environment.yml", root)
    module = root / "hclmp/config/models.py"
    text = module.read_text()
    start = text.index('    """The baselines that every report')
    end = text.index("\n\n", start) + 2
    module.write_text(text[:end] + KEY + text[end:])
    docs = [sys.executable, "-m", "hclmp.cli.main", "config-docs"]
    subprocess.run(docs, cwd=root, env=environment(root), check=True)

    run = write_config(tmp_path / "run", TINY)
    succeeded(snakemake(run, root=root))
    assert planned(run, root=root) == {}
    write_config(run, {**TINY, "baselines": {"extra": 1}})
    rerun = {"train_baseline": 4, "aggregate": 1, "report": 1, "all": 1}
    assert planned(run, root=root) == rerun

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    watching = [n for n, s in stages.items() if "baselines" in s["params"][0]["config/config.yaml"]]
    assert {"train", "report"} <= set(watching)
