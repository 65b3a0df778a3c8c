"""H-CLMP(T), the whole model: composition encoder, property correlation, generative transfer.

Kong, Guevarra, Gomes and Gregoire, Appl. Phys. Rev. 8, 021409 (2021), arXiv:2106.02225. Shapes:
m members (networks trained side by side, ``layers.py``), b compositions of up to k elements,
L properties.

``docs/method.md`` says what differs from the published code and why. In short: a composition
recalls the labels of the most similar training compositions (``recall.py``), predictions are
deterministic (latent means, no draws), single elements are allowed, and the term for the shape of
the spectrum is a proper KL divergence.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hclmp.config import ModelConfig
from hclmp.models.hclmp.batch import Batch, Labels, Table, pad_rows
from hclmp.models.hclmp.composition_encoder import CompositionEncoder
from hclmp.models.hclmp.layers import (
    Draws,
    MemberLinear,
    MemberNorm,
    Residual,
    expand_like,
    member_mlp,
)
from hclmp.models.hclmp.losses import gaussian_kl, gaussian_nll, mean_error, shape_divergence
from hclmp.models.hclmp.refinement import Refinement
from hclmp.models.mlp import SLOPE
from hclmp.models.recall import attention, hidden_in_training, remembered_rows

LOG_VARIANCE_BOUND = 8.0
LEAST_SHARE = 1e-9  # of the attention that is on labels which are not missing
# How many rows are computed at once, of all folds together: bounds the memory. Fewer in prediction,
# which compares each row with all remembered ones.
PREDICTED_AT_ONCE, REMEMBERED_AT_ONCE = 512, 2048
LEAST_AT_ONCE = 64  # of each fold


def rows_at_once(folds: int, of_all: int = PREDICTED_AT_ONCE) -> int:
    """How many rows of each fold are computed at once."""
    return max(of_all // folds, LEAST_AT_ONCE)


class GaussianEncoder(nn.Module):
    """A vector to a diagonal Gaussian over the latent space."""

    def __init__(self, size: int, hidden: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.network = member_mlp([size, *hidden, 2 * latent])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[m, b, size] to mean and log-variance, [m, b, latent] each."""
        mean, log_variance = self.network(x).chunk(2, dim=-1)
        return mean, log_variance.clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)


class MaterialEncoder(nn.Module):
    """A composition to its material vector.

    In the paper this is the vector of the composition encoder, concatenated with the mapped DOS
    feature. With ``trunk > 0`` it is their sum, and that of the mapped statistics of the elements,
    after residual layers.
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
            # In some rows the feature is replaced by 0, its mean; the others are not scaled up.
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
    """What b compositions recall of labelled ones: means weighted by similarity."""

    labels: Tensor  # [m, b, L]
    spread: Tensor | None  # [m, b, L], standard deviation of the labels; None in training
    latent: Tensor | None  # [m, b, latent], of q(z | y); None without label branch


class HCLMP(nn.Module):
    """H-CLMP, or with a DOS feature H-CLMP(T); labels and predictions are standardised.

    A new one has one member; ``layers.stack_members`` joins several.

    Args:
        vectors: [V, d] fixed element vectors.
        statistics, properties: how many of each (S, L).
        dos: length of the DOS feature (D), or None for H-CLMP.

    Attributes:
        memory_keys: [m, n, key], of the n labelled compositions that ``remember`` was given.
        memory_labels, memory_weights: [1, n, L], or [m, n, L] for several folds.
        memory_padding: [m, 1, n], infinite where a fold has fewer than n rows, else 0; None for a
            single fold.
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
            # not in the state dict: they have any length, and follow from weights and rows
            for name, width in zip(MEMORY, (config.key_size, properties, properties), strict=True):
                self.register_buffer(name, torch.empty(1, 0, width), persistent=False)
        self.memory_padding: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """The device that it is on."""
        return self.properties.device

    def memory(self) -> dict[str, Tensor]:
        """The remembered rows, which the state dict does not hold."""
        return {name: getattr(self, name) for name in MEMORY} if self.config.memory else {}

    @torch.no_grad()
    def remember(self, table: Table) -> None:
        """Keep labelled compositions for recall in prediction, for each fold its own.

        At most ``MOST_REMEMBERED`` of them, evenly spread.
        """
        if not self.config.memory:
            return
        table = table.to(self.device)
        rows, valid = (
            x.to(self.device) for x in pad_rows([remembered_rows(n) for n in table.counts])
        )
        fold = table.fold(len(self.properties))
        if fold is not None:  # from rows of each fold to rows of each member
            rows, valid = rows[fold[:, 0]], valid[fold[:, 0]]
        parts = torch.split(rows, rows_at_once(len(table.counts), REMEMBERED_AT_ONCE), dim=1)
        keys = [self.key(self.material(table.inputs.rows(part, fold), None)) for part in parts]
        self.memory_keys = torch.cat(keys, dim=1)
        self.memory_labels, self.memory_weights = table.labels.rows(rows, fold)
        padding = torch.zeros_like(valid, dtype=torch.float32).masked_fill(~valid, torch.inf)
        self.memory_padding = None if fold is None else padding[:, None]

    def _recall(
        self,
        queries: Tensor,
        keys: Tensor,
        labels: Labels,
        hidden: Tensor | None,
        padding: Tensor | None = None,
    ) -> Recalled:
        """Attention of queries [m, b, key] over labelled compositions, keys [m, n, key].

        Rows that are ``hidden``, [m, b, n], are not recalled in training; with None, in prediction,
        those of ``padding``, [m, 1, n], are not. Labels count by their weights.
        """
        sharpness = expand_like(self.log_sharpness.exp(), queries)
        values = [labels.weights, labels.weights * labels.values]
        if self.config.label_branch:
            row_weights = labels.weights.mean(dim=-1, keepdim=True)
            values += [row_weights, row_weights * self.label_encoder(labels.values)[0]]
        predicting = hidden is None
        if predicting:
            values.append(labels.weights * labels.values.square())
            # In single precision a prediction would depend on the rows that are computed with it.
            # MPS has no double precision.
            exact = torch.float32 if keys.device.type == "mps" else torch.float64
            queries, keys = queries.to(exact), keys.to(exact)
            values = [value.to(exact) for value in values]
        values = [value.expand(len(keys), -1, -1) for value in values]  # members share the labels
        ignored = padding if predicting else hidden
        sums = attention(queries, keys, sharpness, ignored) @ torch.cat(values, dim=-1)
        share, mean, *others = torch.split(sums, [value.shape[-1] for value in values], dim=-1)
        mean = mean / share.clamp_min(LEAST_SHARE)
        latent = others[1] / others[0].clamp_min(LEAST_SHARE) if len(others) > 1 else None
        spread = None
        if predicting:
            variance = others[-1] / share.clamp_min(LEAST_SHARE) - mean.square()
            # where nothing is recalled: the spread of all labels, which is 1
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
        """Mean and log-variance of p(z | x), and the recalled labels that branches add to."""
        mean, log_variance = self.feature_encoder(material)
        if recalled is None:
            return mean, log_variance, 0.0
        if recalled.latent is not None:
            mean = mean + recalled.latent
        return mean, log_variance, recalled.labels

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Prediction without draws, and spread of the recalled labels (0 if none): [m, b, L]."""
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
            batch, labels, draws: n compositions to recall from, labels [m, n, L], random numbers.
            queries: how many of them, the first b, are predicted.
            whole_systems: whether the model is to predict systems that it has no row of. If so,
                a composition recalls none of its own system and its supersets; else all but itself.
            complete: whether no label is known to be missing, which saves work.
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
        drawn = _sample(p_mean, p_log_variance, draws)
        predicted = self._branch(material, drawn, self.feature_head, base, draws)
        parts = {
            "l1": mean_error(predicted, values, weights),
            "shape": config.shape_weight * shape_divergence(predicted, values, weights),
        }
        if config.label_branch:
            q_mean, q_log_variance = self.label_encoder(values)
            drawn = _sample(q_mean, q_log_variance, draws)
            decoded = self._branch(material, drawn, self.label_head, base, draws)
            parts["label_l1"] = mean_error(decoded, values, weights)
            parts["label_shape"] = config.shape_weight * shape_divergence(decoded, values, weights)
            divergence = gaussian_kl(q_mean, q_log_variance, p_mean, p_log_variance)
            parts["kl"] = config.kl_weight * divergence
        if config.covariance and config.likelihood_weight > 0:
            parts["likelihood"] = config.likelihood_weight * self._likelihood(
                (values - predicted).detach(), weights > 0, complete
            )
        return parts

    def _likelihood(self, residual: Tensor, present: Tensor, complete: bool) -> Tensor:
        """Negative log-likelihood of residuals [m, b, L] under the learned covariance: [m].

        Per property, and with the residuals of each scaled to unit variance: only their correlation
        is learned here, because their size is measured on validation rows.
        """
        residual = residual * present
        variance = residual.square().sum(dim=1) / present.sum(dim=1).clamp_min(1)
        residual = residual / variance.sqrt().clamp_min(1e-6)[:, None]
        covariance = self.refinement.covariance()
        return gaussian_nll(residual, covariance, None if complete else present)


MEMORY = ("memory_keys", "memory_labels", "memory_weights")


def _sample(mean: Tensor, log_variance: Tensor, draws: Draws) -> Tensor:
    return mean + draws.normal(*mean.shape[1:]) * (0.5 * log_variance).exp()
