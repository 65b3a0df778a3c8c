"""H-CLMP(T) as a fitted model: scalers, members, calibrated uncertainty, one portable file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hclmp.config import ModelConfig
from hclmp.data.composition import Compositions
from hclmp.data.inputs import Inputs, Labelled
from hclmp.data.tables import Floats
from hclmp.models.calibration import Calibration
from hclmp.models.descriptors import descriptors
from hclmp.models.hclmp.batch import Batch, Labels, Table
from hclmp.models.hclmp.layers import stack_members
from hclmp.models.hclmp.network import HCLMP, PREDICTED_AT_ONCE
from hclmp.models.hclmp.pretrained import Pretrained
from hclmp.models.hclmp.training import predict_tables
from hclmp.models.interface import Prediction
from hclmp.models.intervals import Intervals, kinds_of
from hclmp.models.limits import Limits
from hclmp.models.novelty import Seen
from hclmp.models.recall import HIDDEN, is_superset_of, remembered_rows
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
        """Fit to training rows; a pretrained encoder has its own scaler of the statistics."""
        dos = train.inputs.dos
        return cls(
            Scaler.fit(train.t),
            Scaler.fit(descriptors(train.inputs), least=ROUNDING)
            if start is None
            else start.statistics,
            None if dos is None else Scaler.fit(dos.astype(np.float64), least=ROUNDING),
        )

    def batch(self, inputs: Inputs) -> Batch:
        """Tensors of inputs; without a scaler of it the DOS feature is omitted."""
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


class Outputs(NamedTuple):
    """What the members predict, in the transformed space, before calibration: [n, L] each.

    ``mean`` is that of the members, ``disagreement`` their standard deviation, and ``spread`` that
    of the labels that they recall.
    """

    mean: Floats
    spread: Floats
    disagreement: Floats


@dataclass(frozen=True)
class HeldOut:
    """Errors of a model on n samples that it had not seen, in the transformed space.

    All are [n, L] but for the last two; spread and disagreement are as in ``Outputs``.
    """

    predicted: Floats
    residuals: Floats  # label minus prediction, NaN where there is no label
    spread: Floats
    disagreement: Floats
    weights: Floats  # how much each label counts
    novelty: Floats  # [n, 2]
    kinds: NDArray[np.int64]  # [n], kinds of composition

    @classmethod
    def of(cls, model: "Ensemble", data: Labelled) -> "HeldOut":
        """Predict samples that the model has not seen."""
        outputs = model.outputs(data.inputs)
        weights = label_weights(data.t, data.noise, model.scalers.labels.std)
        new, kinds = model.novelty(data.inputs.compositions)
        errors = (outputs.mean, data.t - outputs.mean, outputs.spread, outputs.disagreement)
        return cls(*errors, weights, new, kinds)

    @classmethod
    def concatenate(cls, parts: "Sequence[HeldOut]") -> "HeldOut":
        """The samples of all folds."""
        return cls(
            *(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0]))
        )


@dataclass(frozen=True)
class Ensemble:
    """Members with the scalers that they share.

    The prediction is the mean of the members. The calibration, the size of the uncertainty, comes
    from held-out rows; it is None in training. Files of hclmp 1 have neither ``seen`` nor
    ``intervals``: their intervals are Gaussian.
    """

    network: HCLMP
    vocabulary: tuple[str, ...]
    scalers: Scalers
    calibration: Calibration | None = None
    seen: Seen | None = None  # in training
    intervals: Intervals | None = None

    @classmethod
    def untrained(
        cls,
        data: Labelled,
        model: ModelConfig,
        seeds: Sequence[int],
        start: Pretrained | None = None,
    ) -> "Ensemble":
        """Members of the sizes of the training data, new ones or with a pretrained encoder."""
        vocabulary = data.inputs.compositions.vocabulary
        start = None if start is None else start.over(vocabulary)
        scalers = Scalers.fit(data, start)
        vectors = torch.from_numpy(data.inputs.elements.vectors[model.embedding])
        members = []
        for seed in seeds:
            torch.manual_seed(seed)
            members.append(_network(model, vectors, scalers))
        network = stack_members(members)
        if start is not None:
            start.put_into(network)
        return cls(network, vocabulary, scalers)

    def with_calibration(self, held_out: HeldOut, limits: Floats | None = None) -> "Ensemble":
        """The same with its uncertainty fitted to the errors on samples it has not seen.

        ``limits`` [2, L] are those of the properties.
        """
        parts = (held_out.spread, held_out.disagreement, held_out.novelty)
        calibration = Calibration.fit(
            held_out.residuals,
            *parts,
            unmeasured=self.scalers.labels.std,
            weights=held_out.weights,
            learned=_learned_covariance(self.network),
        )
        intervals = Intervals.fit(
            held_out.predicted,
            held_out.residuals,
            np.hypot(*calibration.stds(*parts)),
            held_out.kinds,
            weights=held_out.weights,
            limits=limits,
        )
        return replace(self, calibration=calibration, intervals=intervals)

    def trained_on(self, data: Labelled, table: Table, network: HCLMP) -> "Ensemble":
        """The same with a trained network, which remembers its training samples.

        ``table`` has the tensors of the samples, as the scalers make them.
        """
        network.remember(table)
        return replace(self, network=network, seen=Seen.of(data.inputs.compositions))

    def novelty(self, compositions: Compositions) -> tuple[Floats, NDArray[np.int64]]:
        """How new n compositions are, ``Seen.novelty``, and the kind of each."""
        known = np.zeros((len(compositions), 2))
        new = known if self.seen is None else self.seen.novelty(compositions)
        return new, kinds_of(compositions.sizes(), new)

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict n compositions; nothing is drawn, and a row does not depend on its batch."""
        assert self.calibration is not None
        outputs, (new, kinds) = self.outputs(inputs), self.novelty(inputs.compositions)
        stds = self.calibration.stds(outputs.spread, outputs.disagreement, new)
        covariance = self.calibration.covariance() if self.network.config.covariance else None
        if self.intervals is None:
            return Prediction(outputs.mean, *stds, covariance)
        mean = self.intervals.limits.clip(outputs.mean)
        ends = self.intervals.ends(mean, np.hypot(*stds), kinds)
        return Prediction(mean, *stds, covariance, ends)

    @torch.no_grad()
    def outputs(self, inputs: Inputs) -> Outputs:
        """Predict n compositions before calibration."""
        parts = predict_tables(self.network, self.scalers.batch(inputs).to(self.network.device))
        means, spreads = (part.cpu().double().numpy() for part in parts)
        scale = self.scalers.labels.std
        one = len(means) == 1
        disagreement = np.zeros_like(means[0]) if one else means.std(axis=0, ddof=1)
        spread = np.sqrt(np.square(spreads).mean(axis=0))
        mean = self.scalers.labels.unscale(means.mean(axis=0))
        return Outputs(mean, spread * scale, disagreement * scale)

    def save(self, path: str | Path, *, provenance: Provenance) -> None:
        """Write weights, scalers, calibration and remembered rows as one safetensors file."""
        vectors = {"vectors": self.network.material.encoder.vectors}
        tensors = self.network.state_dict() | self.network.memory() | vectors
        tensors = pack("network", tensors)
        for name in SCALERS:
            if (scaler := getattr(self.scalers, name)) is not None:
                tensors |= pack(name, vars(scaler))
        assert self.calibration is not None
        assert self.seen is not None
        tensors |= pack("calibration", vars(self.calibration)) | pack("seen", vars(self.seen))
        if self.intervals is not None:
            factors = vars(self.intervals) | vars(self.intervals.limits)
            tensors |= pack("intervals", {k: v for k, v in factors.items() if k != "limits"})
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
        what, remedy = "a model", "`hclmp train` makes it"
        with read_tensors(path, what=what, remedy=remedy, framework="pt") as (header, tensors):
            config = ModelConfig.model_validate(header["config"])
            scalers = Scalers(*(_scaler(name, tensors) for name in SCALERS))  # type: ignore[arg-type]
            network = _from_tensors(config, scalers, tensors)
            calibrated, seen, intervals = (
                {name: tensor.numpy() for name, tensor in unpack(part, tensors).items()}
                for part in ("calibration", "seen", "intervals")
            )
            read = cls(
                network,
                tuple(header["vocabulary"]),
                scalers,
                _calibration(**calibrated),
                Seen(**seen) if seen else None,
                _intervals(**intervals) if intervals else None,
            )
        return read


@torch.no_grad()
def distances(model: Ensemble, inputs: Inputs, *, like_new: bool = False) -> Floats | None:
    """Distances of n compositions to the nearest remembered one: [n]; None without a memory.

    The mean over the members of the distance between learned keys, times their sharpness: a key
    that is farther by 1 has an e times smaller weight in recall.

    With ``like_new`` the inputs are the compositions that it remembers, in that order, and each
    ignores its own system and the supersets of it.
    """
    network = model.network
    if not network.config.memory:
        return None
    table = model.scalers.batch(inputs).to(network.device)
    others = table.present[:, remembered_rows(len(inputs))] if like_new else None
    parts = torch.split(torch.arange(len(inputs)), PREDICTED_AT_ONCE)
    distance = torch.cat([_nearest(network, table.rows(rows), others) for rows in parts])
    nearest: Floats = distance.cpu().double().numpy()
    return nearest


def _nearest(network: HCLMP, batch: Batch, others: Tensor | None) -> Tensor:
    """Distance of b compositions to the nearest key, the mean over the members: [b]."""
    sharpness = network.log_sharpness.exp()[:, None, None]
    queries = network.key(network.material(batch, None)) * sharpness
    keys = network.memory_keys * sharpness
    distance = torch.cdist(queries, keys)
    if others is not None:
        distance = distance + HIDDEN * is_superset_of(batch.present, others)
    least, nearest = distance.min(dim=-1)
    # cdist finds the nearest key, but its distance is wrong by up to 0.01, because it is a
    # difference of squares.
    exact = (queries - torch.take_along_dim(keys, nearest[..., None], dim=-2)).norm(dim=-1)
    return torch.where(least < HIDDEN, exact, least).mean(dim=0)


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
    # clone, because the last digits of a matrix product depend on the alignment of its operands
    state = {name: tensor.clone() for name, tensor in unpack("network", tensors).items()}
    network = _network(config, state.pop("vectors"), scalers)
    for name in network.memory():
        setattr(network, name, state.pop(name))
    for name, tensor in network.state_dict(keep_vars=True).items():
        tensor.data = state[name]  # of as many members as were stored
    network.load_state_dict(state)
    return network


def _learned_covariance(network: HCLMP) -> Floats:
    """The mean of the members' covariances of scaled residuals: [L, L].

    The identity if no covariance was fitted to residuals, as in the paper.
    """
    learned = network.refinement.covariance().mean(dim=0).detach().cpu()
    covariance = learned.numpy().astype(np.float64)
    fitted = network.config.covariance and network.config.likelihood_weight > 0
    return covariance if fitted else np.eye(len(covariance))


def _calibration(**arrays: Floats) -> Calibration:
    """The calibration of a file; hclmp 1 knew no novelty."""
    return Calibration(**{"novelty_weight": np.zeros((2, len(arrays["constant"]))), **arrays})


def _intervals(by_property: Floats, by_kind: Floats, **limits: Floats) -> Intervals:
    """The intervals of a file."""
    return Intervals(by_property, by_kind, Limits(**limits))


def _scaler(name: str, tensors: dict[str, Tensor]) -> Scaler | None:
    if f"{name}.mean" not in tensors:
        return None
    return Scaler(tensors[f"{name}.mean"].numpy(), tensors[f"{name}.std"].numpy())
