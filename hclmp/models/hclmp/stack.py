"""Folds that train as one model: the members of all of them side by side.

A fold comes out as it would alone, to the rounding of the last digits: its batches, draws and best
epochs are its own.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hclmp.config import TrainingConfig
from hclmp.errors import UserError
from hclmp.models.checkpoint import Checkpoint
from hclmp.models.hclmp.batch import Table
from hclmp.models.hclmp.layers import part_of, stacked
from hclmp.models.hclmp.network import HCLMP
from hclmp.models.hclmp.training import Steps, steps_of, thin_validation, train_model
from hclmp.provenance import hash_of

log = logging.getLogger(__name__)
History = list[dict[str, Any]]


@dataclass(frozen=True)
class Fold:
    """A fold as one stage of its training starts.

    Attributes:
        network: of its members, freshly built or trained before.
        train, validation: its tables; without validation the last epoch is kept.
        whole_systems: as ``train_model`` has it.
        key: all that determines the result.
    """

    network: HCLMP
    train: Table
    validation: Table | None
    whole_systems: bool
    key: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A stage of the training of several folds.

    Attributes:
        name: of the stage, in the checkpoints.
        settings: of the training.
        seeds: of the members of a fold.
        device: what computes.
        used: where the checkpoints are noted, to be removed once the results are written.
    """

    name: str
    settings: TrainingConfig
    seeds: Sequence[int]
    device: torch.device
    used: list[Checkpoint]

    def train(self, folds: Sequence[Fold]) -> list[tuple[HCLMP, History]]:
        """Train folds, those whose steps agree as one model.

        Returns:
            Of each fold its trained network, which has yet to remember its rows, and its history:
            a row per member and epoch.

        Raises:
            UserError: the training diverged, or a single fold is too much for the device's memory.
        """
        alike: dict[tuple[Steps, bool], list[int]] = {}
        for i, fold in enumerate(folds):
            steps = steps_of(
                fold.train.counts[0],
                batch_size=self.settings.batch_size,
                memory=fold.network.config.memory,
            )
            alike.setdefault((steps, fold.whole_systems), []).append(i)
        if len(folds) > 1:
            sizes = ", ".join(str(len(rows)) for rows in alike.values())
            log.info(
                "%s: folds that train as one model, by their number of rows: %s", self.name, sizes
            )
        done: dict[int, tuple[HCLMP, History]] = {}
        for rows in alike.values():
            done |= zip(rows, self._as_one([folds[i] for i in rows]), strict=True)
        return [done[i] for i in range(len(folds))]

    def _as_one(self, folds: Sequence[Fold]) -> list[tuple[HCLMP, History]]:
        """Train folds whose steps agree; halves of them where the memory is too small for all."""
        try:
            return self._trained(folds)
        except torch.OutOfMemoryError as error:
            if len(folds) == 1:
                raise UserError(
                    f"{self.device} has too little memory for a single fold: lower "
                    "`model.memory`, `training.batch_size` or `training.members`, or set "
                    "`training.device: cpu`"
                ) from error
        # out here, where the exception no longer holds what had been computed
        torch.cuda.empty_cache()
        half = len(folds) // 2
        log.warning(
            "%s has too little memory for %d folds as one model: going on with %d and then %d",
            *(self.device, len(folds), half, len(folds) - half),
        )
        return self._as_one(folds[:half]) + self._as_one(folds[half:])

    def _trained(self, folds: Sequence[Fold]) -> list[tuple[HCLMP, History]]:
        """Train folds whose steps agree as one model."""
        copies = [part_of(fold.network, slice(None)) for fold in folds]
        network = stacked(copies).to(self.device)
        # Kinds of device draw other numbers from a seed: none goes on from another's checkpoint.
        key = hash_of([self.device.type, *(fold.key for fold in folds)])
        checkpoint = Checkpoint(key, self.name)
        self.used.append(checkpoint)
        tables = [fold.validation for fold in folds if fold.validation is not None]
        history = train_model(
            network,
            train=Table.stacked([fold.train for fold in folds]),
            validation=Table.stacked([thin_validation(table) for table in tables])
            if tables
            else None,
            settings=self.settings,
            seeds=self.seeds,
            checkpoint=checkpoint,
            whole_systems=folds[0].whole_systems,
        )
        members = len(self.seeds)
        return [
            (
                part_of(network, slice(i * members, (i + 1) * members)),
                [
                    row | {"member": row["member"] % members}
                    for row in history
                    if row["member"] // members == i
                ],
            )
            for i in range(len(folds))
        ]
