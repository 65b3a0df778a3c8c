"""Step ``pretrain-gan``: train the generator of density of states, and measure what it is worth."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from hclmp.config import Config
from hclmp.data.composition import pad
from hclmp.data.elements import element_vectors, known_elements
from hclmp.data.formula import Fractions, parse_formulas, system_of
from hclmp.data.tables import EnergyGrid, read_dos
from hclmp.errors import UserError
from hclmp.files import write_csv, write_json
from hclmp.models.checkpoint import Checkpoints, join_stages
from hclmp.models.generator.network import DosScaler, Generator, Materials
from hclmp.models.generator.training import (
    best_epoch,
    energy_score,
    refit_generator,
    train_generator,
)
from hclmp.pipeline import cache
from hclmp.pipeline.checks import check_inputs
from hclmp.pipeline.jobs import Job
from hclmp.pipeline.seen_dos import seen_dos
from hclmp.provenance import hash_of

log = logging.getLogger(__name__)

SHARE = 0.1  # of the systems for validation, and as many for the test; at least one each
TRAIN, VALIDATION, TEST = range(3)
PARTS = ("train", "validation", "test")
MEASURED = (
    "the generator of the training systems alone; the one that is saved was then trained on all of "
    "these DOS for as many epochs"
)
FEWEST_SYSTEMS = 5
DRAWS_OF_TEST = 50
EXAMPLES = 6


@dataclass(frozen=True)
class _Part:
    """Some of the DOS: fractions [n, V] over the vocabulary, and values [n, D] in their unit."""

    fractions: NDArray[np.float32]
    dos: NDArray[np.float32]

    def scaled(self, scaler: DosScaler) -> Materials:
        return Materials(torch.from_numpy(self.fractions), scaler.scale(self.dos))


def pretrain_gan(config: Config, job: Job) -> None:
    """Train the generator on most systems of the DOS table and measure it on systems held out.

    What is saved is not that generator but the same, trained as long on all DOS that it may see:
    the more it has seen, the more it recalls. The scope of the job is the fold whose systems the
    generator must not see, if any.

    Raises:
        UserError: too few systems with a DOS.
    """
    check_inputs(job)
    dos = job.inputs["dos"]
    table = read_dos(dos)
    parsed = parse_formulas(table.formula, left_out=config.targets.left_out, origin=str(dos))
    rows = _divide(_systems(config, parsed, job), seed=config.gan.seed)
    fractions = pad(parsed, known_elements(config.model.embedding)).dense()
    parts = [_Part(fractions[r], table.dos[r]) for r in rows]
    origin, files = job.provenance(), job.outputs
    if cache.restore(origin, files.values()):
        return
    key = hash_of(origin)
    with Checkpoints() as checkpoints:
        train, validation, test = parts
        model, scaler = _built(config, table.grid, train)
        epochs = train_generator(
            model,
            train=train.scaled(scaler),
            validation=validation.scaled(scaler),
            settings=config.gan,
            checkpoint=checkpoints.open(key, "selection"),
        )
        best = best_epoch(epochs)
        report = _measured(model, scaler, train, test) | {
            "measured": MEASURED,
            "n": {name: len(part.dos) for name, part in zip(PARTS, parts, strict=True)},
            "epochs": best,
            "held_out": config.dos.held_out,
            "unit": table.unit,
            "energy_unit": table.grid.unit,
            "simulated": table.simulated,
            "provenance": origin,
        }
        log.info("%s", _sentence(report))
        whole = _Part(
            np.concatenate([part.fractions for part in parts]),
            np.concatenate([part.dos for part in parts]),
        )
        final, scaler_of_all = _built(config, table.grid, whole)
        more = refit_generator(
            final,
            train=whole.scaled(scaler_of_all),
            epochs=best,
            settings=config.gan,
            checkpoint=checkpoints.open(key, "refit"),
        )
        # What carries no provenance stands between what does: no kill leaves it with another's.
        write_json(files["metrics"], report)
        write_csv(files["history"], pd.DataFrame(join_stages(selection=epochs, refit=more)))
        formulas = [table.formula[i] for i in rows[TEST]]
        write_csv(files["examples"], _examples(model, scaler, test, formulas))
        final.save(files["generator"], provenance=origin)
        cache.keep(origin, files.values())


def _built(config: Config, grid: EnergyGrid, train: _Part) -> tuple[Generator, DosScaler]:
    """A fresh generator, and the scaler of its training DOS."""
    vocabulary = known_elements(config.model.embedding)
    scaler = DosScaler.fit(train.dos)
    torch.manual_seed(config.gan.seed)
    model = Generator(
        vocabulary=vocabulary,
        vectors=torch.from_numpy(element_vectors(vocabulary, config.model.embedding)),
        seen=torch.from_numpy(train.fractions.any(axis=0)).float(),
        noise=config.gan.noise,
        hidden=config.gan.generator_hidden,
        grid=grid,
        scaler=scaler,
        recalls=config.gan.memory > 0,
    )
    return model, scaler


def _systems(config: Config, parsed: Sequence[Fractions], job: Job) -> list[str | None]:
    """The system of each DOS; None for those that the generator must not see."""
    systems = [system_of(fractions) for fractions in parsed]
    seen = seen_dos(config, job, systems)
    return [s if kept else None for s, kept in zip(systems, seen, strict=True)]


def _divide(systems: Sequence[str | None], *, seed: int) -> list[NDArray[np.int64]]:
    """Rows of training, validation and test DOS: whole systems, four fifths and a tenth each."""
    known = sorted({s for s in systems if s is not None})
    if len(known) < FEWEST_SYSTEMS:
        raise UserError(
            f"the generator needs DOS of at least {FEWEST_SYSTEMS} systems, there are "
            f"{len(known)}: bring more, or set `dos.source: none` and leave out the variants with "
            "`transfer`"
        )
    order = np.random.default_rng([seed, 3]).permutation(len(known))
    count = max(1, round(SHARE * len(known)))
    part = np.where(order < count, TEST, np.where(order < 2 * count, VALIDATION, TRAIN))
    part_of = dict(zip(known, part.tolist(), strict=True))
    parts = np.array([part_of.get(s, -1) if s is not None else -1 for s in systems])
    if dropped := int((parts == -1).sum()):
        log.info("%d DOS of held-out systems are left out", dropped)
    return [np.flatnonzero(parts == i) for i in (TRAIN, VALIDATION, TEST)]


def _measured(model: Generator, scaler: DosScaler, train: _Part, test: _Part) -> dict[str, Any]:
    """Metrics on the test DOS, of the generator and of what it must beat."""
    truth, known = test.scaled(scaler).dos, train.scaled(scaler).dos
    samples = model.samples(torch.from_numpy(test.fractions), draws=DRAWS_OF_TEST, seed=1)
    nearest = cdist(test.fractions, train.fractions).argmin(axis=1)
    guesses = {
        "generator": scaler.unscale(samples).mean(dim=1).numpy(),
        "training_mean": np.broadcast_to(train.dos.mean(axis=0), test.dos.shape),
        "training_median": np.broadcast_to(np.median(train.dos, axis=0), test.dos.shape),
        "nearest_composition": train.dos[nearest],
    }
    scaled = {
        "generator": samples.mean(dim=1),
        "training_mean": known.mean(dim=0).expand_as(truth),
        "training_median": known.median(dim=0).values.expand_as(truth),
        "nearest_composition": known[nearest],
    }
    rng = torch.Generator().manual_seed(2)
    around_mean = torch.randn(samples.shape, generator=rng) * known.std(dim=0) + known.mean(dim=0)
    scores = {"generator": samples, "gaussian_around_training_mean": around_mean}
    return {
        "mae": {name: _mae(guess, test.dos) for name, guess in guesses.items()},
        "mae_scaled": {name: _mae(guess.numpy(), truth.numpy()) for name, guess in scaled.items()},
        "spread_to_residual": _spread_to_residual(samples, truth),
        "energy_score_scaled": {n: float(energy_score(s, truth).mean()) for n, s in scores.items()},
        "wasserstein_energy": {
            name: _wasserstein(guess, test.dos, model.grid) for name, guess in guesses.items()
        },
    }


def _mae(guess: NDArray[np.floating[Any]], truth: NDArray[np.floating[Any]]) -> float:
    return float(np.abs(guess.astype(np.float64) - truth.astype(np.float64)).mean())


def _spread_to_residual(samples: Tensor, truth: Tensor) -> float:
    """The spread of draws over the error of their mean, root mean squares; of true draws it is 1.

    ``samples`` [n, draws, D] and ``truth`` [n, D] are scaled DOS.
    """
    residual = truth - samples.mean(dim=1)
    return float((samples.var(dim=1).mean() / residual.square().mean()).sqrt())


def _wasserstein(
    guess: NDArray[np.floating[Any]], truth: NDArray[np.floating[Any]], grid: EnergyGrid
) -> float | None:
    """Mean Wasserstein-1 distance along the energy axis between DOS scaled to area 1.

    In the unit of the grid: the area between the two cumulated DOS. Empty DOS are passed over; None
    where that leaves none.
    """
    areas = guess.sum(axis=1, dtype=np.float64), truth.sum(axis=1, dtype=np.float64)
    filled = (areas[0] > 0) & (areas[1] > 0)
    if not filled.any():
        return None
    a, b = (
        np.cumsum(dos[filled], axis=1, dtype=np.float64) / area[filled, None]
        for dos, area in zip((guess, truth), areas, strict=True)
    )
    return float(np.abs(a - b).sum(axis=1).mean() * grid.step)


def _examples(
    model: Generator, scaler: DosScaler, test: _Part, formulas: Sequence[str]
) -> pd.DataFrame:
    """True DOS and generated mean of test materials, evenly chosen: one row per energy."""
    chosen = np.unique(np.linspace(0, len(formulas) - 1, EXAMPLES).round().astype(int))
    fractions = torch.from_numpy(test.fractions[chosen])
    samples = scaler.unscale(model.samples(fractions, draws=DRAWS_OF_TEST, seed=1))
    energies = model.grid.energies()
    frames = [
        pd.DataFrame(
            {
                "formula": formulas[row],
                "energy": energies,
                "dos": test.dos[row],
                "generated_mean": samples[i].mean(dim=0).numpy(),
            }
        )
        for i, row in enumerate(chosen)
    ]
    return pd.concat(frames)


def _sentence(report: dict[str, Any]) -> str:
    mae = report["mae"]
    return (
        f"generator on {report['n']['test']} DOS of held-out systems: mean absolute error "
        f"{mae['generator']:.4g} {report['unit']}; training mean {mae['training_mean']:.4g}, "
        f"nearest composition {mae['nearest_composition']:.4g}"
    )
