"""Training of H-CLMP: on folds, on all samples, and of its encoder on densities of states.

Each is one or two stages, of one or several folds. Folds of nearly the same size train as one
model, with the members of all of them side by side, which should save time on a GPU; how much is
not measured, because none was at hand. Each fold comes out as it would alone, but for rounding in
the last digits: its batches, random numbers and best epochs are its own.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA

from hclmp.config import ModelConfig, TrainingConfig
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats
from hclmp.errors import UserError
from hclmp.models.checkpoint import Checkpoints, History, join_stages
from hclmp.models.compute import device_of
from hclmp.models.hclmp.batch import Table
from hclmp.models.hclmp.ensemble import Ensemble, HeldOut
from hclmp.models.hclmp.layers import stack_members, take_members
from hclmp.models.hclmp.pretrained import Pretrained
from hclmp.models.hclmp.training import Steps, steps_of, thin_validation, train_model
from hclmp.models.interface import Part
from hclmp.provenance import hash_of

log = logging.getLogger(__name__)
REFIT_SEED = 500  # added to the seeds of the members in the refit
COMPONENTS = 12  # principal components that represent a DOS
Trained = tuple[Ensemble, History]


def fit_hclmp(
    parts: Sequence[Part],
    *,
    model: ModelConfig,
    training: TrainingConfig,
    checkpoints: Checkpoints,
) -> list[Trained]:
    """Train the members of one or several folds.

    First the validation samples choose each member's best epoch and the size of the uncertainty.
    Then they join the training samples for a few more epochs, and are recalled too.

    The folds have one vocabulary and the same properties.

    Raises:
        UserError: no such device, not enough memory for a single fold, or the training diverged.

    Returns:
        Of each fold the fitted model and its history (one row per stage, member and epoch).
    """
    seeds = member_seeds(training)
    untrained = [Ensemble.untrained(part.train, model, seeds, part.start) for part in parts]
    selected = train_stage("selection", parts, untrained, training, seeds, checkpoints)
    calibrated = []
    for part, (ensemble, _) in zip(parts, selected, strict=True):
        assert part.validation is not None
        held_out = HeldOut.of(ensemble, part.validation)
        calibrated.append(ensemble.with_calibration(held_out, part.train.limits))
    joined = [part.with_validation() for part in parts]
    if (refit := training.refit()) is not None:
        seeds = [seed + REFIT_SEED for seed in seeds]
        trained = train_stage("refit", joined, calibrated, refit, seeds, checkpoints)
    else:
        trained = []
        for part, ensemble in zip(joined, calibrated, strict=True):
            table = ensemble.scalers.table(part.train)
            trained.append((ensemble.trained_on(part.train, table, ensemble.network), []))
    return [
        (ensemble, join_stages(selection=first, refit=second))
        for (_, first), (ensemble, second) in zip(selected, trained, strict=True)
    ]


def fit_final(
    part: Part,
    held_out: HeldOut,
    *,
    model: ModelConfig,
    training: TrainingConfig,
    checkpoints: Checkpoints,
) -> Trained:
    """Train on all samples for as many epochs as ``training`` says; no samples are left to choose.

    The errors of the folds' models on samples they had not seen give the size of the uncertainty.
    """
    seeds = member_seeds(training)
    untrained = Ensemble.untrained(part.train, model, seeds, part.start)
    ((ensemble, history),) = train_stage("final", [part], [untrained], training, seeds, checkpoints)
    return ensemble.with_calibration(held_out, part.train.limits), history


def pretrain(
    inputs: Inputs,
    dos: Floats,
    *,
    model: ModelConfig,
    training: TrainingConfig,
    key: dict[str, Any],
    checkpoints: Checkpoints,
) -> tuple[Pretrained, History]:
    """Train the members to predict the principal components of DOS from composition.

    The whole network is trained, as on labels; its encoder and keys are kept. The number of epochs
    is a setting: there is no validation, because the training on labels that follows has its own.

    Args:
        inputs: n compositions without DOS feature.
        dos: [n, D], scaled.
        model, training: as ``EncoderConfig.training`` makes them.
        key, checkpoints: what else determines the result (its provenance) names the checkpoint.

    Returns:
        The weights and the history (one row per member and epoch).
    """
    components = PCA(min(COMPONENTS, *dos.shape), svd_solver="full").fit_transform(dos)
    data, seeds = Labelled(inputs, components.astype(np.float64)), member_seeds(training)
    part = Part(data, None, key, whole_systems=True)
    untrained = Ensemble.untrained(data, model, seeds)
    ((ensemble, history),) = train_stage(
        "encoder", [part], [untrained], training, seeds, checkpoints
    )
    statistics, vocabulary = ensemble.scalers.statistics, ensemble.vocabulary
    trained = Pretrained.of(ensemble.network, vocabulary=vocabulary, statistics=statistics)
    return trained, history


def member_seeds(training: TrainingConfig) -> list[int]:
    """The seed of each member."""
    return [training.seed * 1_009 + i for i in range(training.members)]


def train_stage(
    name: str,
    parts: Sequence[Part],
    ensembles: Sequence[Ensemble],
    settings: TrainingConfig,
    seeds: Sequence[int],
    checkpoints: Checkpoints,
) -> list[Trained]:
    """Train folds for one stage, those with the same steps as one model.

    Each fold has its samples and its model as the stage starts, and all have the seeds of the
    members. Without validation samples the last epoch is kept.

    Returns:
        Of each fold its model, which remembers its training samples, and its history: a row per
        member and epoch.

    Raises:
        UserError: no such device, the training diverged, or the memory is too small for one fold.
    """
    device = device_of(settings.device)
    groups: dict[tuple[Steps, bool], list[int]] = {}
    for i, (part, ensemble) in enumerate(zip(parts, ensembles, strict=True)):
        memory = ensemble.network.config.memory
        steps = steps_of(len(part.train), batch_size=settings.batch_size, memory=memory)
        groups.setdefault((steps, part.holds_out_systems()), []).append(i)
    if len(parts) > 1:
        sizes = ", ".join(str(len(folds)) for folds in groups.values())
        log.info("%s: folds that train as one model, by their number of rows: %s", name, sizes)
    trained: dict[int, Trained] = {}
    for folds in groups.values():
        results = _train_or_halve(
            partial(_train_as_one, name, settings, seeds, checkpoints, device),
            [(parts[i], ensembles[i]) for i in folds],
            device,
        )
        trained |= zip(folds, results, strict=True)
    return [trained[i] for i in range(len(parts))]


def _train_or_halve(
    train: Callable[[Sequence[tuple[Part, Ensemble]]], list[Trained]],
    folds: Sequence[tuple[Part, Ensemble]],
    device: torch.device,
) -> list[Trained]:
    """Train folds as one model, or one half after the other if the memory is too small."""
    try:
        return train(folds)
    except torch.OutOfMemoryError as error:
        if len(folds) == 1:
            raise UserError(
                f"{device} has too little memory for a single fold: lower `model.memory`, "
                "`training.batch_size` or `training.members`, or set `training.device: cpu`"
            ) from error
    # after the exception, which keeps what had been computed
    torch.cuda.empty_cache()
    half = len(folds) // 2
    log.warning(
        "%s has too little memory for %d folds as one model: going on with %d and then %d",
        *(device, len(folds), half, len(folds) - half),
    )
    return [
        *_train_or_halve(train, folds[:half], device),
        *_train_or_halve(train, folds[half:], device),
    ]


def _train_as_one(
    stage: str,
    settings: TrainingConfig,
    seeds: Sequence[int],
    checkpoints: Checkpoints,
    device: torch.device,
    folds: Sequence[tuple[Part, Ensemble]],
) -> list[Trained]:
    """Train folds with the same steps as one model."""
    copies = [take_members(ensemble.network, slice(None)) for _, ensemble in folds]
    network = stack_members(copies).to(device)
    train = [ensemble.scalers.table(part.train) for part, ensemble in folds]
    validation = [
        thin_validation(ensemble.scalers.table(part.validation))
        for part, ensemble in folds
        if part.validation is not None
    ]
    # Kinds of device draw different numbers from a seed, so they do not share checkpoints.
    key = hash_of([device.type, *(part.key for part, _ in folds)])
    history = train_model(
        network,
        train=Table.stack(train),
        validation=Table.stack(validation) if validation else None,
        settings=settings,
        seeds=seeds,
        checkpoint=checkpoints.open(key, stage),
        whole_systems=folds[0][0].holds_out_systems(),
    )
    members, results = len(seeds), list[Trained]()
    for i, (table, (part, ensemble)) in enumerate(zip(train, folds, strict=True)):
        own = take_members(network, slice(i * members, (i + 1) * members))
        rows = [
            row | {"member": row["member"] % members}
            for row in history
            if row["member"] // members == i
        ]
        results.append((ensemble.trained_on(part.train, table, own), rows))
    return results
