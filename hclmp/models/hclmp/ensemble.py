"""H-CLMP(T) as a fitted model: scalers, members, calibrated uncertainty, one portable file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hclmp.config import ModelConfig, TrainingConfig
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats
from hclmp.models.calibration import Calibration
from hclmp.models.checkpoint import Checkpoint, staged
from hclmp.models.compute import device_of
from hclmp.models.descriptors import descriptors
from hclmp.models.hclmp.batch import Batch, Labels, Table
from hclmp.models.hclmp.layers import stacked
from hclmp.models.hclmp.network import HCLMP
from hclmp.models.hclmp.pretrained import Pretrained
from hclmp.models.hclmp.stack import Fold, History, Stage
from hclmp.models.hclmp.training import predicted
from hclmp.models.interface import Prediction
from hclmp.models.scaling import FARTHEST, ROUNDING, Scaler
from hclmp.models.weights import label_weights
from hclmp.provenance import Provenance
from hclmp.tensors import pack, read_tensors, unpack, write_tensors

SCALERS = ("labels", "statistics", "dos")


@dataclass(frozen=True)
class Scalers:
    """Standardisation of labels, statistics and DOS feature (None without transfer)."""

    labels: Scaler
    statistics: Scaler
    dos: Scaler | None

    @classmethod
    def fit(cls, train: Labelled, start: Pretrained | None = None) -> "Scalers":
        """Fit to the training rows alone; a pretrained encoder brings that of the statistics."""
        dos = train.inputs.dos
        return cls(
            Scaler.fit(train.t),
            Scaler.fit(descriptors(train.inputs), least=ROUNDING)
            if start is None
            else start.statistics,
            None if dos is None else Scaler.fit(dos.astype(np.float64), least=ROUNDING),
        )

    def batch(self, inputs: Inputs) -> Batch:
        """Tensors of inputs; without a scaler for it the DOS feature is left out."""
        statistics = self.statistics.scale(descriptors(inputs)).clip(-FARTHEST, FARTHEST)
        feature = None
        if self.dos is not None:
            assert inputs.dos is not None
            feature = torch.from_numpy(self.dos.scale(inputs.dos.astype(np.float64))).float()[None]
        return Batch(
            torch.from_numpy(inputs.compositions.elements)[None],
            torch.from_numpy(inputs.compositions.fractions)[None],
            torch.from_numpy(statistics).float()[None],
            torch.from_numpy(inputs.compositions.dense() > 0).float()[None],
            feature,
        )

    def table(self, data: Labelled) -> Table:
        """Tensors of inputs, and standardised labels with the weight of each."""
        values = torch.from_numpy(self.labels.scale(data.t)).float().nan_to_num()
        weights = torch.from_numpy(label_weights(data.t, data.noise, self.labels.std)).float()
        return Table.of(self.batch(data.inputs), Labels(values[None], weights[None]))


REFIT_SEED = 500  # apart from the seeds of the first training


class Outputs(NamedTuple):
    """What the members say, in the transformed space, before calibration: [n, L] each."""

    mean: Floats
    spread: Floats
    disagreement: Floats


@dataclass(frozen=True)
class Ensemble:
    """Trained members with the scalers that they share.

    Attributes:
        network: of several members; their mean is the prediction.
        vocabulary: the elements that it knows.
        scalers: fitted on the training rows.
        calibration: the size of the uncertainty, from validation rows.
    """

    network: HCLMP
    vocabulary: tuple[str, ...]
    scalers: Scalers
    calibration: Calibration

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict n compositions; nothing is drawn, and a row does not depend on its batch."""
        outputs = self.outputs(inputs)
        aleatoric, epistemic = self.calibration.stds(outputs.spread, outputs.disagreement)
        covariance = self.calibration.covariance() if self.network.config.covariance else None
        return Prediction(outputs.mean, aleatoric, epistemic, covariance)

    def outputs(self, inputs: Inputs) -> Outputs:
        """What ``predict`` and a calibration are made of."""
        return _outputs(self.network, self.scalers, self.scalers.batch(inputs))

    def save(self, path: str | Path, *, provenance: Provenance) -> None:
        """Write safetensors with all that rebuilds the model in the metadata."""
        vectors = {"vectors": self.network.material.encoder.vectors}
        tensors = self.network.state_dict() | self.network.memory() | vectors
        tensors = pack("network", tensors)
        for name in SCALERS:
            if (scaler := getattr(self.scalers, name)) is not None:
                tensors |= pack(name, vars(scaler))
        tensors |= pack("calibration", vars(self.calibration))
        header = {
            "config": self.network.config.model_dump(mode="json"),
            "vocabulary": self.vocabulary,
            "provenance": provenance,
        }
        write_tensors(path, tensors, header)

    @classmethod
    def from_file(cls, path: str | Path) -> "Ensemble":
        """Rebuild a model that ``save`` wrote; it needs no other file.

        Raises:
            UserError: the file is missing or is no model.
        """
        remedy = "`hclmp train` makes it"
        with read_tensors(path, what="a model", remedy=remedy, framework="pt") as (header, tensors):
            config = ModelConfig.model_validate(header["config"])
            scalers = Scalers(*(_scaler(name, tensors) for name in SCALERS))  # type: ignore[arg-type]
            network = _from_tensors(config, scalers, tensors)
            sizes = unpack("calibration", tensors).items()
            calibration = Calibration(**{name: tensor.numpy() for name, tensor in sizes})
        return cls(network, tuple(header["vocabulary"]), scalers, calibration)


@dataclass(frozen=True)
class Part:
    """What one fold is trained on.

    Attributes:
        train, validation: labels in the transformed space; ``inputs.dos`` makes it H-CLMP(T).
        key: all else that determines the result (provenance), for the checkpoint.
        start: the pretrained encoder that the members start from, if any.
    """

    train: Labelled
    validation: Labelled
    key: dict[str, Any]
    start: Pretrained | None = None

    def begin(self) -> Pretrained | None:
        """The encoder to start from, over the elements of the samples."""
        if self.start is None:
            return None
        return self.start.over(self.train.inputs.compositions.vocabulary)


def fit_hclmp(
    parts: Sequence[Part], *, model: ModelConfig, training: TrainingConfig
) -> tuple[list[tuple[Ensemble, History]], list[Checkpoint]]:
    """Train the members of one or several folds side by side.

    The validation rows choose each member's best epoch and the size of the uncertainty; once these
    stand, they join the rows that the members are trained on and recall, for a few more epochs.

    Args:
        parts: the folds, of one vocabulary and the same properties.
        model, training: settings.

    Raises:
        UserError: no such device, not enough memory for a single fold, or the training diverged.

    Returns:
        Of each fold the fitted model and the history (one row per stage, member and epoch); and the
        checkpoints, to be removed once the results are written.
    """
    device = device_of(training.device)
    seeds, used = member_seeds(training), list[Checkpoint]()
    starts = [part.begin() for part in parts]
    scalers = [Scalers.fit(p.train, start) for p, start in zip(parts, starts, strict=True)]
    folds = [
        Fold(
            network=init_network(part.train, scaler, model, seeds, start),
            train=scaler.table(part.train),
            validation=scaler.table(part.validation),
            whole_systems=_systems(part.train).isdisjoint(_systems(part.validation)),
            key=part.key,
        )
        for part, scaler, start in zip(parts, scalers, starts, strict=True)
    ]
    selected = Stage("selection", training, seeds, device, used).train(folds)
    calibrations, again = [], []
    for part, scaler, fold, (network, _) in zip(parts, scalers, folds, selected, strict=True):
        network.remember(fold.train)
        calibrations.append(_calibration(network, scaler, part.validation))
        everything = scaler.table(part.train.joined(part.validation))
        again.append(replace(fold, network=network, train=everything, validation=None))
    trained: list[tuple[HCLMP, History]] = [(fold.network, []) for fold in again]
    if (refit := training.refit()) is not None:
        others = [seed + REFIT_SEED for seed in seeds]
        trained = Stage("refit", refit, others, device, used).train(again)
    fits = []
    for i, (network, history) in enumerate(trained):
        network.remember(again[i].train)
        vocabulary = parts[i].train.inputs.compositions.vocabulary
        fitted = Ensemble(network, vocabulary, scalers[i], calibrations[i])
        fits.append((fitted, staged(selection=selected[i][1], refit=history)))
    return fits, used


def _calibration(network: HCLMP, scalers: Scalers, validation: Labelled) -> Calibration:
    """The size of the uncertainty, from what a trained network says of the validation rows."""
    outputs = _outputs(network, scalers, scalers.batch(validation.inputs))
    return Calibration.fit(
        validation.t - outputs.mean,
        outputs.spread,
        outputs.disagreement,
        unmeasured=scalers.labels.std,
        weights=label_weights(validation.t, validation.noise, scalers.labels.std),
        learned=learned_covariance(network),
    )


def member_seeds(training: TrainingConfig) -> list[int]:
    """The seed of each member."""
    return [training.seed * 1_009 + i for i in range(training.members)]


def init_network(
    data: Labelled,
    scalers: Scalers,
    model: ModelConfig,
    seeds: Sequence[int],
    start: Pretrained | None = None,
) -> HCLMP:
    """Untrained members side by side, of the sizes of the data; or their encoders pretrained."""
    vectors = torch.from_numpy(data.inputs.elements.vectors[model.embedding])
    members = []
    for seed in seeds:
        torch.manual_seed(seed)
        members.append(_network(model, vectors, scalers))
    network = stacked(members)
    if start is not None:
        start.put_into(network)
    return network


def _systems(data: Labelled) -> set[str]:
    return set(data.inputs.compositions.systems())


def _network(config: ModelConfig, vectors: Tensor, scalers: Scalers) -> HCLMP:
    """A network of one member, of the sizes of the data."""
    return HCLMP(
        config,
        vectors=vectors,
        statistics=len(scalers.statistics.mean),
        properties=len(scalers.labels.mean),
        dos=None if scalers.dos is None else len(scalers.dos.mean),
    )


def _from_tensors(config: ModelConfig, scalers: Scalers, tensors: dict[str, Tensor]) -> HCLMP:
    """The network of a file."""
    # clone: what a matrix product gives depends on how its operands lie in memory
    state = {name: tensor.clone() for name, tensor in unpack("network", tensors).items()}
    network = _network(config, state.pop("vectors"), scalers)
    for name in network.memory():
        setattr(network, name, state.pop(name))
    for name, tensor in network.state_dict(keep_vars=True).items():
        tensor.data = state[name]  # of as many members as were stored
    network.load_state_dict(state)
    return network.eval()


def learned_covariance(network: HCLMP) -> Floats:
    """The mean of the members' covariances of scaled residuals: [L, L].

    That of independent ones where none was fitted to residuals, as in the paper.
    """
    learned = network.refinement.covariance().mean(dim=0).detach().cpu()
    covariance = learned.numpy().astype(np.float64)
    fitted = network.config.covariance and network.config.likelihood_weight > 0
    return covariance if fitted else np.eye(len(covariance))


@torch.no_grad()
def _outputs(network: HCLMP, scalers: Scalers, table: Batch) -> Outputs:
    """Mean over the members, spread of what they recall, and their disagreement."""
    parts = predicted(network, table.to(network.device))
    means, spreads = (part.cpu().double().numpy() for part in parts)
    scale = scalers.labels.std
    apart = means.std(axis=0, ddof=1) if len(means) > 1 else np.zeros_like(means[0])
    recalled = np.sqrt(np.square(spreads).mean(axis=0))
    return Outputs(scalers.labels.unscale(means.mean(axis=0)), recalled * scale, apart * scale)


def _scaler(name: str, tensors: dict[str, Tensor]) -> Scaler | None:
    if f"{name}.mean" not in tensors:
        return None
    return Scaler(tensors[f"{name}.mean"].numpy(), tensors[f"{name}.std"].numpy())
