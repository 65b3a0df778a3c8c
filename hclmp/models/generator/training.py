"""Training of the generator, with a critic or without: the best epoch kept, then all DOS."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hclmp.config import GanConfig
from hclmp.models.checkpoint import Checkpoint, State, check_finite
from hclmp.models.generator.network import Generator, Materials
from hclmp.models.mlp import mlp
from hclmp.models.recall import hidden_in_training
from hclmp.progress import progress

DRAWS = 4  # of a composition in a generator step, compared with its true DOS
DRAWS_OF_VALIDATION = 16
SCORE_SHARE = 0.5  # weight of the energy score relative to the error of the mean: draws differ
BETAS = (0.5, 0.9)  # Gulrajani et al. use (0, 0.9); some momentum is steadier on small tables
LEAST_STEPS = 16  # per epoch: small tables have smaller batches


def train_generator(
    generator: Generator,
    *,
    train: Materials,
    validation: Materials,
    settings: GanConfig,
    checkpoint: Checkpoint,
) -> list[dict[str, Any]]:
    """Train a new generator in place, and leave it at its best epoch on the validation DOS.

    Returns:
        One row per epoch: losses, and energy score and error of the conditional mean on validation.

    Raises:
        UserError: the training diverged.
    """
    state = _train(generator, train, validation, settings.epochs, settings, checkpoint)
    state.restore_best(generator)
    return state.history


def refit_generator(
    generator: Generator,
    *,
    train: Materials,
    epochs: int,
    settings: GanConfig,
    checkpoint: Checkpoint,
) -> list[dict[str, Any]]:
    """Train a new generator in place without validation, for as many epochs as were the best ones.

    The learning rate falls as in ``train_generator``, along all epochs of the settings.

    Returns:
        One row per epoch: losses.

    Raises:
        UserError: the training diverged.
    """
    state = _train(generator, train, None, epochs, settings, checkpoint)
    check_finite(generator)
    return state.history


def best_epoch(history: list[dict[str, Any]]) -> int:
    """The epoch that ``train_generator`` chose."""
    scored = [row for row in history if isfinite(row["validation_energy_score"])]
    return int(min(scored, key=lambda row: row["validation_energy_score"])["epoch"])


def _train(
    generator: Generator,
    train: Materials,
    validation: Materials | None,
    epochs: int,
    settings: GanConfig,
    checkpoint: Checkpoint,
) -> State:
    """Train for a number of epochs, from the checkpoint if there is one."""
    conditions = generator.condition(train.fractions)
    if generator.recalls:
        generator.memory = train
    torch.manual_seed(settings.seed + 1)
    networks: dict[str, nn.Module] = {"generator": generator}
    if settings.critic_steps:
        widths = [conditions.shape[1] + train.dos.shape[1], *settings.critic_hidden, 1]
        networks["critic"] = mlp(widths)
    rate = settings.learning_rate
    optimizers: dict[str, Optimizer] = {
        f"{name}_adam": torch.optim.Adam(network.parameters(), lr=rate, betas=BETAS)
        for name, network in networks.items()
    }
    state = checkpoint.resume(networks, optimizers)
    with progress("generator" if validation else "generator, all DOS", epochs) as advance:
        while state.epoch < epochs:
            # Seeding each epoch by its number makes a resumed training equal an uninterrupted one.
            torch.manual_seed(settings.seed * 100_003 + state.epoch + 2)
            _set_rate(optimizers, rate * _cosine(state.epoch / settings.epochs))
            row = _epoch(generator, networks.get("critic"), optimizers, train, conditions, settings)
            if validation:
                row |= _validate(generator, validation)
            score = row.get("validation_energy_score", float("nan"))
            state.finish_epoch([row], scores=[score], network=generator)
            checkpoint.save(state, networks, optimizers, last=state.epoch == epochs)
            advance(state.epoch, f"mean error {row['mean_error']:.4f}")
    return state


def energy_score(samples: Tensor, truth: Tensor) -> Tensor:
    """Energy score of samples [n, m, D] against the truth [n, D]: one number per row, [n].

    E|X - y| - E|X - X'| / 2 with the norm of the whole DOS, per square root of D; a strictly proper
    score (Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359, 2007), lower is better.
    """
    m, scale = samples.shape[1], samples.shape[2] ** 0.5
    to_truth = torch.linalg.vector_norm(samples - truth[:, None], dim=-1).mean(dim=1)
    between = torch.cdist(samples, samples).sum(dim=(1, 2)) / (m * (m - 1))
    score: Tensor = (to_truth - between / 2) / scale
    return score


def _epoch(
    generator: Generator,
    critic: nn.Module | None,
    optimizers: Mapping[str, Optimizer],
    train: Materials,
    conditions: Tensor,
    settings: GanConfig,
) -> dict[str, float]:
    """One pass over the DOS in a new order; mean losses."""
    totals: dict[str, Tensor] = {}
    n = len(train.dos)
    size = min(settings.batch_size, -(-n // LEAST_STEPS))
    order = torch.randperm(n)
    # Each material is generated once; what it recalls are those that follow in the random order.
    cycle = torch.cat([order, order])
    starts = range(0, n, size)
    for start in starts:
        queries = min(size, n - start)
        rows = cycle[start : start + max(queries, min(settings.memory, n))]
        x, real = conditions[rows[:queries]], train.dos[rows[:queries]]
        recalled = _recalled(generator, train, conditions, rows, queries)
        fixed = None if recalled is None else recalled.detach()
        losses: dict[str, Tensor] = {}
        if critic is not None:
            for _ in range(settings.critic_steps):
                losses["critic_loss"] = _critic_step(
                    generator, critic, optimizers["critic_adam"], x, real, fixed, settings
                )
        adam = optimizers["generator_adam"]
        losses |= _generator_step(generator, critic, adam, x, real, recalled, settings)
        for name, loss in losses.items():
            totals[name] = totals.get(name, torch.zeros(())) + loss.detach()
    return {name: float(total) / len(starts) for name, total in totals.items()}


def _recalled(
    generator: Generator, train: Materials, conditions: Tensor, rows: Tensor, queries: int
) -> Tensor | None:
    """The DOS that the first rows recall from all these rows, [queries, D].

    They recall none of their own system, because a composition to be predicted has none either.
    """
    if not generator.recalls:
        return None
    keys = generator.key(conditions[rows])
    hidden = hidden_in_training(train.fractions[rows[:queries]], train.fractions[rows])
    return generator.attend(keys[:queries], keys, train.dos[rows], hidden)


def _critic_step(
    generator: Generator,
    critic: nn.Module,
    optimizer: Optimizer,
    x: Tensor,
    real: Tensor,
    recalled: Tensor | None,
    settings: GanConfig,
) -> Tensor:
    """Wasserstein loss with gradient penalty (Gulrajani et al., algorithm 1)."""
    with torch.no_grad():
        fake = generator(x, torch.randn(len(x), settings.noise), recalled)
    between = torch.rand(len(x), 1)
    mixed = (between * real + (1 - between) * fake).requires_grad_()
    judged = critic(torch.cat([x, mixed], dim=1)).sum()
    (slope,) = torch.autograd.grad(judged, mixed, create_graph=True)
    penalty = (torch.linalg.vector_norm(slope, dim=1) - 1).square().mean()
    of_fake, of_real = (critic(torch.cat([x, dos], dim=1)).mean() for dos in (fake, real))
    loss: Tensor = of_fake - of_real
    optimizer.zero_grad()
    (loss + settings.gradient_penalty * penalty).backward()
    optimizer.step()
    return loss


def _generator_step(
    generator: Generator,
    critic: nn.Module | None,
    optimizer: Optimizer,
    x: Tensor,
    real: Tensor,
    recalled: Tensor | None,
    settings: GanConfig,
) -> dict[str, Tensor]:
    """How far a few draws and their mean are from the true DOS, and what a critic says of one."""
    several = (-1, DRAWS, -1)
    noise = torch.randn(len(x), DRAWS, settings.noise)
    base = None if recalled is None else recalled[:, None].expand(several)
    fake = generator(x[:, None].expand(several), noise, base)
    mean_error = (fake.mean(dim=1) - real).abs().mean()
    score = energy_score(fake, real).mean()
    loss = settings.mean_weight * (mean_error + SCORE_SHARE * score)
    losses = {"mean_error": mean_error, "energy_score": score}
    if critic is not None:
        losses["generator_loss"] = -critic(torch.cat([x, fake[:, 0]], dim=1)).mean()
        loss = loss + losses["generator_loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return losses


@torch.no_grad()
def _validate(generator: Generator, data: Materials) -> dict[str, float]:
    samples = generator.samples(data.fractions, draws=DRAWS_OF_VALIDATION, seed=0)
    return {
        "validation_energy_score": float(energy_score(samples, data.dos).mean()),
        "validation_mae": float((samples.mean(dim=1) - data.dos).abs().mean()),
    }


def _cosine(done: float) -> float:
    """From 1 to a hundredth."""
    return 0.01 + 0.99 * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * done))))


def _set_rate(optimizers: dict[str, Optimizer], rate: float) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate
