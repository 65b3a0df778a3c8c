"""Layers of several networks of one shape that are trained side by side.

The members of an ensemble share no weight. Every parameter has a leading axis of m members, so
that one batched matrix product does the work of m products. Shapes: m members, b compositions.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hclmp.models.mlp import mlp

Network = TypeVar("Network", bound=nn.Module)


class Draws:
    """Random numbers in training, of each member of a fold from a generator of its own.

    A member's numbers therefore do not depend on what is trained beside it. Members of different
    folds have the same seeds, and so the same numbers, which are drawn once.

    Layers take ``draws: Draws | None``. None means prediction, without dropout: that is the only
    switch, so ``train()`` and ``eval()`` of ``nn.Module`` change nothing here.
    """

    def __init__(self, generators: Sequence[torch.Generator], folds: int = 1) -> None:
        self.generators, self.folds = generators, folds

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers: [m, *shape]."""
        return self._draw(torch.randn, shape).repeat(self.folds, *[1] * len(shape))

    def dropout(self, x: Tensor, share: float) -> Tensor:
        """Set this share of the numbers of x, [m, ...], to 0, and scale the others up."""
        if share == 0:
            return x
        kept = self._draw(torch.rand, x.shape[1:]) >= share
        by_fold = x.reshape(self.folds, -1, *x.shape[1:])
        return (by_fold * kept / (1 - share)).reshape(x.shape)

    def _draw(self, draw: Callable[..., Tensor], shape: Sequence[int]) -> Tensor:
        """Numbers for the members of one fold."""
        return torch.stack([draw(shape, generator=g, device=g.device) for g in self.generators])


def dropout(x: Tensor, share: float, draws: Draws | None) -> Tensor:
    """Dropout in training; in prediction, without draws, x as it is."""
    return x if draws is None else draws.dropout(x, share)


def expand_like(parameter: Tensor, x: Tensor) -> Tensor:
    """A parameter [m, ...] shaped to go with x: [m, 1, ..., ...]."""
    extra = x.dim() - parameter.dim()
    return parameter.view(len(parameter), *[1] * extra, *parameter.shape[1:])


class MemberLinear(nn.Module):
    """A linear layer per member: [m or 1, ..., n_in] to [m, ..., n_out]."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = n_in**-0.5  # as in torch's own linear layer
        self.weight = nn.Parameter(torch.empty(1, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1, 1, n_out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply each member's layer to its rows; rows of one member serve all."""
        rows = x.reshape(len(x), -1, x.shape[-1])
        if len(rows) != len(self.weight):
            rows = rows.expand(len(self.weight), -1, -1)
        out = rows @ self.weight if self.bias is None else self.bias.baddbmm(rows, self.weight)
        return out.view(len(out), *x.shape[1:-1], out.shape[-1])


class MemberNorm(nn.Module):
    """Layer normalisation with a scale and a shift per member."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, size))
        self.bias = nn.Parameter(torch.zeros(1, size))

    def forward(self, x: Tensor) -> Tensor:
        """[m, ..., size] to the same shape."""
        normed = F.layer_norm(x, x.shape[-1:])
        return torch.addcmul(expand_like(self.bias, x), normed, expand_like(self.weight, x))


def member_mlp(sizes: Sequence[int]) -> nn.Sequential:
    """``mlp`` with a layer per member."""
    return mlp(sizes, linear=MemberLinear)


class Residual(nn.Module):
    """x + W2 dropout(silu(W1 norm(x))), with twice as many hidden units."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.norm = MemberNorm(size)
        self.widen, self.narrow = MemberLinear(size, 2 * size), MemberLinear(2 * size, size)
        self.dropout = dropout

    def forward(self, x: Tensor, draws: Draws | None) -> Tensor:
        """[m, b, size] to [m, b, size]."""
        hidden = dropout(F.silu(self.widen(self.norm(x))), self.dropout, draws)
        return x + dropout(self.narrow(hidden), self.dropout, draws)


class TokenAttention(nn.Module):
    """One transformer encoder layer over the tokens of the properties, normalised at the end."""

    def __init__(self, size: int, *, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_key_value = MemberLinear(size, 3 * size)
        self.out = MemberLinear(size, size)
        with torch.no_grad():  # as in torch's own attention: Xavier, no bias at the start
            self.query_key_value.weight.mul_(1.5**0.5)
            for layer in (self.query_key_value, self.out):
                assert layer.bias is not None
                layer.bias.zero_()
        self.widen, self.narrow = MemberLinear(size, hidden), MemberLinear(hidden, size)
        self.norms = nn.ModuleList([MemberNorm(size), MemberNorm(size)])

    def forward(self, tokens: Tensor, draws: Draws | None) -> Tensor:
        """[m, b, L, size] to the same shape."""
        tokens = self.norms[0](tokens + self._mixed(tokens, draws))
        hidden = dropout(F.relu(self.widen(tokens)), self.dropout, draws)
        out: Tensor = self.norms[1](tokens + dropout(self.narrow(hidden), self.dropout, draws))
        return out

    def _mixed(self, tokens: Tensor, draws: Draws | None) -> Tensor:
        """Self-attention between the tokens of the properties."""
        projected = self.query_key_value(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.transpose(2, 4).unbind(3)  # [m, b, heads, L, size / heads]
        if draws is None or self.dropout == 0:
            # The fused kernel stores no [L, L]. It takes four axes, and on a GPU its gradient is
            # not deterministic.
            if tokens.device.type == "cpu":
                rows = (part.flatten(0, 1) for part in (query, key, value))
                mixed = F.scaled_dot_product_attention(*rows).view_as(query)
            else:
                mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            gate = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, dim=-1)
            mixed = draws.dropout(gate, self.dropout) @ value
        return dropout(self.out(mixed.transpose(2, 3).flatten(-2)), self.dropout, draws)


def take_members(network: Network, members: slice) -> Network:
    """A copy of some of the members; buffers outside the state dict are those of all members."""
    part = copy.deepcopy(network)
    for tensor in part.state_dict(keep_vars=True).values():
        # clone, because the last digits of a matrix product depend on the alignment
        tensor.data = tensor.data[members].clone()
    return part


def stack_members(networks: Sequence[Network]) -> Network:
    """Several networks as one of all their members; the first one is changed in place."""
    first = networks[0]
    states = [network.state_dict() for network in networks]
    tensors = dict(first.named_parameters()) | dict(first.named_buffers())
    for name in states[0]:
        tensors[name].data = torch.cat([state[name] for state in states])
    return first
