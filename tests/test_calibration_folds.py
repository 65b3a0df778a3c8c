"""Calibration folds: systems of every size and rare elements that the final model is not told."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hclmp.config import Config
from hclmp.data.calibration_folds import RARE, draw_outside, split_calibration
from hclmp.data.folds import CALIBRATION, FoldRows, calibration_folds
from hclmp.data.tables import Floats, varied
from hclmp.pipeline.jobs import jobs

COMMON = ["Al", "Co", "Cr", "Cu", "Fe", "Mg", "Ni", "Si", "Ti", "Zn"]
UNCOMMON = ["Ce", "Dy", "Er", "Eu", "Gd", "Ho", "La"]
# Of every size many systems, and each uncommon element in two of them.
SYSTEMS = ["-".join(s) for n in (1, 2, 3) for s in itertools.combinations(COMMON, n)]
SYSTEMS += ["-".join(sorted((e, other))) for e in UNCOMMON for other in ("Fe", "Ni")]
ROWS = [system for system in SYSTEMS for _ in range(3)]
VALUES = np.random.default_rng(0).normal(size=(len(ROWS), 2))


def split(fold: str, systems: list[str] = ROWS, values: Floats = VALUES, seed: int = 0) -> FoldRows:
    return split_calibration(systems, values, fold=fold, validation_fraction=0.1, seed=seed)


def systems_of(rows: np.ndarray, systems: list[str] = ROWS) -> set[str]:
    return {systems[row] for row in rows}


@pytest.mark.parametrize("fold", CALIBRATION)
def test_a_fold_holds_out_a_fifth_of_the_systems_of_every_size(fold: str) -> None:
    rows = split(fold)
    outside = draw_outside(ROWS, VALUES, fold=fold, seed=0)
    of_size = Counter(s.count("-") for s in SYSTEMS)
    for size, held_out in Counter(s.count("-") for s in outside.systems).items():
        assert held_out == pytest.approx(of_size[size] / 5, abs=1)
    assert systems_of(rows.test) == {s for s in SYSTEMS if outside.holds(s)}
    sizes = {s.count("-") for s in systems_of(rows.validation)}
    assert sizes == {0, 1, 2}, "epochs are chosen on systems of every size"


@pytest.mark.parametrize("fold", CALIBRATION)
def test_a_fold_leaves_out_rare_elements_with_all_of_their_systems(fold: str) -> None:
    rows = split(fold)
    outside = draw_outside(ROWS, VALUES, fold=fold, seed=0)
    assert len(outside.elements) >= 2
    for element in outside.elements:
        assert sum(element in s.split("-") for s in SYSTEMS) <= RARE * len(SYSTEMS)
    known = {e for s in systems_of(rows.train) | systems_of(rows.validation) for e in s.split("-")}
    assert known.isdisjoint(outside.elements)


def test_folds_share_neither_systems_nor_elements() -> None:
    outsides = [draw_outside(ROWS, VALUES, fold=fold, seed=0) for fold in CALIBRATION]
    for a, b in itertools.combinations(outsides, 2):
        assert a.systems.isdisjoint(b.systems)
        assert a.elements.isdisjoint(b.elements)
    assert split(CALIBRATION[0], seed=1).test.tolist() != split(CALIBRATION[0]).test.tolist()
    assert split(CALIBRATION[0]).test.tolist() == split(CALIBRATION[0]).test.tolist()


def test_supersets_of_what_is_held_out_stay_in_training() -> None:
    rows = split(CALIBRATION[0])
    held_out = [set(s.split("-")) for s in systems_of(rows.test)]
    assert not len(rows.left_out)
    assert any(any(h < set(s.split("-")) for h in held_out) for s in systems_of(rows.train))


def test_every_property_keeps_two_values_in_training() -> None:
    values = VALUES.copy()
    values[:, 1] = np.nan
    values[[4, 100], 1] = 1.0, 2.0  # of two systems, one label each
    for seed, fold in itertools.product(range(20), CALIBRATION):
        rows = split(fold, values=values, seed=seed)
        assert varied(values[rows.train]).all()


@settings(deadline=None)
@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 50))
def test_few_systems_divide_too(n: int, each: int, seed: int) -> None:
    systems = [system for system in SYSTEMS[8 : 8 + n] for _ in range(each)]
    values = np.arange(len(systems), dtype=np.float64)[:, None]
    for fold in CALIBRATION:
        rows = split(fold, systems, values, seed)
        assert len(rows.train)
        assert len(rows.validation)
        named = [systems_of(r, systems) for r in (rows.train, rows.validation, rows.test)]
        assert all(a.isdisjoint(b) for a, b in itertools.combinations(named, 2))
    assert any(len(split(fold, systems, values, seed).test) for fold in CALIBRATION)


def test_the_final_variant_alone_is_trained_on_them(workdir: Path) -> None:
    (workdir / "s.tsv").write_text("system\tfold\nFe-Ti\tx\nTi-W\ty\n")
    config = Config(systems="s.tsv", variants=["hclmp_t", "hclmp", "ridge"])
    own = [made.scope for made in jobs(config, "train") if made.scope[1] in CALIBRATION]
    assert own == [("hclmp_t", fold) for fold in CALIBRATION]
    assert [made.scope for made in jobs(config, "pretrain-gan")] == [()]
    dropped = Config(systems="s.tsv", variants=["hclmp_t", "ridge"], dos={"held_out": "drop"})
    scopes = [made.scope for made in jobs(dropped, "pretrain-gan")]
    assert scopes == [("x",), ("y",), *((fold,) for fold in CALIBRATION), ()]
    assert calibration_folds(Config(split="random", variants=["hclmp"])) == ["random"]
    assert calibration_folds(Config(systems="s.tsv", variants=["ridge"])) == []


def test_without_transfer_the_final_variant_needs_no_generator_of_its_own(workdir: Path) -> None:
    (workdir / "s.tsv").write_text("system\tfold\nFe-Ti\tx\nTi-W\ty\n")
    config = Config(systems="s.tsv", variants=["hclmp", "hclmp_t"], dos={"held_out": "drop"})
    assert [made.scope for made in jobs(config, "pretrain-gan")] == [("x",), ("y",)]
    made = next(m for m in jobs(config, "train") if m.scope == ("hclmp", CALIBRATION[0]))
    features = {m.outputs["features"] for m in jobs(config, "featurize")}
    assert made.inputs["features"] in features
