"""The encoder pretrained on computed densities of states: what H-CLMP(T) starts from.

The generator's feature says what the DOS of a composition is, which of a compound whose DOS nobody
has computed is a guess. Whoever has learned to make that guess has learned more about elements and
how they combine than the labels tell: so the material encoder and the keys of recall are trained
to predict DOS before they learn the properties. Not in the paper; see ``docs/method.md``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hclmp.errors import UserError, join_some
from hclmp.models.hclmp.network import HCLMP
from hclmp.models.scaling import FARTHEST, Scaler
from hclmp.provenance import Provenance, differing
from hclmp.tensors import read_tensors, write_tensors

KEY = "key."
CARRIED = ("material.", KEY)  # the parts of a network that the pretrained one hands on
BY_ELEMENT = "material.statistics_map.weight"  # [m, S, trunk], the first V of S are fractions
BIAS = "material.statistics_map.bias"


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from.

    Attributes:
        vocabulary: the V elements whose fractions are the first of the statistics.
        statistics: standardisation of the S statistics, which the weights go with.
        tensors: parameters of the network by name, [m, ...] of m members.
    """

    vocabulary: tuple[str, ...]
    statistics: Scaler
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, network: HCLMP, *, vocabulary: tuple[str, ...], statistics: Scaler) -> "Pretrained":
        """What a trained network hands on."""
        state = network.state_dict().items()
        carried = {name: tensor.cpu() for name, tensor in state if name.startswith(CARRIED)}
        return cls(vocabulary, statistics, carried)

    def over(self, vocabulary: tuple[str, ...]) -> "Pretrained":
        """The same for compositions over some of its elements, in their order.

        What it says of those compositions is the same: the other elements are absent in all.

        Raises:
            UserError: it does not know an element.
        """
        if strangers := sorted(set(vocabulary) - set(self.vocabulary)):
            raise UserError(f"the pretrained encoder has no input for {' '.join(strangers)}")
        others = range(len(self.vocabulary), len(self.statistics.mean))
        columns = [self.vocabulary.index(e) for e in vocabulary] + list(others)
        scaler = Scaler(self.statistics.mean[columns], self.statistics.std[columns])
        tensors = dict(self.tensors)
        if BY_ELEMENT in tensors:
            absent = [i for i, e in enumerate(self.vocabulary) if e not in vocabulary]
            zeros = np.zeros((1, len(self.statistics.mean)))
            scaled = torch.from_numpy(self.statistics.scale(zeros)[:, absent]).float()
            scaled = scaled.clamp(-FARTHEST, FARTHEST)
            weights = tensors[BY_ELEMENT]
            tensors[BY_ELEMENT] = weights[:, columns]
            tensors[BIAS] = tensors[BIAS] + scaled @ weights[:, absent]
        return Pretrained(vocabulary, scaler, tensors)

    def put_into(self, network: HCLMP) -> None:
        """Let the members of a fresh network start from here, each from another one's weights.

        Keys start anew where they have another input (without a trunk they see the DOS feature
        too), and are left where nothing is recalled.
        """
        state = network.state_dict()
        for name, tensor in self.tensors.items():
            there = state.get(name)
            fits = there is not None and there.shape[1:] == tensor.shape[1:]
            if fits or not name.startswith(KEY):
                state[name] = tensor[: len(state[name])]
        network.load_state_dict(state)

    def save(self, path: str | Path, *, provenance: Provenance) -> None:
        """Write safetensors with vocabulary and provenance in the metadata."""
        tensors = self.tensors | {
            "statistics.mean": torch.from_numpy(self.statistics.mean),
            "statistics.std": torch.from_numpy(self.statistics.std),
        }
        header = {"vocabulary": self.vocabulary, "provenance": provenance}
        write_tensors(path, tensors, header)

    @classmethod
    def from_file(cls, path: str | Path, *, made_with: dict[str, Any]) -> "Pretrained":
        """Read what ``save`` wrote.

        Args:
            path: of the file.
            made_with: the settings that it must have been made with (``slices.encoder_slice``).

        Raises:
            UserError: the file is missing, is no encoder, or one of other settings: of another
                size, or one that has seen the DOS of systems that are held out now.
        """
        remedy = "`hclmp pretrain-encoder` makes it"
        what = "a pretrained encoder"
        with read_tensors(path, what=what, remedy=remedy, framework="pt") as (header, tensors):
            found = header["provenance"]["config"]
            mean, std = (tensors.pop(f"statistics.{name}").numpy() for name in ("mean", "std"))
            read = cls(tuple(header["vocabulary"]), Scaler(mean, std), tensors)
        if other := differing(found, made_with):
            raise UserError(
                f"{path}: made with another {join_some(other)} than this run's; {remedy}"
            )
        return read
