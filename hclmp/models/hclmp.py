"""H-CLMP(T), the whole model: composition encoder, property correlation, generative transfer.

Kong, Guevarra, Gomes and Gregoire, Appl. Phys. Rev. 8, 021409 (2021), arXiv:2106.02225. The
composition encoder is Roost's (Goodall and Lee, Nat. Commun. 11, 6280, 2020). Shapes: b
compositions of up to k elements, L properties.

What differs from the published code and why is in ``docs/method.md``; in short: predictions are
deterministic (latent means, no draws), single elements are allowed (an element also attends to
itself), and the spectrum-shape term is a proper KL divergence.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hclmp.config import ModelConfig
from hclmp.models.layers import SLOPE, mlp

JITTER = 1e-2  # added to the diagonal of the covariance, whose residuals have unit variance
# Adam moves every number by about the learning rate per step, which is too little to turn a random
# covariance into a learned one. What is optimised is the factor over this.
FACTOR_SPEED = 10.0
LOG_VARIANCE_BOUND = 8.0


class Batch(NamedTuple):
    """What the model sees: ``elements`` and ``fractions`` [b, k], ``dos`` [b, D] or None."""

    elements: Tensor
    fractions: Tensor
    dos: Tensor | None

    def rows(self, rows: Tensor) -> "Batch":
        """The batch of these rows."""
        dos = None if self.dos is None else self.dos[rows]
        return Batch(self.elements[rows], self.fractions[rows], dos)


def weighted_softmax(gate: Tensor, fractions: Tensor, power: Tensor) -> Tensor:
    """Softmax over elements, weighted by fraction^power; elements of fraction 0 get nothing.

    Args:
        gate: [..., k, heads].
        fractions: [..., k].
        power: [heads].
    """
    present = (fractions > 0)[..., None]
    log_weight = power * torch.where(fractions > 0, fractions, 1.0).log()[..., None]
    return torch.softmax((gate + log_weight).masked_fill(~present, -torch.inf), dim=-2)


class Heads(nn.Module):
    """The last layers of the gate and message networks of several heads, and their attention.

    Because attention weights sum to 1, the messages' last (linear) layer is applied after the
    weighted sum instead of to every pair: the same numbers for a fraction of the work.
    """

    def __init__(self, heads: int, hidden: int, size: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.empty(heads, hidden))
        self.message = nn.Linear(heads * hidden, size)
        self.power = nn.Parameter(torch.randn(heads))
        nn.init.kaiming_uniform_(self.gate, a=5**0.5)
        self.heads = heads

    def forward(self, gate_hidden: Tensor, message_hidden: Tensor, fractions: Tensor) -> Tensor:
        """Hidden layers [..., k, heads, hidden] and fractions [..., k] to vectors [..., size]."""
        gate = (gate_hidden * self.gate).sum(dim=-1)
        attention = weighted_softmax(gate, fractions, self.power)
        gathered = (attention[..., None] * message_hidden).sum(dim=-3)
        out: Tensor = self.message(gathered.flatten(-2))
        return out / self.heads  # the mean over heads


class MessageLayer(nn.Module):
    """One round of message passing over the complete graph of a composition's elements."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shape = (2, config.message_heads, config.message_hidden)  # 2: gate and message
        width = 2 * config.message_heads * config.message_hidden
        # The first layer acts on the pair (own, other): a sum of two maps, so no pair is built.
        self.own = nn.Linear(config.element_size, width)
        self.other = nn.Linear(config.element_size, width, bias=False)
        self.heads = Heads(config.message_heads, config.message_hidden, config.element_size)

    def forward(self, vectors: Tensor, fractions: Tensor) -> Tensor:
        """Element vectors [b, k, size] to updated ones."""
        pairs = self.own(vectors)[:, :, None] + self.other(vectors)[:, None]
        hidden = F.leaky_relu(pairs, SLOPE)
        hidden = hidden.view(*hidden.shape[:-1], *self.shape)
        sent: Tensor = self.heads(hidden[..., 0, :, :], hidden[..., 1, :, :], fractions[:, None])
        return vectors + sent


class CompositionEncoder(nn.Module):
    """Composition to material vector (Roost)."""

    vectors: Tensor

    def __init__(self, config: ModelConfig, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.embedding = nn.Linear(vectors.shape[1], config.element_size - 1)
        self.layers = nn.ModuleList(MessageLayer(config) for _ in range(config.message_layers))
        self.shape = (2, config.pooling_heads, config.message_hidden)
        self.pool = nn.Linear(config.element_size, 2 * config.pooling_heads * config.message_hidden)
        self.heads = Heads(config.pooling_heads, config.message_hidden, config.element_size)

    def forward(self, elements: Tensor, fractions: Tensor) -> Tensor:
        """Elements and fractions [b, k] to material vectors [b, size]."""
        embedded = self.embedding(self.vectors)[elements]
        vectors = torch.cat([embedded, fractions[..., None]], dim=-1)
        for layer in self.layers:
            vectors = layer(vectors, fractions)
        hidden = F.leaky_relu(self.pool(vectors), SLOPE)
        hidden = hidden.view(*hidden.shape[:-1], *self.shape)
        out: Tensor = self.heads(hidden[..., 0, :, :], hidden[..., 1, :, :], fractions)
        return out


class GaussianEncoder(nn.Module):
    """A diagonal Gaussian over the latent space, given some vector."""

    def __init__(self, size: int, hidden: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.network = mlp([size, *hidden, 2 * latent])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[b, size] to mean and log-variance, [b, latent] each."""
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
        factor = torch.empty(properties, properties).uniform_(-bound, bound)
        self.slow_factor = nn.Parameter(factor / FACTOR_SPEED)
        if self.drawn:
            self.register_buffer("fixed_noise", torch.randn(properties, size))
        else:
            self.prediction_map = nn.Parameter(torch.randn(size) / size**0.5)
            self.factor_map = nn.Parameter(torch.randn(properties, size) / size**0.5)
        self.attention = (
            nn.TransformerEncoderLayer(
                size,
                config.attention_heads,
                config.attention_hidden,
                config.dropout,
                batch_first=True,
            )
            if config.property_attention
            else nn.Identity()
        )

    def forward(self, first: Tensor) -> Tensor:
        """First predictions [b, L] to refined tokens [b, L, size]."""
        if self.drawn:
            size = self.fixed_noise.shape[1]
            noise = torch.randn_like(self.fixed_noise) if self.training else self.fixed_noise
            tokens = first[..., None].expand(*first.shape, size)
            if self.use_covariance:
                tokens = tokens + self.factor @ noise
            tokens = F.normalize(tokens, dim=-1)
        else:
            tokens = first[..., None] * self.prediction_map
            if self.use_covariance:
                tokens = tokens + self.factor @ self.factor_map
        out: Tensor = self.attention(tokens)
        return out

    @property
    def factor(self) -> Tensor:
        """The covariance factor A: [L, L]."""
        return FACTOR_SPEED * self.slow_factor

    def covariance(self) -> Tensor:
        """The learned covariance A A^T of the residuals, each scaled to unit variance: [L, L]."""
        factor = self.factor
        return factor @ factor.T + JITTER * torch.eye(len(factor), device=factor.device)


class HCLMP(nn.Module):
    """H-CLMP, or with a DOS feature H-CLMP(T); labels and predictions are standardised.

    Args:
        config: sizes and parts.
        vectors: [V, d] fixed element vectors.
        properties: how many (L).
        dos: length of the DOS feature (D), or None for H-CLMP.
    """

    def __init__(
        self, config: ModelConfig, *, vectors: Tensor, properties: int, dos: int | None
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = CompositionEncoder(config, vectors)
        self.dos_map = nn.Linear(dos, config.dos_size) if dos else None
        feature = config.element_size + (config.dos_size if dos else 0)
        self.feature_encoder = GaussianEncoder(
            feature, config.feature_encoder_hidden, config.latent
        )
        self.decoder = mlp([feature + config.latent, *config.decoder_hidden, config.property_size])
        bound = config.property_size**-0.5
        self.properties = nn.Parameter(
            torch.empty(config.property_size, properties).uniform_(-bound, bound)
        )
        self.refinement = Refinement(config, properties)
        self.feature_head = nn.Linear(config.token_size, 1)
        if config.label_branch:
            self.label_encoder = GaussianEncoder(
                properties, config.label_encoder_hidden, config.latent
            )
            self.label_head = nn.Linear(config.token_size, 1)

    def material(self, batch: Batch) -> Tensor:
        """The material vector, with the mapped DOS feature where there is one: [b, F]."""
        vector: Tensor = self.encoder(batch.elements, batch.fractions)
        if self.dos_map is None:
            return vector
        return torch.cat([vector, self.dos_map(batch.dos)], dim=-1)

    def _branch(self, material: Tensor, latent: Tensor, head: nn.Module) -> Tensor:
        """Decode a latent vector to predictions: [b, L]."""
        decoded = self.decoder(torch.cat([material, latent], dim=-1))
        first = F.leaky_relu(decoded, SLOPE) @ self.properties
        refined: Tensor = head(self.refinement(first)).squeeze(-1)
        return first + 0.5 * refined

    def forward(self, batch: Batch) -> Tensor:
        """Predict, without anything random: [b, L]."""
        material = self.material(batch)
        mean, _ = self.feature_encoder(material)
        return self._branch(material, mean, self.feature_head)

    def loss(self, batch: Batch, labels: Tensor) -> dict[str, Tensor]:
        """The parts of the loss, weighted; their sum is minimised.

        Args:
            batch: b compositions.
            labels: [b, L], standardised; NaN where missing, which counts in no part.
        """
        config, material = self.config, self.material(batch)
        present = ~labels.isnan()
        labels = labels.nan_to_num()  # the label encoder sees the mean where a label is missing
        p_mean, p_log_variance = self.feature_encoder(material)
        predicted = self._branch(material, _drawn(p_mean, p_log_variance), self.feature_head)
        parts = {
            "l1": mean_error(predicted, labels, present),
            "shape": config.shape_weight * shape_divergence(predicted, labels, present),
        }
        if config.label_branch:
            q_mean, q_log_variance = self.label_encoder(labels)
            told = self._branch(material, _drawn(q_mean, q_log_variance), self.label_head)
            parts["label_l1"] = mean_error(told, labels, present)
            parts["label_shape"] = config.shape_weight * shape_divergence(told, labels, present)
            parts["kl"] = config.kl_weight * gaussian_kl(
                q_mean, q_log_variance, p_mean, p_log_variance
            )
        if config.covariance and config.likelihood_weight > 0:
            residual = (labels - predicted).detach() * present
            # The size of the residuals is measured on validation rows; learned is how they go
            # together, so the likelihood sees each property's at unit variance.
            variance = residual.square().sum(dim=0) / present.sum(dim=0).clamp_min(1)
            residual = residual / variance.sqrt().clamp_min(1e-6)
            parts["likelihood"] = config.likelihood_weight * gaussian_nll(
                residual, self.refinement.covariance(), present
            )
        return parts


def _drawn(mean: Tensor, log_variance: Tensor) -> Tensor:
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()


def gaussian_kl(q_mean: Tensor, q_log: Tensor, p_mean: Tensor, p_log: Tensor) -> Tensor:
    """KL(q || p) of diagonal Gaussians given by mean and log-variance, mean over the batch."""
    distance = (q_mean - p_mean).square() / p_log.exp()
    return 0.5 * ((q_log - p_log).exp() + distance - 1 + p_log - q_log).sum(dim=-1).mean()


def mean_error(predicted: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """Mean absolute error of the labels [b, L] that are present."""
    error: Tensor = ((predicted - labels).abs() * present).sum() / present.sum().clamp_min(1)
    return error


def shape_divergence(predicted: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """KL between the softmax of labels and of predictions over the properties present: [b, L].

    The mean over the batch.
    """
    # not -inf: a row without any label would give NaN
    hidden = torch.where(present, 0.0, -1e4)
    log_predicted = F.log_softmax(predicted + hidden, dim=-1)
    log_labels = F.log_softmax(labels + hidden, dim=-1)
    return F.kl_div(log_predicted, log_labels, reduction="batchmean", log_target=True)


def gaussian_nll(residual: Tensor, covariance: Tensor, present: Tensor) -> Tensor:
    """Mean negative log-likelihood per property of residuals [b, L] under N(0, covariance).

    Only the properties present count: theirs is the marginal distribution. What is not present
    must have residual 0.
    """
    if present.all():
        factor = torch.linalg.cholesky(covariance)
        scaled = torch.linalg.solve_triangular(factor, residual.T, upper=False).T
        half_log_determinant = factor.diagonal().log().sum()
    else:  # a unit variance of its own takes the place of what is missing
        pairs = present[:, :, None] & present[:, None]
        marginal = torch.where(pairs, covariance, torch.eye(len(covariance)))
        factor = torch.linalg.cholesky(marginal)
        scaled = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
        half_log_determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1).mean()
    half_distance = 0.5 * scaled.square().sum(dim=-1).mean()
    nll: Tensor = (half_distance + half_log_determinant) / len(covariance)
    return nll
