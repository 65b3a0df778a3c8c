"""Do the final model's 90 % intervals hold for what it has not seen?

    python benchmarks/coverage.py TABLE FOLDER [--dos DOS] [--left-out O] [--properties a,b]
        [--unseen La,Nb]

A fifth of the systems of every size, drawn by a seed, are kept outside the table, and all systems
with one of the elements of `--unseen`. Their DOS are kept outside too. The rest goes through `hclmp
new` and Snakemake to the final model, which predicts what was kept outside. Printed are the share
of labels within the intervals and the mean width, over the standard deviation of the label, in the
space that is learned: of all systems without an unseen element, by number of elements, by property,
and by unseen element (compositions with that one alone). Finished runs are used again. With
`PYTHONPATH` of another checkout the same is measured of that one.
"""

import argparse
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

Z90 = 1.6448536269514722
COVERED, WIDTH = "covered", "width"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dos", type=Path)
    parser.add_argument("--left-out", default="")
    parser.add_argument("--properties", default="", help="all by default")
    parser.add_argument("--unseen", default="", help="elements, comma-separated")
    parser.add_argument("--elements-per-system", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder = given.folder.resolve()
    outside = divide(given)
    run(given)
    labels, properties = read_table(given)
    predicted = pd.read_parquet(given.folder / "predictions.parquet")
    table = measured(given, labels[outside].reset_index(drop=True), predicted, properties)
    print_table(table)


def read_table(given: argparse.Namespace) -> tuple[pd.DataFrame, list[str]]:
    """The table with the chosen properties, rows with a label, and the names of these."""
    frame = pd.read_parquet(given.table)
    names = [n for n in given.properties.split(",") if n]
    names = names or [c for c in frame.columns if c not in ("formula", "system")]
    return frame.dropna(subset=names, how="all").reset_index(drop=True), names


def divide(given: argparse.Namespace) -> np.ndarray:
    """Write the tables of a run, unless they are there; which rows are kept outside: [n]."""
    frame, names = read_table(given)
    systems = sorted(set(frame["system"]), key=lambda s: (s.count("-"), s))
    order = np.random.default_rng([given.seed, 77]).permutation(len(systems))
    shuffled = sorted((systems[i] for i in order), key=lambda s: s.count("-"))
    drawn = set(shuffled[::5])
    unseen = set(filter(None, given.unseen.split(",")))
    holds = [bool(unseen & set(s.split("-"))) for s in frame["system"]]
    outside = frame["system"].isin(drawn).to_numpy() | np.array(holds)
    given.folder.mkdir(parents=True, exist_ok=True)
    if not (given.folder / "inside.parquet").is_file():
        frame[outside][["formula"]].to_parquet(given.folder / "outside.parquet")
        if given.dos is not None:
            dos = pd.read_parquet(given.dos)
            kept_out = {frozenset(s.split("-")) for s in frame["system"][outside]}
            own = [elements_of(f) - set(given.left_out.split(",")) for f in dos["formula"]]
            kept = [e not in kept_out and not unseen & e for e in own]
            dos[kept].to_parquet(given.folder / "dos.parquet")
        frame[~outside][["formula", *names]].to_parquet(given.folder / "inside.parquet")
    return outside


def elements_of(formula: str) -> frozenset[str]:
    from hclmp.data.formula import parse_formulas

    return frozenset(parse_formulas([formula], origin="dos")[0])


def run(given: argparse.Namespace) -> None:
    """From the table to predictions of what was kept outside."""
    if (given.folder / "predictions.parquet").is_file():
        return
    work, hclmp = given.folder / "run", [sys.executable, "-m", "hclmp.cli.main"]
    variant = "hclmp" if given.dos is None else "hclmp_t"
    if not (work / "config/config.yaml").is_file():
        new = [*hclmp, "new", str(work), "--targets", str(given.folder / "inside.parquet")]
        new += ["--log10", "auto", "--folds", "2", "--allow-missing"]
        new += ["--elements-per-system", str(given.elements_per_system)]
        new += ["--left-out", given.left_out] if given.left_out else []
        new += ["--dos", str(given.folder / "dos.parquet")] if given.dos is not None else []
        call(new)
        config = yaml.safe_load((work / "config/config.yaml").read_text())
        config["variants"] = [variant, "mean"]
        config["dos"]["held_out"] = "drop" if given.dos is not None else "keep"
        if given.dos is not None:
            grid = {"start": -300, "stop": 1000, "n": 66, "unit": "1/cm"}
            config["dos"]["energies"] = grid
        (work / "config/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    call([sys.executable, "-m", "snakemake", "--cores", "all", "--directory", str(work)])
    tables = ("--table", str(given.folder / "outside.parquet"))
    out = ("--out", str(given.folder / "predictions.parquet"))
    call([*hclmp, "predict", str(work / "results/final"), *tables, *out])


def call(command: list[str]) -> None:
    spec = find_spec("hclmp")
    assert spec is not None
    assert spec.origin is not None
    subprocess.run(command, check=True, cwd=Path(spec.origin).parents[1])


def measured(
    given: argparse.Namespace, labels: pd.DataFrame, predicted: pd.DataFrame, names: list[str]
) -> pd.DataFrame:
    """One row per label outside: property, size, unseen element, covered, width."""
    unseen = set(filter(None, given.unseen.split(",")))
    config = yaml.safe_load((given.folder / "run/config/config.yaml").read_text())
    inside = pd.read_parquet(given.folder / "inside.parquet")
    parts = []
    for name in names:
        log10 = config["targets"]["properties"][name]["transform"] == "log10"
        into = np.log10 if log10 else np.asarray
        with np.errstate(divide="ignore", invalid="ignore"):
            if f"{name}_low" in predicted:
                low, high = (into(predicted[f"{name}_{end}"].to_numpy()) for end in ("low", "high"))
            else:  # before intervals were measured they were Gaussian
                middle, std = into(predicted[name].to_numpy()), predicted[f"{name}_std"].to_numpy()
                if log10:  # (10**(t + s) - 10**(t - s)) / 2, solved for s
                    std = np.arcsinh(std / predicted[name].to_numpy()) / np.log(10.0)
                low, high = middle - Z90 * std, middle + Z90 * std
        label, scale = into(labels[name].to_numpy()), into(inside[name].to_numpy())
        part = pd.DataFrame(
            {
                "property": name,
                "elements": labels["system"].str.count("-") + 1,
                "unseen": ["+".join(sorted(unseen & {*s.split("-")})) for s in labels["system"]],
                COVERED: (low <= label) & (label <= high),
                WIDTH: (high - low) / np.nanstd(scale),
            }
        )
        parts.append(part[~np.isnan(label)])
    return pd.concat(parts)


def print_table(table: pd.DataFrame) -> None:
    """Coverage, width and number of labels of all that was asked, as Markdown."""
    known = table[table["unseen"] == ""]
    rows = {"all": known}
    rows |= {f"{n} elements": part for n, part in known.groupby("elements")}
    rows |= {str(n): part for n, part in known.groupby("property")}
    rows |= {f"{e} never seen": part for e, part in table.groupby("unseen") if e}
    if (table["unseen"] != "").any():
        rows["an element never seen"] = table[table["unseen"] != ""]
    found = {
        what: {"coverage": part[COVERED].mean(), "mean width": part[WIDTH].mean(), "n": len(part)}
        for what, part in rows.items()
    }
    print(pd.DataFrame(found).T.astype({"n": int}).to_markdown(floatfmt=("", ".3f", ".2f", ".0f")))


if __name__ == "__main__":
    main()
