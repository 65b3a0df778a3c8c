"""What the critic is worth: the generator with it, without it, and with the critic alone.

    python benchmarks/critic.py PHONON_DOS.parquet FOLDER --seeds 0 1 2

Each setting and seed trains a generator on four fifths of the systems and measures it on a tenth.
The seed also divides the systems.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

SETTINGS: dict[str, dict[str, Any]] = {
    "critic, mean error and energy score": {"critic_steps": 2},
    "mean error and energy score": {"critic_steps": 0},
    "critic alone (the paper)": {"critic_steps": 2, "mean_weight": 0},
    "critic alone, without memory": {"critic_steps": 2, "mean_weight": 0, "memory": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    rows = [
        {"setting": name, "seed": seed, **measure(given.table, given.folder, name, seed)}
        for seed in given.seeds
        for name in SETTINGS
    ]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.3f"))
    print(table.drop(columns="seed").groupby("setting", sort=False).mean().round(3).to_markdown())


def measure(table: Path, folder: Path, name: str, seed: int) -> dict[str, float]:
    """Train one generator in a directory of its own, unless it is there; its metrics."""
    run = folder / f"{list(SETTINGS).index(name)}-{seed}"
    metrics = run / "results/gan/metrics.json"
    if not metrics.is_file():
        config = {
            "dos": {
                "source": "table",
                "path": str(table.resolve()),
                "energies": {"start": -300, "stop": 1000, "n": 66, "unit": "1/cm"},
            },
            "gan": {"seed": seed, **SETTINGS[name]},
            "variants": ["hclmp_t"],
            "encoder": {"epochs": 0},
            "split": "random",
        }
        (run / "config").mkdir(parents=True, exist_ok=True)
        (run / "config/config.yaml").write_text(yaml.safe_dump(config))
        for step in ("pull-dos", "pretrain-gan"):
            command = [
                sys.executable,
                "-m",
                "hclmp.cli.main",
                step,
                "--config",
                "config/config.yaml",
            ]
            subprocess.run(command, cwd=run, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = json.loads(metrics.read_text())
    return {
        "MAE": found["mae_scaled"]["generator"],
        "of the training median": found["mae_scaled"]["training_median"],
        "energy score": found["energy_score_scaled"]["generator"],
        "spread / residual": found["spread_to_residual"],
        "epochs": found["epochs"],
    }


if __name__ == "__main__":
    main()
