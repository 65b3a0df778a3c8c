"""The encoder pretrained on computed densities of states: what H-CLMP(T) starts from.

The material encoder and the keys of recall are trained to predict DOS before they learn the
properties. This teaches them more about elements and their combinations than the labels do, also
for compounds whose DOS has never been computed. Not in the paper; see ``docs/method.md``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hclmp.errors import UserError
from hclmp.models.hclmp.network import HCLMP
from hclmp.models.scaling import FARTHEST, Scaler
from hclmp.provenance import Provenance
from hclmp.tensors import pack, read_tensors, write_tensors

KEY = "key."
TRANSFERRED = ("material.", KEY)  # parts of the network
BY_ELEMENT = "material.statistics_map.weight"  # [m, S, trunk], the first V of S are fractions
BIAS = "material.statistics_map.bias"


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from."""

    vocabulary: tuple[str, ...]  # the V elements whose fractions are the first of the statistics
    statistics: Scaler  # of the S statistics, for which the weights hold
    tensors: dict[str, Tensor]  # parameters of the network by name, [m, ...] of m members

    @classmethod
    def of(cls, network: HCLMP, *, vocabulary: tuple[str, ...], statistics: Scaler) -> "Pretrained":
        """The encoder and keys of a trained network."""
        state = network.state_dict().items()
        tensors = {name: tensor.cpu() for name, tensor in state if name.startswith(TRANSFERRED)}
        return cls(vocabulary, statistics, tensors)

    def over(self, vocabulary: tuple[str, ...]) -> "Pretrained":
        """The same function of compositions over some of its elements, in their order.

        Raises:
            UserError: it does not know an element.
        """
        if unknown := sorted(set(vocabulary) - set(self.vocabulary)):
            raise UserError(f"the pretrained encoder has no input for {' '.join(unknown)}")
        others = range(len(self.vocabulary), len(self.statistics.mean))
        columns = [self.vocabulary.index(e) for e in vocabulary] + list(others)
        scaler = Scaler(self.statistics.mean[columns], self.statistics.std[columns])
        tensors = dict(self.tensors)
        if BY_ELEMENT in tensors:
            absent = [i for i, e in enumerate(self.vocabulary) if e not in vocabulary]
            zeros = self.statistics.scale(np.zeros((1, len(self.statistics.mean))))[:, absent]
            scaled = torch.from_numpy(zeros).float().clamp(-FARTHEST, FARTHEST)
            weights = tensors[BY_ELEMENT]
            tensors[BY_ELEMENT] = weights[:, columns]
            tensors[BIAS] = tensors[BIAS] + scaled @ weights[:, absent]
        return Pretrained(vocabulary, scaler, tensors)

    def put_into(self, network: HCLMP) -> None:
        """Set the members of a new network to these weights, each to those of one member.

        Keys with another input (without a trunk it holds the DOS feature) keep their new weights;
        a network without recall has no keys.
        """
        state = network.state_dict()
        for name, tensor in self.tensors.items():
            new = state.get(name)
            fits = new is not None and new.shape[1:] == tensor.shape[1:]
            if fits or not name.startswith(KEY):
                state[name] = tensor[: len(state[name])]
        network.load_state_dict(state)

    def save(self, path: str | Path, *, provenance: Provenance) -> None:
        """Write safetensors with vocabulary and provenance in the metadata."""
        tensors: dict[str, Any] = self.tensors | pack("statistics", vars(self.statistics))
        header = {"vocabulary": self.vocabulary, "provenance": provenance}
        write_tensors(path, tensors, header)

    @classmethod
    def from_file(cls, path: str | Path) -> "Pretrained":
        """Read what ``save`` wrote.

        Raises:
            UserError: the file is missing or is no encoder.
        """
        what, remedy = "a pretrained encoder", "`hclmp pretrain-encoder` makes it"
        with read_tensors(path, what=what, remedy=remedy, framework="pt") as (header, tensors):
            mean, std = (tensors.pop(f"statistics.{name}").numpy() for name in ("mean", "std"))
            read = cls(tuple(header["vocabulary"]), Scaler(mean, std), tensors)
        return read
