"""Small made-up data that the model tests share: nonlinear, correlated, of known systems."""

from typing import Any

import numpy as np
import torch

from hclmp.config import ModelConfig, TrainingConfig
from hclmp.data.composition import Compositions, pad
from hclmp.data.inputs import ElementTable, Inputs, Labelled
from hclmp.data.tables import EnergyGrid
from hclmp.models.checkpoint import Checkpoints, History
from hclmp.models.hclmp.ensemble import Ensemble
from hclmp.models.hclmp.fit import fit_hclmp
from hclmp.models.hclmp.pretrained import Pretrained
from hclmp.models.interface import Part

# Small tensors: more threads only wait for each other, above all beside other work.
torch.set_num_threads(1)

VOCABULARY = ("Co", "Cu", "Fe", "Ni", "Ti", "W")


def compositions(n: int = 60, *, most: int = 4, seed: int = 0) -> Compositions:
    """Random compositions of one to ``most`` elements."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        elements = rng.choice(VOCABULARY, size=1 + i % most, replace=False)
        fractions = rng.dirichlet(np.ones(len(elements)))
        rows.append(dict(zip(elements.tolist(), fractions.tolist(), strict=True)))
    return pad(rows, VOCABULARY)


def inputs(n: int = 60, *, dos: int | None = None, most: int = 4, seed: int = 0) -> Inputs:
    """Compositions with element vectors of length 7, and a DOS feature of length ``dos``."""
    rng = np.random.default_rng(100)
    table = ElementTable(
        {"matscholar": rng.normal(size=(len(VOCABULARY), 7)).astype(np.float32)},
        rng.normal(size=(len(VOCABULARY), 5)).astype(np.float32),
    )
    mixed = compositions(n, most=most, seed=seed)
    feature = None
    if dos is not None:
        feature = np.tanh(mixed.dense() @ rng.normal(size=(len(VOCABULARY), dos))).astype("f4")
    return Inputs(mixed, table, feature)


def labelled(
    n: int = 60, *, properties: int = 3, dos: int | None = None, most: int = 4, seed: int = 0
) -> Labelled:
    """Smooth nonlinear labels of the fractions, the same function for every ``n`` and seed."""
    given = inputs(n, dos=dos, most=most, seed=seed)
    rng = np.random.default_rng(200)
    dense = given.compositions.dense().astype(np.float64)
    hidden = np.tanh(dense @ rng.normal(size=(len(VOCABULARY), 8)) * 2)
    return Labelled(given, 5.0 + 2.0 * hidden @ rng.normal(size=(8, properties)))


def permuted(given: Inputs, seed: int = 0) -> Inputs:
    """The same inputs with the elements of each row in another order, padding anywhere."""
    rng = np.random.default_rng(seed)
    c = given.compositions
    width = c.elements.shape[1] + 1
    elements, fractions = (np.pad(a, ((0, 0), (0, 1))) for a in (c.elements, c.fractions))
    order = np.stack([rng.permutation(width) for _ in range(len(c))])
    mixed = Compositions(
        c.vocabulary,
        np.take_along_axis(elements, order, axis=1),
        np.take_along_axis(fractions, order, axis=1),
    )
    return Inputs(mixed, given.elements, given.dos)


def fit_one(
    train: Labelled,
    validation: Labelled,
    *,
    model: ModelConfig,
    training: TrainingConfig,
    key: dict[str, Any],
    start: Pretrained | None = None,
    keep: bool = False,
) -> tuple[Ensemble, History]:
    """A single fold, fitted; its checkpoints are removed, or kept as by a kill."""
    part = Part(train, validation, key, start)
    with Checkpoints() as removed:
        checkpoints = Checkpoints() if keep else removed
        ((fitted, history),) = fit_hclmp(
            [part], model=model, training=training, checkpoints=checkpoints
        )
    return fitted, history


GRID = EnergyGrid(-2.0, 2.0, 21, "eV")


def synthetic_dos(n: int, *, seed: int = 0, heavy: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Fractions and DOS: a peak whose place follows the composition, with some scatter."""
    fractions = compositions(n, seed=seed).dense()
    rng = np.random.default_rng(seed)
    centre = fractions @ np.linspace(-1.5, 1.5, len(VOCABULARY)) + 0.1 * rng.normal(size=n)
    dos = np.exp(-((GRID.energies() - centre[:, None]) ** 2) / 0.2)
    if heavy:  # a few materials with values of hundreds, as in the published data
        dos = dos * np.exp(rng.normal(size=(n, 1))) * np.where(rng.random((n, 1)) < 0.02, 100, 4)
    return fractions, dos.astype(np.float32)
