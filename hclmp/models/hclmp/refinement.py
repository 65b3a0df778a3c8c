"""The correlation between properties, by which H-CLMP refines its first predictions.

Shapes: m members, b compositions, L properties.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hclmp.config import ModelConfig
from hclmp.models.hclmp.layers import Draws, TokenAttention, expand_like

JITTER = 1e-2  # added to the diagonal of the covariance, whose residuals have unit variance
# The covariance factor must change faster than the weights: Adam changes every number by about the
# learning rate per step, too little to turn a random covariance into a learned one. So the factor
# is this times what Adam optimises. A parameter group with ten times the learning rate would nearly
# do the same, but Adam's epsilon and weight decay see other numbers then, and the tensor that files
# of earlier versions hold (`slow_factor`) would be another one.
FACTOR_SPEED = 10.0


class Refinement(nn.Module):
    """Global (covariance) and conditional (self-attention) correlation between the properties.

    Each property has a token, made from its first prediction and its row of the covariance factor
    A. In the paper a token is prediction + A @ noise, with as many draws as the token is long,
    scaled to unit length; ``token_noise: learned`` replaces the draws by learned vectors.
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
