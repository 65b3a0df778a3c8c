"""Speed and memory of H-CLMP on one machine, in one run: published sizes beside ours.

    python benchmarks/training.py [--table table.parquet] [--rows 4096] [--batch-size 1024]

Every measurement is a fresh process with one thread (prediction: two), so that its peak memory
(`ru_maxrss`) is its own. A fit is timed from start to end after a small one to warm up: epochs,
validation and checkpoints, in seconds of the processor (prediction: of the clock). Without
`--table` compositions and labels are made up, 10 properties. No variant sees a DOS feature. Prints
a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
METALS = ("Ag", "Bi", "Ce", "Co", "Cr", "Cu", "Fe", "In", "Mn", "Mo", "Nb", "Ni", "Ti", "V", "W")
PROPERTIES = 10
PREDICTED = 100_000
EPOCHS = {"default": 3, "members_3": 3, "paper": 1}
WARM_UP = 256  # rows

NO_TORCH = """
import sys
from hclmp.cli.main import main
sys.argv = ["hclmp", "--help"]
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def made_up(rows: int) -> pd.DataFrame:
    """Mixtures of two to five metals with smooth nonlinear labels."""
    rng = np.random.default_rng(0)
    amounts = np.zeros((rows, len(METALS)))
    for row in amounts:
        chosen = rng.choice(len(METALS), size=rng.integers(2, 6), replace=False)
        row[chosen] = rng.dirichlet(np.ones(len(chosen))).round(4) + 1e-4
    hidden = np.tanh(amounts @ rng.normal(size=(len(METALS), 16)) * 2)
    labels = hidden @ rng.normal(size=(16, PROPERTIES)) + 0.05 * rng.normal(size=(rows, PROPERTIES))
    formulas = [
        "".join(f"{e}{x:.4f}" for e, x in zip(METALS, row, strict=True) if x) for row in amounts
    ]
    columns = {f"p{i}": labels[:, i] for i in range(PROPERTIES)}
    return pd.DataFrame({"formula": formulas, **columns})


def configuration(table: Path, batch_size: int) -> dict[str, Any]:
    """A run's configuration with a variant for each fit that is measured."""
    variants: dict[str, Any] = {}
    for name, epochs in EPOCHS.items():
        training = {"epochs": epochs, "batch_size": batch_size, "refit_epochs": 0}
        training["members"] = 3 if name == "members_3" else 1
        preset = "paper" if name == "paper" else "default"
        variants[name] = {"model": "hclmp", "preset": preset, "overrides": {"training": training}}
    return {
        "targets": {"source": "table", "path": str(table.resolve()), "allow_missing": True},
        "dos": {"source": "none"},
        "split": "random",
        "variants": variants,
    }


def prepare(config_file: Path) -> None:
    """The targets and features that all measurements read, by the workflow's own steps."""
    from hclmp.config import load_config
    from hclmp.pipeline.jobs import job
    from hclmp.pipeline.steps.featurize import featurize
    from hclmp.pipeline.steps.prepare_targets import prepare_targets

    config = load_config(config_file)
    prepare_targets(config, job(config, "prepare-targets"))
    featurize(config, job(config, "featurize"))


def measure(name: str, config_file: Path, rows: int) -> dict[str, float]:
    """Fit a variant, or predict with one that was hardly trained."""
    from hclmp.config import load_config, variant_settings
    from hclmp.data.features import read_features
    from hclmp.data.inputs import Labelled
    from hclmp.data.splits import split_rows
    from hclmp.data.tables import read_targets
    from hclmp.models.checkpoint import Checkpoints
    from hclmp.models.compute import prepare
    from hclmp.models.hclmp.fit import fit_hclmp
    from hclmp.models.interface import Part
    from hclmp.pipeline.jobs import job

    config = load_config(config_file)
    table = read_targets(job(config, "prepare-targets").outputs["table"])
    inputs, _, _ = read_features(job(config, "featurize").outputs["features"])
    fold = split_rows(config, "random", table)
    few, train, validation = (
        Labelled.of(table, inputs, r)
        for r in (fold.train[:WARM_UP], fold.train[:rows], fold.validation[:WARM_UP])
    )
    variant = "default" if name == "predict" else name
    sizes, training = variant_settings(config, variant)
    prepare(1, deterministic=config.training.deterministic)
    how = {"model": sizes, "training": training, "checkpoints": Checkpoints()}  # none is removed
    warm, timed = (
        [Part(rows, validation, {name: what})] for rows, what in ((few, "warm"), (train, "timed"))
    )
    ((model, _),) = fit_hclmp(warm, **how)
    imported = peak()
    if name == "predict":
        import torch

        # as many to recall as a trained model has
        model.network.remember(model.scalers.table(Labelled.of(table, inputs, fold.train)))
        many = inputs.take(np.arange(PREDICTED) % len(inputs))
        torch.set_num_threads(2)
        start = time.perf_counter()
        model.predict(many)
        seconds, samples = time.perf_counter() - start, PREDICTED
    else:
        start = time.process_time()  # on one thread; other work on the machine disturbs it less
        fit_hclmp(timed, **how)
        seconds, samples = time.process_time() - start, len(train) * EPOCHS[name]
    return {"seconds": seconds, "samples": samples, "peak": peak(), "imported": imported}


def peak() -> float:
    """Peak memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def child(name: str, folder: str, *arguments: str) -> dict[str, float]:
    """A measurement in a process and an empty folder for checkpoints of its own."""
    threads = "2" if name == "predict" else "1"
    answer = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--child", name, *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(answer.stdout)) if answer.stdout else {}


def command_line() -> tuple[float, bool]:
    """Seconds of `hclmp --help` (the best of three), and whether torch was imported."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    times, imported = [], False
    for _ in range(3):
        start = time.perf_counter()
        run = subprocess.run(
            [sys.executable, "-c", NO_TORCH], env=env, capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - start)
        imported = run.stderr.split()[-1] == "True"
    return min(times), imported


def report(found: dict[str, dict[str, float]], batch_size: int) -> None:
    """The table, and the ratios that it is made for."""
    speed = {name: each["samples"] / each["seconds"] for name, each in found.items()}
    print(f"| batch size {batch_size} | samples | seconds | samples/s | peak memory (start), MB |")
    print("| --- | --- | --- | --- | --- |")
    for name, each in found.items():
        memory = f"{each['peak']:.0f} ({each['imported']:.0f})"
        print(
            f"| {name} | {each['samples']:,} | {each['seconds']:.1f} | {speed[name]:,.0f} | "
            f"{memory} |"
        )
    print(f"| default / paper, samples/s | | | {speed['default'] / speed['paper']:.2f} | |")
    cost = found["members_3"]["seconds"] / found["default"]["seconds"]
    print(f"| 3 members / 1, seconds | | {cost:.2f} | | |")
    seconds, imported = command_line()
    print(f"| `hclmp --help`, torch {'' if imported else 'not '}imported | | {seconds:.2f} | | |")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--table", type=Path, help="targets (CSV or Parquet); default: made up")
    options.add_argument("--rows", type=int, default=4096, help="training rows, at most")
    options.add_argument("--batch-size", type=int, default=1024)
    options.add_argument("--child", help=argparse.SUPPRESS)
    options.add_argument("--config", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child == "prepare":
        prepare(chosen.config)
        return
    if chosen.child:
        print(json.dumps(measure(chosen.child, chosen.config, chosen.rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        table = chosen.table or Path(folder) / "table.parquet"
        if not chosen.table:  # a fifth is test, 15 % of the rest validation
            made_up(round(chosen.rows / 0.8 / 0.85) + 1).to_parquet(table)
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(configuration(table, chosen.batch_size)))
        arguments = ("--config", str(config), "--rows", str(chosen.rows))
        child("prepare", folder, *arguments)
        names = (*EPOCHS, "predict")
        report({name: child(name, folder, *arguments) for name in names}, chosen.batch_size)


if __name__ == "__main__":
    main()
