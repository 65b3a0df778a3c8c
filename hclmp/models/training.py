"""The training loop: flat, with the best epoch by validation and a checkpoint after every epoch.

It knows no model by name: a model has ``loss(batch, labels) -> parts`` and ``forward(batch)``.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from hclmp.config import TrainingConfig
from hclmp.errors import UserError
from hclmp.models.checkpoint import DIVERGED, Checkpoint
from hclmp.models.hclmp import Batch
from hclmp.progress import progress


def train_model(
    model: nn.Module,
    *,
    train: tuple[Batch, Tensor],
    validation: tuple[Batch, Tensor],
    settings: TrainingConfig,
    seed: int,
    checkpoint: Checkpoint,
    name: str,
) -> list[dict[str, Any]]:
    """Train a model in place and leave it at its best epoch by validation error.

    Args:
        model: freshly built.
        train, validation: inputs and standardised labels [n, L], NaN where missing; whole tables,
            indexed by row.
        settings: epochs, batch size, optimiser.
        seed: of batches, draws and dropout.
        checkpoint: where an interrupted training goes on from.
        name: for the progress bar.

    Returns:
        One row per epoch: learning rate, parts of the loss, mean absolute error on validation.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=True)
    networks = {"model": model}
    optimizers: dict[str, torch.optim.Optimizer] = {"adam": optimizer}
    state = checkpoint.resume(networks, optimizers)
    with progress(name, settings.epochs) as advance:
        while state.epoch < settings.epochs:
            # Seeding each epoch by its number makes a resumed training equal an uninterrupted one.
            torch.manual_seed(seed * 100_003 + state.epoch + 1)
            epoch_rate = _rate(settings, state.epoch)
            try:
                losses = _epoch(model, optimizer, *train, settings.batch_size, epoch_rate)
            except LinAlgError as error:  # a covariance that is not finite
                raise UserError(DIVERGED) from error
            mae = validation_error(model, *validation)
            row = {"learning_rate": epoch_rate, **losses, "validation_mae": mae}
            state.finish_epoch(row, score=mae, network=model)
            checkpoint.save(state, networks, optimizers)
            advance(state.epoch, f"loss {losses['loss']:.4f}, validation {mae:.4f}")
    state.restore_best(model)
    return state.history


@torch.no_grad()
def validation_error(model: nn.Module, batch: Batch, labels: Tensor) -> float:
    """Mean absolute error of the deterministic prediction, standardised, of the labels there."""
    model.eval()
    return float((model(batch) - labels).abs().nanmean())


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    labels: Tensor,
    batch_size: int,
    rate: float,
) -> dict[str, float]:
    """One pass over the rows in a new order; the mean of each part of the loss."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    totals: dict[str, Tensor] = {}
    batches = torch.split(torch.randperm(len(labels)), batch_size)
    for rows in batches:
        parts = model.loss(batch.rows(rows), labels[rows])  # type: ignore[operator]
        loss = torch.stack(list(parts.values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for name, part in {"loss": loss, **parts}.items():
            totals[name] = totals.get(name, torch.zeros(())) + part.detach()
    return {name: float(total) / len(batches) for name, total in totals.items()}


def _rate(settings: TrainingConfig, epoch: int) -> float:
    """The learning rate of an epoch."""
    if settings.schedule == "halve":
        return settings.learning_rate * (0.5 if 2 * epoch >= settings.epochs else 1.0)
    done = torch.tensor(torch.pi * epoch / settings.epochs, dtype=torch.float64)
    return settings.learning_rate * 0.5 * (1 + float(torch.cos(done)))
