"""Memory and speed of `targets.source: plates`, on synthetic plates of as many rows as are given.

    python benchmarks/plates.py [ROWS/REPLICAS ...]

By default a million rows, two million of the same number of compositions (twice the replicas), and
two million of twice the compositions. Writes the plates to a temporary folder (220 bytes a row) and
reads each set in a process of its own. Peak memory is the process's `ru_maxrss` less that after its
imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

METALS = ("Mg", "Fe", "Co", "Ni", "Cu", "Y", "In", "Sn", "Ce", "Ta")
ROWS_OF_A_PLATE = 40_000  # the record's 6,918,024 rows lie on 173 plates
SIGNALS = 9

CHILD = """
import json, resource, sys, time
from hclmp.config import TargetsConfig
from hclmp.sources.plates.read import read_targets
import hclmp.pipeline.steps.prepare_targets, pandas, pyarrow.csv, pooch
from pymatgen.core.periodic_table import Element
Element.is_valid_symbol("Fe")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
raw = read_targets(TargetsConfig(source="plates", path=sys.argv[1]))
print(json.dumps([time.perf_counter() - start, before, peak() - before, len(raw.formula)]))
"""


def write_plate(file: Path, number: int, replicas: int) -> int:
    """A plate of three of the metals, so many replicas of each composition; its rows."""
    rng = np.random.default_rng(number)
    metals = [METALS[i] for i in sorted(rng.choice(len(METALS), 3, replace=False))]
    n = ROWS_OF_A_PLATE // replicas
    amounts = np.repeat(rng.dirichlet(np.ones(3), n).round(4), replicas, axis=0)
    clear = np.repeat(rng.uniform(0.1, 0.9, (n, SIGNALS)), replicas, axis=0)
    signals = clear + 0.01 * rng.normal(size=clear.shape)
    i = np.arange(len(clear))
    columns = {"ExpID": i, "row": i // 200, "col": i % 200}
    columns |= {f"signal_{k}": signals[:, k] for k in range(SIGNALS)}
    columns |= {"plate": np.full(len(i), number), "line": i // 500, "line_experiment_id": i % 500}
    columns |= {"replica": i % replicas}
    columns |= {metal: amounts[:, k] for k, metal in enumerate(metals)}
    pacsv.write_csv(pa.table(columns), file)
    return len(i)


def main() -> None:
    cases = sys.argv[1:] or ["1000000/10", "2000000/20", "2000000/10"]
    print("| rows | compositions | CSV, MB | seconds | rows/s | peak memory above imports, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for wanted, replicas in (map(int, case.split("/")) for case in cases):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "ten_replicas"
            folder.mkdir()
            done = sum(
                write_plate(folder / f"plate_{number}.csv", number, replicas)
                for number in range(-(-wanted // ROWS_OF_A_PLATE))
            )
            size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
            answer = subprocess.run(
                [sys.executable, "-c", CHILD, str(folder)],
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
                cwd=temporary,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            seconds, before, more, compositions = json.loads(answer.stdout)
        print(
            f"| {done:,} | {compositions:,} | {size:.0f} | {seconds:.0f} | {done / seconds:,.0f} "
            f"| {more:.0f} (imports {before:.0f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
