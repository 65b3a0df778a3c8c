"""The training loop, with the best epoch by validation, and checkpoints.

The members of an ensemble train side by side, each on the rows in an order of its own. So do the
members of several folds whose tables have the same steps.
"""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from hclmp.config import TrainingConfig
from hclmp.data.rows import evenly_spread
from hclmp.errors import UserError
from hclmp.models.checkpoint import DIVERGED, Checkpoint, History, check_finite
from hclmp.models.hclmp.batch import Batch, Table, pad_rows
from hclmp.models.hclmp.composition_encoder import lengths_of, longest_of_parts
from hclmp.models.hclmp.layers import Draws
from hclmp.models.hclmp.losses import mean_error
from hclmp.models.hclmp.network import HCLMP, rows_at_once
from hclmp.progress import progress

WARM_UP = 0.1  # share of the training in which the learning rate rises
MOST_VALIDATION = 4096  # rows that choose the best epoch, evenly spread
LEAST_STEPS = 4  # per epoch: small tables have smaller batches
CLASSES = 16  # of table sizes between one power of two and the next
ORDERS = 2**24  # added to a seed for the random orders


class Steps(NamedTuple):
    """The steps of an epoch."""

    number: int
    queries: int  # rows that a step predicts
    recalled: int  # rows that it recalls from; the first of them are the queries


def steps_of(n: int, *, batch_size: int, memory: int) -> Steps:
    """The steps of a table of n rows: each row is predicted once, a few twice.

    Tables of similar size have the same steps, so that folds can train as one model. The sizes from
    one power of two to the next (1024 to 2047) are cut into 16 equal classes (1024 to 1087, ...);
    below 32 rows each size is its own class. The steps of a class are long enough for its largest
    table, and recall no more rows than its smallest table has.
    """
    power = 2 ** math.floor(math.log2(n))
    width = max(1, power // CLASSES)
    smallest = n // width * width
    largest = smallest + width - 1
    number = max(round(largest / batch_size), min(n, LEAST_STEPS))
    queries = -(-largest // number)
    return Steps(-(-largest // queries), queries, min(max(memory, queries), smallest))


def train_model(
    model: HCLMP,
    *,
    train: Table,
    validation: Table | None,
    settings: TrainingConfig,
    seeds: Sequence[int],
    checkpoint: Checkpoint,
    whole_systems: bool,
) -> History:
    """Train the members of a model in place and leave each at its best epoch by validation error.

    Args:
        model: new or trained before, with the members of F folds, one fold after the other; on the
            device that computes.
        train, validation: tables of the folds, whose ``steps_of`` are equal. Without validation the
            last epoch is kept.
        settings, checkpoint: of the training.
        seeds: of orders, draws and dropout, for the members of a fold; the same in every fold.
        whole_systems: whether the model is to predict systems that it has no row of.

    Returns:
        One row per member (numbered through all folds) and epoch: learning rate, parts of the loss,
        and with validation the mean absolute error on it.

    Raises:
        UserError: the training diverged.
    """
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=True)
    average = copy.deepcopy(model)
    networks: dict[str, nn.Module] = {"model": model, "average": average}
    optimizers: dict[str, torch.optim.Optimizer] = {"adam": optimizer}
    state = checkpoint.resume(networks, optimizers)
    train = train.to(model.device)  # whole, once
    validation = None if validation is None else validation.to(model.device)
    folds = len(train.counts)
    members = folds * len(seeds)
    what = f"{len(seeds)} members" + (f" x {folds} folds" if folds > 1 else "")
    what += "" if validation else ", all rows"
    with progress(what, settings.epochs) as advance:
        while state.epoch < settings.epochs:
            try:
                losses = _epoch(
                    model, average, optimizer, train, settings, state.epoch, seeds, whole_systems
                )
            except LinAlgError as error:  # a covariance that is not finite
                raise UserError(DIVERGED) from error
            now = {"learning_rate": _rate(settings, state.epoch)}
            rows: History = [{"member": i, **now, **parts} for i, parts in enumerate(losses)]
            errors = [math.nan] * members
            shown, numbers = "loss", [parts["loss"] for parts in losses]
            if validation is not None:
                average.remember(train)
                errors = validation_errors(average, validation)
                rows = [row | {"validation_mae": e} for row, e in zip(rows, errors, strict=True)]
                shown, numbers = "validation", errors
            state.finish_epoch(rows, scores=errors, network=average)
            checkpoint.save(state, networks, optimizers, last=state.epoch == settings.epochs)
            advance(state.epoch, f"{shown} {sum(numbers) / len(numbers):.4f}")
    if validation is not None:
        state.restore_best(model)
    else:  # the average of the last weights
        check_finite(average)
        model.load_state_dict(average.state_dict())
    return state.history


def thin_validation(validation: Table) -> Table:
    """The rows of a fold's validation table that choose the best epoch."""
    rows = evenly_spread(validation.counts[0], MOST_VALIDATION)
    return validation.take(torch.from_numpy(rows))


@torch.no_grad()
def predict_tables(
    model: HCLMP, inputs: Batch, fold: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Predictions of whole tables [F, n, ...], and the spread of recalled labels: [m, n, L] each.

    ``fold`` is the table of each member, [m, 1]; None where all see the first.
    """
    folds, n = inputs.present.shape[:2]
    parts = torch.split(torch.arange(n, device=inputs.present.device), rows_at_once(folds))
    outputs = [model(inputs.rows(rows, fold)) for rows in parts]
    mean, spread = (torch.cat(part, dim=1) for part in zip(*outputs, strict=True))
    return mean, spread


def validation_errors(model: HCLMP, table: Table) -> list[float]:
    """Weighted mean absolute error of each member's deterministic prediction: [m]."""
    fold = table.fold(len(model.properties))
    mean = predict_tables(model, table.inputs, fold)[0]
    labels = (part if fold is None else part[fold[:, 0]] for part in table.labels)
    errors: list[float] = mean_error(mean, *(part.expand_as(mean) for part in labels)).tolist()
    return errors


def _epoch(
    model: HCLMP,
    average: HCLMP,
    optimizer: torch.optim.Optimizer,
    train: Table,
    settings: TrainingConfig,
    epoch: int,
    seeds: Sequence[int],
    whole_systems: bool,
) -> list[dict[str, float]]:
    """One pass over the rows in a new order: per member the mean of each part of the loss."""
    size, memory = settings.batch_size, model.config.memory
    (steps,) = {steps_of(n, batch_size=size, memory=memory) for n in train.counts}
    # Seeding each epoch by its number makes a resumed training equal an uninterrupted one.
    draws = Draws([_generator(seed, epoch, model.device) for seed in seeds], len(train.counts))
    rows = _rows(train.counts, steps, seeds, epoch, model.device)
    longest = _longest(train, rows)
    totals: dict[str, Tensor] = {}  # on the device, so that no step waits for it
    for step in range(steps.number):
        batch, labels = train.rows(rows[step])
        for group in optimizer.param_groups:
            group["lr"] = _rate(settings, epoch + step / steps.number)
        parts = model.loss(
            batch._replace(longest=longest[step]),
            labels,
            queries=steps.queries,
            draws=draws,
            whole_systems=whole_systems,
            complete=train.complete,
        )
        loss = torch.stack(list(parts.values())).sum(dim=0)
        optimizer.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        _average(average, model, settings.averaging, epoch * steps.number + step)
        for name, part in {"loss": loss, **parts}.items():
            totals[name] = totals.get(name, torch.zeros_like(part)) + part.detach()
    means = {name: (total / steps.number).tolist() for name, total in totals.items()}
    return [{name: mean[i] for name, mean in means.items()} for i in range(len(loss))]


def _generator(seed: int, epoch: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed * 100_003 + epoch + 1)


def _rows(
    counts: Sequence[int], steps: Steps, seeds: Sequence[int], epoch: int, device: torch.device
) -> list[Tensor]:
    """The rows of each step of an epoch, [m, recalled], for each member from its fold.

    Each member has a random order of its own. A row recalls those of its step and those that follow
    in that order.
    """
    cpu = torch.device("cpu")  # the same order on all devices
    # Generators of their own, so that the other draws do not depend on the number of rows.
    orders = [
        torch.randperm(count, generator=_generator(ORDERS + seed, epoch, cpu))
        for count in counts
        for seed in seeds
    ]
    numbers = torch.tensor([[len(order)] for order in orders])
    starts = range(0, steps.number * steps.queries, steps.queries)
    order = pad_rows(orders)[0]
    return [
        order.gather(1, torch.arange(start, start + steps.recalled) % numbers).to(device)
        for start in starts
    ]


def _longest(table: Table, rows: Sequence[Tensor]) -> list[list[int]]:
    """``Batch.longest`` of each step of an epoch."""
    lengths, fold = lengths_of(table.inputs.fractions), table.fold(len(rows[0]))
    parts = [longest_of_parts(lengths[0 if fold is None else fold, step]) for step in rows]
    longest: list[list[int]] = torch.stack(parts).tolist()
    return longest


@torch.no_grad()
def _average(average: HCLMP, model: HCLMP, share: float, step: int) -> None:
    """Update the running average of the weights, which follows them faster in the first steps."""
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
