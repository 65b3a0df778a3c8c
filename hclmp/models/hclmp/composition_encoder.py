"""Composition to material vector: the encoder of Roost, message passing over the elements.

Goodall and Lee, Nat. Commun. 11, 6280 (2020), as used by Kong et al. 2021. Shapes: m members,
b compositions of up to k elements.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hclmp.config import ModelConfig
from hclmp.models.hclmp.layers import MemberLinear, expand_like
from hclmp.models.mlp import SLOPE

PARTS, SMALLEST_PART = 8, 64  # of a batch, by number of elements; in compositions


def weighted_softmax(gate: Tensor, fractions: Tensor, power: Tensor) -> Tensor:
    """Softmax over elements, weighted by fraction^power; elements of fraction 0 get nothing.

    Args:
        gate: [..., k, heads].
        fractions: [..., k].
        power: [heads], or what goes with ``gate``.
    """
    present = (fractions > 0)[..., None]
    log_weight = power * torch.where(fractions > 0, fractions, 1.0).log()[..., None]
    return torch.softmax((gate + log_weight).masked_fill(~present, -torch.inf), dim=-2)


class Heads(nn.Module):
    """The last layers of the gate and message networks of several heads, and their attention.

    The last (linear) layer of the messages is applied to their weighted sum instead of to every
    pair, which is less work and equal, because attention weights sum to 1.
    """

    def __init__(self, heads: int, hidden: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.gate = nn.Parameter(torch.empty(1, heads, hidden).uniform_(-1, 1) * hidden**-0.5)
        self.message = MemberLinear(heads * hidden, size)
        self.power = nn.Parameter(torch.randn(1, heads))

    def forward(self, gate_hidden: Tensor, message_hidden: Tensor, fractions: Tensor) -> Tensor:
        """Hidden layers [m, ..., k, heads, hidden], fractions [m, ..., k] to [m, ..., size]."""
        gate = (gate_hidden * expand_like(self.gate, gate_hidden)).sum(dim=-1)
        attention = weighted_softmax(gate, fractions, expand_like(self.power, gate))
        gathered = (attention[..., None] * message_hidden).sum(dim=-3)
        out: Tensor = self.message(gathered.flatten(-2))
        return out / self.heads  # the mean over heads


class MessageLayer(nn.Module):
    """One round of message passing over the complete graph of a composition's elements."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shape = (2, config.message_heads, config.message_hidden)  # 2: gate and message
        width = 2 * config.message_heads * config.message_hidden
        # The first layer acts on the pair (own, other). It is a sum of two maps, one of each.
        self.own = MemberLinear(config.element_size, width)
        self.other = MemberLinear(config.element_size, width, bias=False)
        self.heads = Heads(config.message_heads, config.message_hidden, config.element_size)

    def forward(self, vectors: Tensor, fractions: Tensor) -> Tensor:
        """Element vectors [m, b, k, size] to updated ones."""
        pairs = self.own(vectors)[..., None, :] + self.other(vectors)[..., None, :, :]
        gate, message = _heads(F.leaky_relu(pairs, SLOPE), self.shape)
        messages: Tensor = self.heads(gate, message, fractions[..., None, :])
        return vectors + messages


class CompositionEncoder(nn.Module):
    """Composition to material vector (Roost), for m members."""

    vectors: Tensor

    def __init__(self, config: ModelConfig, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors, persistent=False)  # the members share them
        self.embedding = MemberLinear(vectors.shape[1], config.element_size - 1)
        self.layers = nn.ModuleList(MessageLayer(config) for _ in range(config.message_layers))
        self.shape = (2, config.pooling_heads, config.message_hidden)
        width = 2 * config.pooling_heads * config.message_hidden
        self.pool = MemberLinear(config.element_size, width)
        self.heads = Heads(config.pooling_heads, config.message_hidden, config.element_size)

    def forward(
        self, elements: Tensor, fractions: Tensor, longest: Sequence[int] | None = None
    ) -> Tensor:
        """Elements and fractions [m or 1, b, k] to material vectors [m, b, size].

        Most compositions have few elements, and message passing would take most of the training if
        all were padded to the longest. So they are computed in parts, by number of elements.
        ``longest`` are their ``longest_of_parts``, if known.
        """
        embedded = self.embedding(self.vectors[None])  # [m, V, size - 1]
        m, known, size = embedded.shape
        device = embedded.device
        first = torch.arange(m, device=device)[:, None, None] * known
        flat, fractions = embedded.reshape(m * known, size), fractions.expand(m, -1, -1)
        lengths = lengths_of(fractions)
        if longest is None:
            longest = longest_of_parts(lengths).tolist()
        order = lengths.argsort(dim=1, stable=True)
        at, outputs = torch.arange(m, device=device)[:, None], []
        for part, k in zip(_parts(order), longest, strict=True):
            own = F.embedding((elements.expand(m, -1, -1) + first)[at, part, :k], flat)
            outputs.append(self._encode(own, fractions[at, part, :k]))
        return torch.cat(outputs, dim=1)[at, order.argsort(dim=1)]

    def _encode(self, vectors: Tensor, fractions: Tensor) -> Tensor:
        """Embedded elements [m, b, k, size - 1] to material vectors [m, b, size]."""
        vectors = torch.cat([vectors, fractions[..., None]], dim=-1)
        for layer in self.layers:
            vectors = layer(vectors, fractions)
        gate, message = _heads(F.leaky_relu(self.pool(vectors), SLOPE), self.shape)
        out: Tensor = self.heads(gate, message, fractions)
        return out


def lengths_of(fractions: Tensor) -> Tensor:
    """How many first columns hold all elements of each composition, [m, b]."""
    columns = torch.arange(1, fractions.shape[-1] + 1, device=fractions.device)
    return ((fractions > 0) * columns).amax(dim=-1)


def longest_of_parts(lengths: Tensor) -> Tensor:
    """Of compositions of these lengths, [m, b], the longest in each part."""
    return torch.stack([part.amax() for part in _parts(lengths.sort(dim=1).values)])


def _parts(ordered: Tensor) -> Sequence[Tensor]:
    """Compositions [m, b], ordered by length, in parts."""
    return torch.split(ordered, max(SMALLEST_PART, -(-ordered.shape[1] // PARTS)), dim=1)


def _heads(hidden: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Hidden units [..., 2 heads hidden] of gate and message: [..., heads, hidden] each."""
    gate, message = hidden.view(*hidden.shape[:-1], *shape).unbind(-3)
    return gate, message
