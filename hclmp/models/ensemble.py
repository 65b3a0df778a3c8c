"""H-CLMP(T) as a fitted model: scalers, members, calibrated uncertainty, one portable file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hclmp.config import ModelConfig, TrainingConfig
from hclmp.errors import UserError
from hclmp.models.calibration import aleatoric_std
from hclmp.models.checkpoint import Checkpoint
from hclmp.models.hclmp import HCLMP, Batch
from hclmp.models.interface import Floats, Inputs, Labelled, Prediction
from hclmp.models.scaling import Scaler
from hclmp.models.training import train_model
from hclmp.provenance import Provenance, hash_of, written

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Ensemble:
    """Trained members with the scalers that they share.

    Attributes:
        members: networks of one shape; their mean is the prediction.
        config: of the networks.
        vocabulary: the elements that they know.
        labels, dos: scalers fitted on the training rows (``dos`` None without transfer).
        std: [L] aleatoric standard deviation in the transformed space, from validation rows.
    """

    members: list[HCLMP]
    config: ModelConfig
    vocabulary: tuple[str, ...]
    labels: Scaler
    dos: Scaler | None
    std: Floats

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict n compositions; nothing is drawn, and a row does not depend on its batch."""
        mean, epistemic = _member_statistics(self.members, self.labels, self.dos, inputs)
        return Prediction(
            mean=mean,
            std_aleatoric=np.broadcast_to(self.std, mean.shape).copy(),
            std_epistemic=epistemic,
            covariance=self.covariance(),
        )

    def covariance(self) -> Floats:
        """Aleatoric covariance [L, L]: learned correlation, standard deviations from validation."""
        learned = torch.stack([m.refinement.covariance() for m in self.members]).mean(dim=0)
        covariance = learned.detach().numpy().astype(np.float64)
        if not self.config.covariance:
            covariance = np.eye(len(self.std))
        scale = self.std / np.sqrt(np.diag(covariance))
        return covariance * np.outer(scale, scale)

    def save(self, path: str | Path, *, provenance: Provenance) -> None:
        """Write safetensors with all that rebuilds the model in the metadata."""
        tensors: dict[str, Tensor] = {}
        for i, member in enumerate(self.members):
            # clone: members share the element vectors, and shared tensors cannot be stored
            tensors |= {f"member{i}.{n}": t.clone() for n, t in member.state_dict().items()}
        scalers = {"labels": self.labels} | ({"dos": self.dos} if self.dos else {})
        for name, scaler in scalers.items():
            tensors[f"{name}.mean"] = torch.from_numpy(scaler.mean)
            tensors[f"{name}.std"] = torch.from_numpy(scaler.std)
        tensors["aleatoric_std"] = torch.from_numpy(self.std)
        about = {
            "config": self.config.model_dump(mode="json"),
            "vocabulary": self.vocabulary,
            "members": len(self.members),
            "provenance": provenance,
        }
        with written(path) as temporary:
            save_file(tensors, temporary, metadata={"hclmp": json.dumps(about, sort_keys=True)})

    @classmethod
    def from_file(cls, path: str | Path) -> "Ensemble":
        """Rebuild a model that ``save`` wrote; it needs no other file.

        Raises:
            UserError: the file is missing or is no model.
        """
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; `hclmp train` makes it")
        try:
            with safe_open(path, framework="pt") as file:
                about: dict[str, Any] = json.loads(file.metadata()["hclmp"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            config = ModelConfig.model_validate(about["config"])
            labels = _scaler("labels", tensors)
            dos = _scaler("dos", tensors) if "dos.mean" in tensors else None
            members = []
            for i in range(about["members"]):
                prefix = f"member{i}."
                state = {n.removeprefix(prefix): t for n, t in tensors.items() if prefix in n}
                member = HCLMP(
                    config,
                    vectors=state["encoder.vectors"],
                    properties=len(labels.mean),
                    dos=None if dos is None else len(dos.mean),
                )
                member.load_state_dict(state)
                members.append(member.eval())
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not a model; `hclmp train` makes it ({error})") from error
        std = tensors["aleatoric_std"].numpy()
        return cls(members, config, tuple(about["vocabulary"]), labels, dos, std)


def fit_hclmp(
    train: Labelled,
    validation: Labelled,
    *,
    model: ModelConfig,
    training: TrainingConfig,
    key: dict[str, Any],
) -> tuple[Ensemble, list[dict[str, Any]], list[Checkpoint]]:
    """Train the members one after the other.

    Args:
        train, validation: labels in the transformed space; ``inputs.dos`` makes it H-CLMP(T).
        model, training: settings.
        key: all else that determines the result (provenance), for the checkpoints.

    Returns:
        The fitted model, the history (one row per member and epoch), and the checkpoints, to be
        removed once the result is written.
    """
    labels = Scaler.fit(train.t)
    dos = None if train.inputs.dos is None else Scaler.fit(train.inputs.dos.astype(np.float64))
    data = [
        (_batch(part.inputs, dos), torch.from_numpy(labels.scale(part.t)).float())
        for part in (train, validation)
    ]
    vectors = torch.from_numpy(train.inputs.elements.vectors[model.embedding])
    members, history, checkpoints = [], [], []
    for i in range(training.members):
        seed = training.seed * 1_009 + i
        torch.manual_seed(seed)
        member = HCLMP(
            model,
            vectors=vectors,
            properties=train.t.shape[1],
            dos=None if dos is None else len(dos.mean),
        )
        checkpoint = Checkpoint(hash_of(key | {"member": i}))
        rows = train_model(
            member,
            train=data[0],
            validation=data[1],
            settings=training,
            seed=seed,
            checkpoint=checkpoint,
            name=f"member {i + 1}/{training.members}",
        )
        history += [{"member": i, **row} for row in rows]
        members.append(member)
        checkpoints.append(checkpoint)
    mean, epistemic = _member_statistics(members, labels, dos, validation.inputs)
    std = aleatoric_std(validation.t - mean, epistemic, spread=labels.std)
    vocabulary = train.inputs.compositions.vocabulary
    fitted = Ensemble(members, model, vocabulary, labels, dos, std)
    return fitted, history, checkpoints


@torch.no_grad()
def _member_statistics(
    members: list[HCLMP], labels: Scaler, dos: Scaler | None, inputs: Inputs
) -> tuple[Floats, Floats]:
    """Mean over members and their standard deviation, in the transformed space: [n, L] each."""
    batch = _batch(inputs, dos)
    parts = torch.split(torch.arange(len(inputs)), ROWS_AT_ONCE)
    outputs = [
        torch.cat([member.eval()(batch.rows(rows)) for rows in parts]).double().numpy()
        for member in members
    ]
    stacked = np.stack(outputs)
    spread = stacked.std(axis=0, ddof=1) if len(members) > 1 else np.zeros_like(stacked[0])
    return labels.unscale(stacked.mean(axis=0)), spread * labels.std


def _batch(inputs: Inputs, dos: Scaler | None) -> Batch:
    """Tensors of inputs; without a scaler for it the DOS feature is left out."""
    feature = None
    if dos is not None:
        assert inputs.dos is not None
        feature = torch.from_numpy(dos.scale(inputs.dos.astype(np.float64))).float()
    return Batch(
        torch.from_numpy(inputs.compositions.elements),
        torch.from_numpy(inputs.compositions.fractions),
        feature,
    )


def _scaler(name: str, tensors: dict[str, Tensor]) -> Scaler:
    return Scaler(tensors[f"{name}.mean"].numpy(), tensors[f"{name}.std"].numpy())
