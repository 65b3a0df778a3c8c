"""The training loop: flat, with the best epoch by validation and a checkpoint after every epoch.

The members of an ensemble train side by side, each on batches in an order of its own.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from hclmp.config import TrainingConfig
from hclmp.errors import UserError
from hclmp.models.checkpoint import DIVERGED, Checkpoint
from hclmp.models.hclmp import HCLMP, ROWS_AT_ONCE, Batch, Labels
from hclmp.models.losses import mean_error
from hclmp.models.members import Draws
from hclmp.models.recall import evenly_spread
from hclmp.progress import progress

WARM_UP = 0.1  # share of the training in which the learning rate rises
MEASURED = 4096  # validation rows at most that choose the best epoch, evenly spread
FEWEST_STEPS = 4  # per epoch: a small table is cut into smaller batches


def train_model(
    model: HCLMP,
    *,
    train: tuple[Batch, Labels],
    validation: tuple[Batch, Labels] | None,
    settings: TrainingConfig,
    seeds: Sequence[int],
    checkpoint: Checkpoint,
    whole_systems: bool,
) -> list[dict[str, Any]]:
    """Train the members of a model in place and leave each at its best epoch by validation error.

    Args:
        model: freshly built, of m members, or one that goes on from where it is.
        train, validation: inputs and standardised labels [n, L]; whole tables, indexed by row.
            Without validation the last epoch is kept.
        settings: epochs, batch size, optimiser.
        seeds: [m], of batches, draws and dropout.
        checkpoint: where an interrupted training goes on from.
        whole_systems: whether the model is to predict systems it has no row of, as in validation.

    Returns:
        One row per member and epoch: learning rate, parts of the loss, mean absolute error on
        validation where there is one.

    Raises:
        UserError: the training diverged.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=True)
    average = copy.deepcopy(model)
    networks: dict[str, nn.Module] = {"model": model, "average": average}
    optimizers: dict[str, torch.optim.Optimizer] = {"adam": optimizer}
    state = checkpoint.resume(networks, optimizers)
    measured = None
    if validation is not None:
        some = evenly_spread(len(validation[1].values), MEASURED)
        measured = validation[0].rows(some), validation[1].rows(some)
    what = f"{len(seeds)} members" + (", all rows" if validation is None else "")
    with progress(what, settings.epochs) as advance:
        while state.epoch < settings.epochs:
            # Seeding each epoch by its number makes a resumed training equal an uninterrupted one.
            draws = Draws([_generator(seed, state.epoch) for seed in seeds])
            try:
                losses = _epoch(
                    model, average, optimizer, train, settings, state.epoch, draws, whole_systems
                )
            except LinAlgError as error:  # a covariance that is not finite
                raise UserError(DIVERGED) from error
            now = {"learning_rate": _rate(settings, state.epoch)}
            rows: list[dict[str, Any]] = [
                {"member": i, **now, **parts} for i, parts in enumerate(losses)
            ]
            errors = [math.nan] * len(seeds)
            if measured is not None:
                average.remember(*train)
                errors = validation_errors(average, *measured)
                rows = [row | {"validation_mae": e} for row, e in zip(rows, errors, strict=True)]
            state.finish_epoch(rows, scores=errors, network=average)
            checkpoint.save(state, networks, optimizers)
            advance(state.epoch, f"validation {sum(errors) / len(errors):.4f}")
    if validation is not None:
        state.restore_best(model)
    else:
        _keep_last(model, average)
    model.remember(*train)
    return state.history


def _keep_last(model: HCLMP, average: HCLMP) -> None:
    """Leave a model, ready to predict, at the average of its last weights."""
    if not all(weight.isfinite().all() for weight in average.parameters()):
        raise UserError(DIVERGED)
    model.load_state_dict(average.state_dict())
    model.eval()


@torch.no_grad()
def predicted(model: HCLMP, table: Batch) -> tuple[Tensor, Tensor]:
    """Predictions of a whole table and the spread of what was recalled: [m, n, L] each."""
    parts = torch.split(torch.arange(table.present.shape[1]), ROWS_AT_ONCE)
    outputs = [model(table.rows(rows)) for rows in parts]
    mean, spread = (torch.cat(part, dim=1) for part in zip(*outputs, strict=True))
    return mean, spread


def validation_errors(model: HCLMP, table: Batch, labels: Labels) -> list[float]:
    """Weighted mean absolute error of each member's deterministic prediction: [m]."""
    mean = predicted(model, table)[0]
    errors = mean_error(mean, labels.values.expand_as(mean), labels.weights.expand_as(mean))
    return [float(error) for error in errors]


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 100_003 + epoch + 1)


def _epoch(
    model: HCLMP,
    average: HCLMP,
    optimizer: torch.optim.Optimizer,
    train: tuple[Batch, Labels],
    settings: TrainingConfig,
    epoch: int,
    draws: Draws,
    whole_systems: bool,
) -> list[dict[str, float]]:
    """One pass over the rows in a new order; the mean of each part of the loss, per member."""
    table, labels = train
    n = len(labels.values)
    steps = max(round(n / settings.batch_size), min(n, FEWEST_STEPS))
    queries = -(-n // steps)
    steps = -(-n // queries)
    recalled = min(max(model.config.memory, queries), n)
    # Each row is predicted once (a few twice, so that all batches are of one size); what it
    # recalls are the rows beside it and those that follow in the random order.
    orders = draws.orders(n)
    totals: dict[str, Tensor] = {}
    for step in range(steps):
        rows = orders[:, torch.arange(step * queries, step * queries + recalled) % n]
        for group in optimizer.param_groups:
            group["lr"] = _rate(settings, epoch + step / steps)
        parts = model.loss(
            table.rows(rows),
            labels.rows(rows),
            queries=queries,
            draws=draws,
            whole_systems=whole_systems,
        )
        loss = torch.stack(list(parts.values())).sum(dim=0)
        optimizer.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _average(average, model, settings.averaging, epoch * steps + step)
        for name, part in {"loss": loss, **parts}.items():
            totals[name] = totals.get(name, torch.zeros_like(part)) + part.detach()
    means = {name: (total / steps).tolist() for name, total in totals.items()}
    return [{name: mean[i] for name, mean in means.items()} for i in range(len(loss))]


@torch.no_grad()
def _average(average: HCLMP, model: HCLMP, share: float, step: int) -> None:
    """Move the running average of the weights; in the first steps it follows faster."""
    share = min(share, step / (step + 10))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - share)


def _rate(settings: TrainingConfig, epoch: float) -> float:
    """The learning rate after so many epochs."""
    done = epoch / settings.epochs
    if settings.schedule == "halve":
        return settings.learning_rate * (0.5 if done >= 0.5 else 1.0)
    if done < WARM_UP:
        return settings.learning_rate * (0.04 + 0.96 * done / WARM_UP)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
