"""The parts of H-CLMP's loss, one number per member: m members, b compositions, L properties.

``weights`` [m, b, L] are 0 where a label is missing and at most 1.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian_kl(q_mean: Tensor, q_log: Tensor, p_mean: Tensor, p_log: Tensor) -> Tensor:
    """KL(q || p) of diagonal Gaussians given by mean and log-variance, mean over the batch: [m]."""
    distance = (q_mean - p_mean).square() / p_log.exp()
    return 0.5 * ((q_log - p_log).exp() + distance - 1 + p_log - q_log).sum(dim=-1).mean(dim=-1)


def mean_error(predicted: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean absolute error: [m]."""
    error = ((predicted - labels).abs() * weights).sum(dim=(1, 2))
    out: Tensor = error / weights.sum(dim=(1, 2)).clamp_min(1e-9)
    return out


def shape_divergence(predicted: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """KL between the softmax of labels and of predictions over the properties present: [m].

    The mean over the batch, each row weighted by the mean weight of its labels.
    """
    # not -inf: a row without any label would give NaN
    hidden = torch.where(weights > 0, 0.0, -1e4)
    log_predicted = F.log_softmax(predicted + hidden, dim=-1)
    log_labels = F.log_softmax(labels + hidden, dim=-1)
    divergence = F.kl_div(log_predicted, log_labels, reduction="none", log_target=True).sum(dim=-1)
    present = (weights > 0).sum(dim=-1).clamp_min(1)
    return (divergence * weights.sum(dim=-1) / present).mean(dim=-1)


def gaussian_nll(residual: Tensor, covariance: Tensor, present: Tensor | None) -> Tensor:
    """Mean negative log-likelihood per property of residuals under N(0, covariance): [m].

    Only the properties ``present`` [m, b, L] count (None: all): theirs is the marginal
    distribution. What is not present must have residual 0. Covariance: [m, L, L].
    """
    if present is None:
        factor = torch.linalg.cholesky(covariance)
        scaled = torch.linalg.solve_triangular(factor, residual.mT, upper=False).mT
        half_log_determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    else:  # a unit variance of its own takes the place of what is missing
        pairs = present[..., :, None] & present[..., None, :]
        alone = torch.eye(covariance.shape[-1], device=covariance.device)
        factor = torch.linalg.cholesky(torch.where(pairs, covariance[:, None], alone))
        scaled = torch.linalg.solve_triangular(factor, residual[..., None], upper=False)[..., 0]
        half_log_determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1).mean(dim=-1)
    half_distance = 0.5 * scaled.square().sum(dim=-1).mean(dim=-1)
    nll: Tensor = (half_distance + half_log_determinant) / covariance.shape[-1]
    return nll
