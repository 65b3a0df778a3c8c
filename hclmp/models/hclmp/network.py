"""H-CLMP(T), the whole model: composition encoder, property correlation, generative transfer.

Kong, Guevarra, Gomes and Gregoire, Appl. Phys. Rev. 8, 021409 (2021), arXiv:2106.02225. Shapes:
m members (networks trained side by side, ``members.py``), b compositions of up to k elements,
L properties.

What differs from the published code and why is in ``docs/method.md``; in short: a composition
recalls the labels of the training compositions most like it, predictions are deterministic (latent
means, no draws), single elements are allowed, and the spectrum-shape term is a proper KL
divergence.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hclmp.config import ModelConfig
from hclmp.models.hclmp.batch import Batch, Labels, Table, padded
from hclmp.models.hclmp.composition_encoder import CompositionEncoder
from hclmp.models.hclmp.layers import (
    Draws,
    MemberLinear,
    MemberNorm,
    Residual,
    TokenAttention,
    expand_like,
    member_mlp,
)
from hclmp.models.hclmp.losses import gaussian_kl, gaussian_nll, mean_error, shape_divergence
from hclmp.models.mlp import SLOPE
from hclmp.models.recall import attention, hidden_in_training, remembered

JITTER = 1e-2  # added to the diagonal of the covariance, whose residuals have unit variance
# Adam moves every number by about the learning rate per step, which is too little to turn a random
# covariance into a learned one. What is optimised is the factor over this.
FACTOR_SPEED = 10.0
LOG_VARIANCE_BOUND = 8.0
LEAST_SHARE = 1e-9  # of the attention on labels that are there
# Of all folds; predicting, which compares each row with all that is remembered, takes more memory.
ROWS_AT_ONCE, KEYS_AT_ONCE = 512, 2048
FEWEST_AT_ONCE = 64  # of a fold


def rows_at_once(folds: int, most: int = ROWS_AT_ONCE) -> int:
    """How many rows of each fold are computed at once: bounds the memory."""
    return max(most // folds, FEWEST_AT_ONCE)


class GaussianEncoder(nn.Module):
    """A diagonal Gaussian over the latent space, given some vector."""

    def __init__(self, size: int, hidden: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.network = member_mlp([size, *hidden, 2 * latent])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[m, b, size] to mean and log-variance, [m, b, latent] each."""
        mean, log_variance = self.network(x).chunk(2, dim=-1)
        return mean, log_variance.clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)


class Refinement(nn.Module):
    """Global (covariance) and conditional (self-attention) correlation between the properties.

    A property's token holds the first prediction and its row of the covariance factor A. The paper
    writes prediction + A @ noise over as many draws as the token is long, scaled to unit length
    over the draws; ``token_noise: learned`` replaces ones and noise by learned vectors.
    """

    fixed_noise: Tensor

    def __init__(self, config: ModelConfig, properties: int) -> None:
        super().__init__()
        size = config.token_size
        self.use_covariance, self.drawn = config.covariance, config.token_noise == "drawn"
        bound = (6 / (2 * properties)) ** 0.5
        factor = torch.empty(1, properties, properties).uniform_(-bound, bound)
        self.slow_factor = nn.Parameter(factor / FACTOR_SPEED)
        if self.drawn:
            self.register_buffer("fixed_noise", torch.randn(1, properties, size))
        else:
            self.prediction_map = nn.Parameter(torch.randn(1, size) / size**0.5)
            self.factor_map = nn.Parameter(torch.randn(1, properties, size) / size**0.5)
        self.attention = (
            TokenAttention(
                size,
                heads=config.attention_heads,
                hidden=config.attention_hidden,
                dropout=config.attention_dropout,
            )
            if config.property_attention
            else None
        )

    def forward(self, first: Tensor, draws: Draws | None) -> Tensor:
        """First predictions [m, b, L] to refined tokens [m, b, L, size]."""
        if self.drawn:
            noise = self.fixed_noise
            if draws is not None:
                noise = draws.normal(*noise.shape[1:])
            tokens = first[..., None].expand(*first.shape, noise.shape[-1])
            if self.use_covariance:
                tokens = tokens + (self.factor @ noise)[:, None]
            tokens = F.normalize(tokens, dim=-1)
        else:
            tokens = first[..., None] * expand_like(self.prediction_map, first[..., None])
            if self.use_covariance:
                tokens = tokens + (self.factor @ self.factor_map)[:, None]
        return tokens if self.attention is None else self.attention(tokens, draws)

    @property
    def factor(self) -> Tensor:
        """The covariance factor A: [m, L, L]."""
        return FACTOR_SPEED * self.slow_factor

    def covariance(self) -> Tensor:
        """The learned covariance A A^T of residuals of unit variance: [m, L, L]."""
        factor = self.factor
        return factor @ factor.mT + JITTER * torch.eye(factor.shape[-1], device=factor.device)


class MaterialEncoder(nn.Module):
    """All that is known of a composition to one material vector.

    The paper's is the composition encoder's vector with the mapped DOS feature beside it. With
    ``trunk > 0`` these and the statistics of the elements are summed and pass residual layers.
    """

    def __init__(
        self, config: ModelConfig, *, vectors: Tensor, statistics: int, dos: int | None
    ) -> None:
        super().__init__()
        self.trunk_size, self.dos_dropout = config.trunk, config.dos_dropout
        self.encoder = CompositionEncoder(config, vectors)
        self.dos_map = MemberLinear(dos, config.trunk or config.dos_size) if dos else None
        self.size = config.trunk or config.element_size + (config.dos_size if dos else 0)
        if config.trunk:
            self.encoder_map = MemberLinear(config.element_size, config.trunk)
            self.statistics_map = MemberLinear(statistics, config.trunk)
            layers = (Residual(config.trunk, config.dropout) for _ in range(config.trunk_layers))
            self.layers, self.norm = nn.ModuleList(layers), MemberNorm(config.trunk)

    def forward(self, batch: Batch, draws: Draws | None) -> Tensor:
        """b compositions to material vectors: [m, b, size]."""
        vector: Tensor = self.encoder(batch.elements, batch.fractions, batch.longest)
        mapped: list[Tensor] = []
        if self.dos_map is not None:
            assert batch.dos is not None
            dos = batch.dos
            # 0, the mean, stands for a feature that is hidden; the others stay as they are
            if draws is not None and self.dos_dropout > 0:
                ones = vector.new_ones(*vector.shape[:2], 1)
                dos = dos * (draws.dropout(ones, self.dos_dropout) > 0)
            mapped.append(self.dos_map(dos))
        if not self.trunk_size:
            return torch.cat([vector, *mapped], dim=-1)
        summed = sum(mapped, self.encoder_map(vector) + self.statistics_map(batch.statistics))
        for layer in self.layers:
            summed = layer(summed, draws)
        out: Tensor = self.norm(summed)
        return out


class Recalled(NamedTuple):
    """What the labelled compositions most like a composition say: [m, b, L] each.

    Attributes:
        labels: mean of their labels, weighted by likeness.
        spread: standard deviation of their labels about that mean; None in training.
        latent: [m, b, latent] mean of their latent vectors q(z | y), or None without label branch.
    """

    labels: Tensor
    spread: Tensor | None
    latent: Tensor | None


class HCLMP(nn.Module):
    """H-CLMP, or with a DOS feature H-CLMP(T); labels and predictions are standardised.

    A new one has one member; ``members.stacked`` makes one of several.

    Args:
        config: sizes and parts.
        vectors: [V, d] fixed element vectors.
        statistics: how many statistics of the elements (S).
        properties: how many (L).
        dos: length of the DOS feature (D), or None for H-CLMP.

    Attributes:
        memory_keys: [m, n, key], of the n labelled compositions that ``remember`` was given.
        memory_labels, memory_weights: [1, n, L], or [m, n, L] where folds remember their own.
        memory_padding: [m, 1, n], infinite where a fold has fewer than n; None without folds.
    """

    memory_keys: Tensor
    memory_labels: Tensor
    memory_weights: Tensor

    def __init__(
        self,
        config: ModelConfig,
        *,
        vectors: Tensor,
        statistics: int,
        properties: int,
        dos: int | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.material = MaterialEncoder(config, vectors=vectors, statistics=statistics, dos=dos)
        feature, latent = self.material.size, config.latent
        self.feature_encoder = GaussianEncoder(feature, config.feature_encoder_hidden, latent)
        self.decoder = member_mlp([feature + latent, *config.decoder_hidden, config.property_size])
        bound = config.property_size**-0.5
        embeddings = torch.empty(1, config.property_size, properties).uniform_(-bound, bound)
        self.properties = nn.Parameter(embeddings)
        self.refinement = Refinement(config, properties)
        self.feature_head = MemberLinear(config.token_size, 1)
        if config.label_branch:
            self.label_encoder = GaussianEncoder(properties, config.label_encoder_hidden, latent)
            self.label_head = MemberLinear(config.token_size, 1)
        if config.memory:
            self.key = MemberLinear(feature, config.key_size)
            self.log_sharpness = nn.Parameter(torch.zeros(1))
            # of any length, and made from weights and training rows: no part of the state
            for name, width in zip(MEMORY, (config.key_size, properties, properties), strict=True):
                self.register_buffer(name, torch.empty(1, 0, width), persistent=False)
        self.memory_padding: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.properties.device

    def memory(self) -> dict[str, Tensor]:
        """What is remembered, beside the state."""
        return {name: getattr(self, name) for name in MEMORY} if self.config.memory else {}

    @torch.no_grad()
    def remember(self, table: Table) -> None:
        """Keep labelled compositions to be recalled in prediction, of each fold its own.

        Of more than ``recall.MOST_REMEMBERED`` so many, evenly spread, are kept.
        """
        if not self.config.memory:
            return
        table = table.to(self.device)
        kept, there = (x.to(self.device) for x in padded([remembered(n) for n in table.counts]))
        fold = table.fold(len(self.properties))
        if fold is not None:  # of each member
            kept, there = kept[fold[:, 0]], there[fold[:, 0]]
        parts = torch.split(kept, rows_at_once(len(table.counts), KEYS_AT_ONCE), dim=1)
        keys = [self.key(self.material(table.inputs.rows(rows, fold), None)) for rows in parts]
        self.memory_keys = torch.cat(keys, dim=1)
        self.memory_labels, self.memory_weights = table.labels.rows(kept, fold)
        never = torch.zeros_like(there, dtype=torch.float32).masked_fill(~there, torch.inf)
        self.memory_padding = None if fold is None else never[:, None]

    def _recall(
        self,
        queries: Tensor,
        keys: Tensor,
        labels: Labels,
        hidden: Tensor | None,
        padding: Tensor | None = None,
    ) -> Recalled:
        """Attention of queries [m, b, key] over labelled compositions, keys [m, n, key].

        What is ``hidden``, [m, b, n], is passed over in training, and ``padding``, [m, 1, n], in
        prediction. A label counts by its weight.
        """
        sharpness = expand_like(self.log_sharpness.exp(), queries)
        told = [labels.weights, labels.weights * labels.values]
        if self.config.label_branch:
            row_weights = labels.weights.mean(dim=-1, keepdim=True)
            told += [row_weights, row_weights * self.label_encoder(labels.values)[0]]
        predicting = hidden is None
        if predicting:  # in single precision a row would depend on its batch by more than rounding
            told.append(labels.weights * labels.values.square())
            exact = torch.float32 if keys.device.type == "mps" else torch.float64  # MPS has no more
            queries, keys, told = queries.to(exact), keys.to(exact), [t.to(exact) for t in told]
        told = [t.expand(len(keys), -1, -1) for t in told]  # members share the labels
        passed = padding if predicting else hidden
        sums = attention(queries, keys, sharpness, passed) @ torch.cat(told, dim=-1)
        share, mean, *others = torch.split(sums, [t.shape[-1] for t in told], dim=-1)
        mean = mean / share.clamp_min(LEAST_SHARE)
        latent = others[1] / others[0].clamp_min(LEAST_SHARE) if len(others) > 1 else None
        spread = None
        if predicting:
            variance = others[-1] / share.clamp_min(LEAST_SHARE) - mean.square()
            # nothing recalled is no certainty: the spread of all labels
            variance = torch.where(share > LEAST_SHARE, variance.clamp_min(1e-6), 1.0)
            spread = variance.sqrt().float()
        return Recalled(mean.float(), spread, None if latent is None else latent.float())

    def _branch(
        self,
        material: Tensor,
        latent: Tensor,
        head: nn.Module,
        base: Tensor | float,
        draws: Draws | None,
    ) -> Tensor:
        """Decode a latent vector to predictions on top of ``base``: [m, b, L]."""
        decoded = self.decoder(torch.cat([material, latent], dim=-1))
        first = base + F.leaky_relu(decoded, SLOPE) @ self.properties
        refined: Tensor = head(self.refinement(first, draws)).squeeze(-1)
        return first + 0.5 * refined

    def _prior(
        self, material: Tensor, recalled: Recalled | None
    ) -> tuple[Tensor, Tensor, Tensor | float]:
        """p(z | x), mean and log-variance, and what the prediction starts from."""
        mean, log_variance = self.feature_encoder(material)
        if recalled is None:
            return mean, log_variance, 0.0
        if recalled.latent is not None:
            mean = mean + recalled.latent
        return mean, log_variance, recalled.labels

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Predict, without anything random: [m, b, L], and the spread of what was recalled.

        The spread, [m, b, L], is 0 without a memory.
        """
        material, recalled = self.material(batch, None), None
        if self.config.memory:
            labels = Labels(self.memory_labels, self.memory_weights)
            keys = self.memory_keys
            recalled = self._recall(self.key(material), keys, labels, None, self.memory_padding)
        mean, _, base = self._prior(material, recalled)
        predicted = self._branch(material, mean, self.feature_head, base, None)
        spread = None if recalled is None else recalled.spread
        return predicted, torch.zeros_like(predicted) if spread is None else spread

    def loss(
        self,
        batch: Batch,
        labels: Labels,
        *,
        queries: int,
        draws: Draws,
        whole_systems: bool,
        complete: bool = False,
    ) -> dict[str, Tensor]:
        """The parts of the loss, weighted, [m] each; their sum is minimised.

        Args:
            batch, labels: compositions and their labels [m, n, L], to be recalled from.
            queries: so many of them, the first, are predicted (b).
            draws: what is random in training.
            whole_systems: whether the model is to predict systems it has no row of. Then none is
                recalled of a composition's own system and its supersets; else only not itself.
            complete: whether it is known that no label is missing, which saves work.
        """
        config, material = self.config, self.material(batch, draws)
        recalled = None
        if config.memory:
            keys = self.key(material)
            hidden = hidden_in_training(
                batch.present[:, :queries], batch.present, whole_systems=whole_systems
            )
            recalled = self._recall(keys[:, :queries], keys, labels, hidden)
        material = material[:, :queries]
        values, weights = (part[:, :queries] for part in labels)
        p_mean, p_log_variance, base = self._prior(material, recalled)
        drawn = _drawn(p_mean, p_log_variance, draws)
        predicted = self._branch(material, drawn, self.feature_head, base, draws)
        parts = {
            "l1": mean_error(predicted, values, weights),
            "shape": config.shape_weight * shape_divergence(predicted, values, weights),
        }
        if config.label_branch:
            q_mean, q_log_variance = self.label_encoder(values)
            drawn = _drawn(q_mean, q_log_variance, draws)
            told = self._branch(material, drawn, self.label_head, base, draws)
            parts["label_l1"] = mean_error(told, values, weights)
            parts["label_shape"] = config.shape_weight * shape_divergence(told, values, weights)
            aligned = gaussian_kl(q_mean, q_log_variance, p_mean, p_log_variance)
            parts["kl"] = config.kl_weight * aligned
        if config.covariance and config.likelihood_weight > 0:
            parts["likelihood"] = config.likelihood_weight * self._likelihood(
                (values - predicted).detach(), weights > 0, complete
            )
        return parts

    def _likelihood(self, residual: Tensor, present: Tensor, complete: bool) -> Tensor:
        """How unlikely the learned covariance makes the residuals [m, b, L], per property: [m].

        The size of the residuals is measured on validation rows; learned is how they go together,
        so the likelihood sees each property's at unit variance.
        """
        residual = residual * present
        variance = residual.square().sum(dim=1) / present.sum(dim=1).clamp_min(1)
        residual = residual / variance.sqrt().clamp_min(1e-6)[:, None]
        covariance = self.refinement.covariance()
        return gaussian_nll(residual, covariance, None if complete else present)


MEMORY = ("memory_keys", "memory_labels", "memory_weights")


def _drawn(mean: Tensor, log_variance: Tensor, draws: Draws) -> Tensor:
    return mean + draws.normal(*mean.shape[1:]) * (0.5 * log_variance).exp()
