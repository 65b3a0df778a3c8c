"""Small pieces that the networks share."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

SLOPE = 0.1


def mlp(
    sizes: Sequence[int], *, linear: Callable[[int, int], nn.Module] = nn.Linear
) -> nn.Sequential:
    """Linear layers of these sizes with leaky ReLU (slope 0.1) between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [linear(n_in, n_out), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1])
