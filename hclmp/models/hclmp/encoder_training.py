"""Training of the encoder on computed densities of states, before it learns the properties."""

from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from hclmp.config import ModelConfig, TrainingConfig
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats
from hclmp.models.checkpoint import Checkpoint
from hclmp.models.compute import device_of
from hclmp.models.hclmp.ensemble import Scalers, init_network, member_seeds
from hclmp.models.hclmp.pretrained import Pretrained
from hclmp.models.hclmp.stack import Fold, History, Stage

COMPONENTS = 12  # principal components that stand for a DOS


def pretrain(
    inputs: Inputs,
    dos: Floats,
    *,
    model: ModelConfig,
    training: TrainingConfig,
    key: dict[str, Any],
) -> tuple[Pretrained, History, list[Checkpoint]]:
    """Train the members to predict the principal components of DOS from composition.

    The whole network is trained, as on labels; the encoder and the keys are kept. There is no
    validation: how long is a setting, and what comes after has its own.

    Args:
        inputs: n compositions without DOS feature.
        dos: [n, D], scaled.
        model, training: settings, as ``EncoderConfig.training`` makes them.
        key: all else that determines the result (provenance), for the checkpoint.

    Returns:
        The weights, the history (one row per member and epoch), and the checkpoints, to be
        removed once the result is written.
    """
    components = PCA(min(COMPONENTS, *dos.shape), svd_solver="full").fit_transform(dos)
    data = Labelled(inputs, components.astype(np.float64))
    scalers, seeds = Scalers.fit(data), member_seeds(training)
    device, used = device_of(training.device), list[Checkpoint]()
    stage = Stage("encoder", training, seeds, device, used)
    whole = Fold(init_network(data, scalers, model, seeds), scalers.table(data), None, True, key)
    ((network, history),) = stage.train([whole])
    vocabulary = inputs.compositions.vocabulary
    trained = Pretrained.of(network, vocabulary=vocabulary, statistics=scalers.statistics)
    return trained, history, used
