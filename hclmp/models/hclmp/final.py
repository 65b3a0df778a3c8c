"""The final model: trained on all samples, its uncertainty measured by the models of the folds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hclmp.config import ModelConfig, TrainingConfig
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats
from hclmp.models.calibration import Calibration
from hclmp.models.checkpoint import Checkpoint
from hclmp.models.compute import device_of
from hclmp.models.hclmp.batch import Batch
from hclmp.models.hclmp.ensemble import (
    Ensemble,
    Scalers,
    init_network,
    learned_covariance,
    member_seeds,
)
from hclmp.models.hclmp.network import HCLMP, ROWS_AT_ONCE
from hclmp.models.hclmp.pretrained import Pretrained
from hclmp.models.hclmp.stack import Fold, History, Stage
from hclmp.models.recall import HIDDEN, is_superset_of, remembered
from hclmp.models.weights import label_weights


@dataclass(frozen=True)
class HeldOut:
    """What models said of n samples that they had not seen, in the transformed space.

    Attributes:
        residuals: [n, L], truth less prediction, NaN where there is no label.
        spread, disagreement: [n, L], of what was recalled and of the members.
        weights: [n, L], how much each label counts.
    """

    residuals: Floats
    spread: Floats
    disagreement: Floats
    weights: Floats

    @classmethod
    def of(cls, model: Ensemble, data: Labelled) -> "HeldOut":
        """Predict the held-out samples of a fold with the model of that fold."""
        outputs = model.outputs(data.inputs)
        weights = label_weights(data.t, data.noise, model.scalers.labels.std)
        return cls(data.t - outputs.mean, outputs.spread, outputs.disagreement, weights)

    @classmethod
    def joined(cls, parts: "list[HeldOut]") -> "HeldOut":
        """The samples of all folds."""
        names = ("residuals", "spread", "disagreement", "weights")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def fit_final(
    data: Labelled,
    held_out: HeldOut,
    *,
    model: ModelConfig,
    training: TrainingConfig,
    start: Pretrained | None,
    whole_systems: bool,
    key: dict[str, Any],
) -> tuple[Ensemble, History, list[Checkpoint]]:
    """Train on all samples for as many epochs as ``training`` says; nothing is left to choose one.

    Args:
        data: all labelled samples.
        held_out: what the folds' models said of samples they had not seen: the size of the
            uncertainty.
        model, training: settings.
        start: the pretrained encoder that the members start from, if any.
        whole_systems: whether the folds held out whole systems.
        key: all else that determines the result (provenance), for the checkpoint.

    Returns:
        The fitted model, the history, and the checkpoints, as ``fit_hclmp``.
    """
    if start is not None:
        start = start.over(data.inputs.compositions.vocabulary)
    scalers, seeds = Scalers.fit(data, start), member_seeds(training)
    everything, used = scalers.table(data), list[Checkpoint]()
    fold = Fold(
        init_network(data, scalers, model, seeds, start), everything, None, whole_systems, key
    )
    ((network, history),) = Stage("final", training, seeds, device_of(training.device), used).train(
        [fold]
    )
    network.remember(everything)
    calibration = Calibration.fit(
        held_out.residuals,
        held_out.spread,
        held_out.disagreement,
        unmeasured=scalers.labels.std,
        weights=held_out.weights,
        learned=learned_covariance(network),
    )
    vocabulary = data.inputs.compositions.vocabulary
    return Ensemble(network, vocabulary, scalers, calibration), history, used


@torch.no_grad()
def distances(model: Ensemble, inputs: Inputs, *, like_new: bool = False) -> Floats | None:
    """How far n compositions are from the nearest remembered one: [n]; None without a memory.

    In the space of the learned keys, times their sharpness, the mean over the members: what differs
    by 1 is recalled e times less.

    Args:
        model: whose memory it is.
        inputs: n compositions; with ``like_new`` those it remembers, in that order.
        like_new: as if a composition's own system and its supersets were not remembered.
    """
    network = model.network
    if not network.config.memory:
        return None
    table = model.scalers.batch(inputs).to(network.device)
    others = table.present[:, remembered(len(inputs))] if like_new else None
    parts = torch.split(torch.arange(len(inputs)), ROWS_AT_ONCE)
    found = [_nearest(network, table.rows(rows), others) for rows in parts]
    nearest: Floats = torch.cat(found).cpu().double().numpy()
    return nearest


def _nearest(network: HCLMP, batch: Batch, others: torch.Tensor | None) -> torch.Tensor:
    """Distance of b compositions to the nearest key, the mean over the members: [b]."""
    sharpness = network.log_sharpness.exp()[:, None, None]
    queries = network.key(network.material(batch, None)) * sharpness
    keys = network.memory_keys * sharpness
    apart = torch.cdist(queries, keys)
    if others is not None:
        apart = apart + HIDDEN * is_superset_of(batch.present, others)
    found, nearest = apart.min(dim=-1)
    # cdist finds the nearest, but is wrong by 0.01 where the distance is 0: it takes the difference
    # of squares.
    exact = (queries - torch.take_along_dim(keys, nearest[..., None], dim=-2)).norm(dim=-1)
    return torch.where(found < HIDDEN, exact, found).mean(dim=0)
