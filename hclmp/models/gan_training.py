"""Training of the generator: critic and generator in turn, the best epoch kept."""

from typing import Any

import torch
from torch import Tensor, nn

from hclmp.config import GanConfig
from hclmp.models.checkpoint import Checkpoint
from hclmp.models.gan import Generator
from hclmp.models.layers import mlp
from hclmp.progress import progress

DRAWS_OF_THE_MEAN = 4  # whose mean the generator's loss pulls to the true DOS
DRAWS_OF_VALIDATION = 16
BETAS = (0.5, 0.9)  # Gulrajani et al. use (0, 0.9); some momentum is steadier on small tables


def train_generator(
    generator: Generator,
    *,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    settings: GanConfig,
    checkpoint: Checkpoint,
) -> list[dict[str, Any]]:
    """Train a generator in place, and leave it at its best epoch on the validation DOS.

    Args:
        generator: freshly built.
        train, validation: fractions [n, V] and scaled DOS [n, D].
        settings: of the training.
        checkpoint: where an interrupted training goes on from.

    Returns:
        One row per epoch: losses, and energy score and error of the conditional mean on validation.
    """
    x, dos = generator.condition(train[0]), train[1]
    torch.manual_seed(settings.seed + 1)
    critic = mlp([x.shape[1] + dos.shape[1], *settings.critic_hidden, 1])
    rate = settings.learning_rate
    g_opt = torch.optim.Adam(generator.network.parameters(), lr=rate, betas=BETAS)
    c_opt = torch.optim.Adam(critic.parameters(), lr=rate, betas=BETAS)
    networks: dict[str, nn.Module] = {"generator": generator.network, "critic": critic}
    optimizers: dict[str, torch.optim.Optimizer] = {"generator_adam": g_opt, "critic_adam": c_opt}
    state = checkpoint.resume(networks, optimizers)
    with progress("generator", settings.epochs) as advance:
        while state.epoch < settings.epochs:
            # Seeding each epoch by its number makes a resumed training equal an uninterrupted one.
            torch.manual_seed(settings.seed * 100_003 + state.epoch + 2)
            _set_rate(optimizers, rate * _cosine(state.epoch / settings.epochs))
            losses = _epoch(generator, critic, g_opt, c_opt, x, dos, settings)
            scores = _validate(generator, *validation)
            score = scores["validation_energy_score"]
            state.finish_epoch({**losses, **scores}, score=score, network=generator.network)
            checkpoint.save(state, networks, optimizers)
            advance(state.epoch, f"energy score {score:.4f}")
    state.restore_best(generator.network)
    generator.eval()
    return state.history


def energy_score(samples: Tensor, truth: Tensor) -> Tensor:
    """Energy score of samples [n, m, D] against the truth [n, D]: one number per row, [n].

    E|X - y| - E|X - X'| / 2 with the norm of the whole DOS, per square root of D; a strictly proper
    score (Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359, 2007), lower is better.
    """
    m, scale = samples.shape[1], samples.shape[2] ** 0.5
    to_truth = torch.linalg.vector_norm(samples - truth[:, None], dim=-1).mean(dim=1)
    apart = torch.cdist(samples, samples).sum(dim=(1, 2)) / (m * (m - 1))
    score: Tensor = (to_truth - apart / 2) / scale
    return score


def _epoch(
    generator: Generator,
    critic: nn.Module,
    g_opt: torch.optim.Optimizer,
    c_opt: torch.optim.Optimizer,
    x: Tensor,
    dos: Tensor,
    settings: GanConfig,
) -> dict[str, float]:
    """One pass over the DOS in a new order; mean losses."""
    totals: dict[str, Tensor] = {}
    batches = torch.split(torch.randperm(len(x)), settings.batch_size)
    for rows in batches:
        batch, real = x[rows], dos[rows]
        losses: dict[str, Tensor] = {}
        for _ in range(settings.critic_steps):
            losses["critic_loss"] = _critic_step(generator, critic, c_opt, batch, real, settings)
        losses |= _generator_step(generator, critic, g_opt, batch, real, settings)
        for name, loss in losses.items():
            totals[name] = totals.get(name, torch.zeros(())) + loss.detach()
    return {name: float(total) / len(batches) for name, total in totals.items()}


def _critic_step(
    generator: Generator,
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    real: Tensor,
    settings: GanConfig,
) -> Tensor:
    """Wasserstein loss with gradient penalty (Gulrajani et al., algorithm 1)."""
    with torch.no_grad():
        fake = generator(x, torch.randn(len(x), settings.noise))
    between = torch.rand(len(x), 1)
    mixed = (between * real + (1 - between) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(
        critic(torch.cat([x, mixed], dim=1)).sum(), mixed, create_graph=True
    )
    penalty = (torch.linalg.vector_norm(slope, dim=1) - 1).square().mean()
    loss: Tensor = (
        critic(torch.cat([x, fake], dim=1)).mean() - critic(torch.cat([x, real], dim=1)).mean()
    )
    optimizer.zero_grad()
    (loss + settings.gradient_penalty * penalty).backward()
    optimizer.step()
    return loss


def _generator_step(
    generator: Generator,
    critic: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    real: Tensor,
    settings: GanConfig,
) -> dict[str, Tensor]:
    """The critic's judgement, and the distance of the mean of a few draws from the true DOS."""
    noise = torch.randn(len(x), DRAWS_OF_THE_MEAN, settings.noise)
    fake = generator(x[:, None].expand(-1, DRAWS_OF_THE_MEAN, -1), noise)
    judged = critic(torch.cat([x, fake[:, 0]], dim=1)).mean()
    mean_error = (fake.mean(dim=1) - real).abs().mean()
    optimizer.zero_grad()
    (settings.mean_weight * mean_error - judged).backward()
    optimizer.step()
    return {"generator_loss": -judged, "mean_error": mean_error}


@torch.no_grad()
def _validate(generator: Generator, fractions: Tensor, dos: Tensor) -> dict[str, float]:
    samples = generator.samples(fractions, draws=DRAWS_OF_VALIDATION, seed=0)
    return {
        "validation_energy_score": float(energy_score(samples, dos).mean()),
        "validation_mae": float((samples.mean(dim=1) - dos).abs().mean()),
    }


def _cosine(done: float) -> float:
    """From 1 to a hundredth."""
    return 0.01 + 0.99 * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * done))))


def _set_rate(optimizers: dict[str, torch.optim.Optimizer], rate: float) -> None:
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = rate
