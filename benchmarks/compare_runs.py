"""Whether two runs hold the same numbers, to the last digit; where they come from may differ.

    python benchmarks/compare_runs.py RUN OTHER_RUN

Compares the tables of all predictions, `summary.csv` and `by_system.csv`. To compare a change of
the code with an earlier commit, run both on one machine:

    git worktree add /tmp/before 00e6269
    (cd /tmp/before && PYTHONPATH=. python -m snakemake --cores all)
    python -m snakemake --cores all
    python benchmarks/compare_runs.py /tmp/before .
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

PATTERNS = ("results/predictions/*/*.parquet", "results/metrics/*.csv")


def tables(run: Path) -> dict[str, pd.DataFrame]:
    """Name -> table of numbers of a run."""
    files = sorted(path for pattern in PATTERNS for path in run.glob(pattern))
    return {
        str(path.relative_to(run)): pd.read_parquet(path)
        if path.suffix == ".parquet"
        else pd.read_csv(path)
        for path in files
    }


def differences(run: Path, other: Path) -> tuple[list[str], int]:
    """The tables that differ or that one run lacks, and how many tables were compared."""
    ours, theirs = tables(run), tables(other)
    names = sorted({*ours, *theirs})
    bad = [n for n in names if n not in ours or n not in theirs or not ours[n].equals(theirs[n])]
    return bad, len(names)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("run", type=Path)
    options.add_argument("other", type=Path)
    chosen = options.parse_args()
    bad, count = differences(chosen.run, chosen.other)
    for name in bad:
        print(f"differs: {name}")
    print(f"{count} tables compared, {len(bad)} differ")
    sys.exit(1 if bad or not count else 0)


if __name__ == "__main__":
    main()
