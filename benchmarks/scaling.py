"""What a training step of H-CLMP costs, against the size of everything.

    python benchmarks/scaling.py [--only compositions|elements|properties|folds] [--steps 4]

Made-up compositions of 30 elements and labels, no DOS feature, the default model with one member,
batch 1024. Every measurement is a process of its own with one thread, so that its peak memory
(`ru_maxrss`, of which the imports are about 400 MB) is its own. Times are of the processor, which
other work on the machine disturbs less. A few steps are taken after as many to warm up; an epoch is
as many steps as its table has, and remembering and validating once. Prints Markdown tables.
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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
ELEMENTS, VALIDATION = 30, 512


@dataclass(frozen=True)
class Size:
    """A training: rows of each fold, elements of each composition, properties, folds at once."""

    compositions: int = 4096
    elements: int = 4
    properties: int = 10
    folds: int = 1


SERIES: dict[str, list[Size]] = {
    "compositions": [
        Size(compositions=n) for n in (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
    ],
    "elements": [Size(elements=k) for k in (1, 2, 4, 8, 12)],
    "properties": [Size(properties=n) for n in (1, 3, 10, 30, 100, 200)],
    "folds": [Size(compositions=1_000, folds=n) for n in (1, 2, 4, 8, 16)],
}


def made_up(size: Size, rows: int, seed: int) -> Any:
    """Labelled mixtures of so many elements with smooth nonlinear labels."""
    from hclmp.data.composition import Compositions
    from hclmp.data.inputs import ElementTable, Inputs, Labelled

    rng, of_elements = np.random.default_rng(seed), np.random.default_rng(0)
    elements = rng.random((rows, ELEMENTS)).argsort(axis=1)[:, : size.elements]
    fractions = rng.dirichlet(np.ones(size.elements), size=rows).astype(np.float32)
    table = ElementTable(
        {"matscholar": of_elements.normal(size=(ELEMENTS, 200)).astype(np.float32)},
        of_elements.normal(size=(ELEMENTS, 22)).astype(np.float32),
    )
    names = tuple(f"E{i:02}" for i in range(ELEMENTS))
    compositions = Compositions(names, elements, fractions)
    hidden = np.tanh(compositions.dense() @ of_elements.normal(size=(ELEMENTS, 16)) * 2)
    labels = hidden @ of_elements.normal(size=(16, size.properties))
    return Labelled(Inputs(compositions, table), labels.astype(np.float64))


def measure(size: Size, steps: int) -> dict[str, float]:
    """Seconds of a step and of the end of an epoch, steps of an epoch, and peak memory in MB."""
    from hclmp.config import ModelConfig, TrainingConfig
    from hclmp.models.checkpoint import Checkpoint
    from hclmp.models.compute import prepare
    from hclmp.models.hclmp import training as loop
    from hclmp.models.hclmp.ensemble import Ensemble
    from hclmp.models.hclmp.fit import member_seeds
    from hclmp.models.hclmp.layers import stack_members

    prepare(1, deterministic=True)
    model, training = ModelConfig(), TrainingConfig(members=1, epochs=2)
    data = [made_up(size, size.compositions, fold) for fold in range(size.folds)]
    held_out = [made_up(size, VALIDATION, 1_000 + fold) for fold in range(size.folds)]
    seeds = member_seeds(training)
    ensembles = [Ensemble.untrained(part, model, seeds) for part in data]
    scalers = [ensemble.scalers for ensemble in ensembles]
    network = stack_members([ensemble.network for ensemble in ensembles])
    train, validation = (
        loop.Table.stack([s.table(part) for s, part in zip(scalers, parts, strict=True)])
        for parts in (data, held_out)
    )
    real = loop.steps_of(size.compositions, batch_size=training.batch_size, memory=model.memory)
    few = real._replace(number=min(real.number, steps))
    loop.steps_of = lambda *_, **__: few
    spent: dict[str, list[float]] = {"_epoch": [], "validation_errors": [], "remember": []}

    def timed(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            out = function(*args, **kwargs)
            spent[name].append(time.process_time() - start)
            return out

        setattr(owner, name, run)

    timed(loop, "_epoch")
    timed(loop, "validation_errors")
    timed(type(network), "remember")
    loop.train_model(
        network,
        train=train,
        validation=validation,
        settings=training,
        seeds=seeds,
        checkpoint=Checkpoint("benchmark", "selection"),
        whole_systems=True,
    )
    # the second epoch; the first has warmed up
    step, end = (
        spent["_epoch"][1] / few.number,
        spent["validation_errors"][1] + spent["remember"][1],
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"step": step, "steps": real.number, "end": end, "peak": peak}


def child(size: Size, steps: int) -> dict[str, float]:
    """A measurement in a process and an empty folder of its own."""
    arguments = ["--steps", str(steps), "--child", json.dumps(asdict(size))]
    with tempfile.TemporaryDirectory() as folder:
        answer = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), *arguments],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return dict(json.loads(answer.stdout))


def lines(name: str, steps: int) -> Iterator[str]:
    """A table of one series, line by line as it is measured."""
    yield f"\n| {name} | s per step | steps per epoch | remember, validate | s per epoch | MB |"
    yield "| ---: " * 6 + "|"
    for size in SERIES[name]:
        found = child(size, steps)
        epoch = found["step"] * found["steps"] + found["end"]
        yield (
            f"| {getattr(size, name):,} | {found['step']:.3f} | {found['steps']:.0f} | "
            f"{found['end']:.2f} | {epoch:.2f} | {found['peak']:,.0f} |"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--only", choices=SERIES, action="append")
    options.add_argument("--steps", type=int, default=4, help="steps that are timed, at most")
    options.add_argument("--child", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        print(json.dumps(measure(Size(**json.loads(chosen.child)), chosen.steps)))
        return
    for name in chosen.only or SERIES:
        for line in lines(name, chosen.steps):
            print(line, flush=True)


if __name__ == "__main__":
    main()
