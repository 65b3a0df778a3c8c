"""The generator of density of states: that of a conditional Wasserstein GAN with gradient penalty.

After Kong et al. 2021 (section "Generative transfer learning") and Gulrajani et al., *Improved
training of Wasserstein GANs*, 2017. What differs from the paper and why:

- the condition is [fractions, fraction-weighted mean of fixed element vectors], not the fractions
  alone, so that elements with few DOS learn from their neighbours in the periodic table;
- DOS values, up to hundreds of times the median, are scaled after a logarithm;
- it is trained on the error of the mean of its draws and on their energy score, by default without
  a critic (``training.py``);
- it keeps its training DOS: it recalls those of the most similar materials (``recall.py``) and the
  network adds to that. A DOS that it has seen is not generated again.

A generator without element vectors, scaler and memory is the published one
(`hclmp.models.generator.published`). Its condition is the fractions, and its values are
standardised by statistics that are not published.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from hclmp.data.composition import Compositions
from hclmp.data.tables import EnergyGrid
from hclmp.models.mlp import mlp
from hclmp.models.recall import attention, is_superset_of, remembered_rows
from hclmp.provenance import Provenance
from hclmp.tensors import pack, read_tensors, write_tensors

SAMPLED_AT_ONCE = 256  # compositions: bounds the memory
KEY_HIDDEN, KEY_SIZE = 256, 128
SAME = 1e-5  # Euclidean distance of 32-bit fractions up to which compositions are the same
MAKERS = "`hclmp pretrain-gan` or, from a published one, `hclmp import-generator` makes it"


@dataclass(frozen=True)
class DosScaler:
    """Scaled DOS: u = (log(1 + dos / unit) - mean) / std, per energy."""

    unit: float  # the median of the positive training values, in the unit of the DOS
    mean: Tensor  # [D], of the logarithm over the training DOS
    std: Tensor  # [D]
    top: float  # the largest logarithm in training; samples are not taken beyond it

    @classmethod
    def fit(cls, dos: NDArray[np.float32]) -> "DosScaler":
        """Fit to training DOS: [n, D]."""
        positive = dos[dos > 0]
        unit = float(np.median(positive)) if len(positive) else 1.0
        logs = np.log1p(dos.astype(np.float64) / unit)
        std = logs.std(axis=0)
        # Without a floor, energies at which few materials have states would dominate.
        floor = 0.1 * std.mean() if std.any() else 1.0
        mean = torch.tensor(logs.mean(axis=0), dtype=torch.float32)
        scale = torch.tensor(np.maximum(std, floor), dtype=torch.float32)
        return cls(unit, mean, scale, float(logs.max()))

    def scale(self, dos: NDArray[np.float32]) -> Tensor:
        """DOS in their unit to scaled DOS: [n, D]."""
        logs = torch.from_numpy(np.log1p(dos.astype(np.float64) / self.unit)).float()
        return (logs - self.mean) / self.std

    def unscale(self, scaled: Tensor) -> Tensor:
        """Scaled DOS back to their unit: [..., D], not negative."""
        logs = (scaled * self.std + self.mean).clamp(0.0, self.top)
        return self.unit * torch.expm1(logs)


class Materials(NamedTuple):
    """Fractions [n, V] and scaled DOS [n, D] of n materials."""

    fractions: Tensor
    dos: Tensor


class CompositionDos(NamedTuple):
    """DOS of compositions, recalled or generated."""

    dos: Tensor  # [n, D] scaled
    known: Tensor  # [n] whether it is the remembered DOS of that very composition


class Generator(nn.Module):
    """Composition and noise to a scaled density of states.

    Args:
        vocabulary: the V elements that it knows, in the order of its input.
        vectors: [V, d] fixed element vectors, part of the condition; d may be 0.
        seen: [V] 1 for elements of the training DOS, 0 for those known by their vector only.
        noise, hidden, grid: sizes of the noise and of the hidden layers; the D energies.
        scaler, recalls: None if the unit of the DOS is not known; whether it recalls DOS.

    Attributes:
        memory: materials that it recalls; None before training, and if it does not recall. A
            composition of any of them gets its DOS; others recall from at most ``MOST_REMEMBERED``
            of them, evenly spread.
        provenance: of the file that it was read from; empty for a new one.
    """

    vectors: Tensor
    seen: Tensor
    provenance: Provenance

    def __init__(
        self,
        *,
        vocabulary: Sequence[str],
        vectors: Tensor,
        seen: Tensor,
        noise: int,
        hidden: Sequence[int],
        grid: EnergyGrid,
        scaler: DosScaler | None,
        recalls: bool,
    ) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self.noise, self.hidden, self.grid, self.scaler = noise, tuple(hidden), grid, scaler
        self.provenance = {}
        self.register_buffer("vectors", vectors)
        self.register_buffer("seen", seen)
        condition = len(self.vocabulary) + vectors.shape[1]
        self.recalls = recalls
        self.memory: Materials | None = None
        if recalls:
            self.key = mlp([condition, KEY_HIDDEN, KEY_SIZE])
            self.log_sharpness = nn.Parameter(torch.zeros(()))
        self.network = mlp([condition + noise + recalls * grid.n, *hidden, grid.n])

    def fractions(self, compositions: Compositions) -> NDArray[np.float32]:
        """Fractions of compositions over its own elements: [n, V].

        The compositions must have no other elements, but their vocabulary may.
        """
        position = {element: i for i, element in enumerate(self.vocabulary)}
        theirs = compositions.vocabulary
        columns = [i for i, element in enumerate(theirs) if element in position]
        fractions = np.zeros((len(compositions), len(position)), dtype=np.float32)
        fractions[:, [position[theirs[i]] for i in columns]] = compositions.dense()[:, columns]
        return fractions

    def condition(self, fractions: Tensor) -> Tensor:
        """Fractions [n, V] to the condition [n, V + d]."""
        return torch.cat([fractions * self.seen, fractions @ self.vectors.to(fractions)], dim=-1)

    def forward(self, condition: Tensor, noise: Tensor, recalled: Tensor | None = None) -> Tensor:
        """Condition [..., V + d], noise [..., z], recalled DOS [..., D]: scaled DOS [..., D]."""
        given = [condition, noise] + ([] if recalled is None else [recalled])
        out: Tensor = self.network(torch.cat(given, dim=-1))
        return out if recalled is None else recalled + out

    def attend(self, queries: Tensor, keys: Tensor, dos: Tensor, hidden: Tensor | None) -> Tensor:
        """Mean of scaled DOS [m, D], weighted by attention: queries [n, k], keys [m, k] to [n, D].

        Materials that are hidden, [n, m], have no weight.
        """
        return attention(queries, keys, self.log_sharpness.exp(), hidden) @ dos

    @torch.no_grad()
    def samples(
        self, fractions: Tensor, *, draws: int, seed: int, hide_own_system: bool = False
    ) -> Tensor:
        """Scaled DOS samples: fractions [n, V] -> [n, draws, D].

        Every composition gets the same noise vectors, so that a row does not depend on its batch.
        For a remembered composition all samples are its DOS. ``hide_own_system`` ignores the DOS of
        a composition's own system and its supersets.
        """
        recalled = self._recalled(fractions, hide_own_system)
        return torch.cat(list(self._samples(fractions, recalled, draws, seed)))

    @torch.no_grad()
    def feature(
        self,
        fractions: NDArray[np.float32],
        *,
        draws: int,
        seed: int,
        hide_own_system: bool = False,
    ) -> CompositionDos:
        """The DOS feature, the mean of ``samples``, of compositions given by fractions [n, V]."""
        given = torch.from_numpy(fractions)
        recalled = self._recalled(given, hide_own_system)
        parts = self._samples(given, recalled, draws, seed)
        known = torch.zeros(len(given), dtype=torch.bool) if recalled is None else recalled.known
        return CompositionDos(torch.cat([part.mean(dim=1) for part in parts]), known)

    def _samples(
        self, fractions: Tensor, recalled: CompositionDos | None, draws: int, seed: int
    ) -> Iterator[Tensor]:
        """Samples of some compositions after the other, which bounds the memory."""
        for start in range(0, len(fractions), SAMPLED_AT_ONCE):
            rows = slice(start, start + SAMPLED_AT_ONCE)
            part = None if recalled is None else CompositionDos(*(each[rows] for each in recalled))
            yield self._sample_around(fractions[rows], part, draws=draws, seed=seed)

    def _sample_around(
        self, fractions: Tensor, recalled: CompositionDos | None, *, draws: int, seed: int
    ) -> Tensor:
        """Samples: [n, draws, D].

        As ``forward``, but the widest layer, the first, computes each condition and noise once.
        """
        noise = torch.randn(draws, self.noise, generator=torch.Generator().manual_seed(seed))
        given = [self.condition(fractions)] + ([] if recalled is None else [recalled.dos])
        first, *others = self.network
        assert isinstance(first, nn.Linear)
        widths = [given[0].shape[1], self.noise, self.recalls * self.grid.n]
        of_condition, of_noise, of_recalled = torch.split(first.weight, widths, dim=1)
        of_given = torch.cat([of_condition, of_recalled], dim=1)
        drawn = F.linear(torch.cat(given, dim=1), of_given, first.bias)[:, None]
        drawn = drawn + F.linear(noise, of_noise)
        for layer in others:
            drawn = layer(drawn)
        if recalled is None:
            return drawn
        dos = recalled.dos[:, None]
        return torch.where(recalled.known[:, None, None], dos, dos + drawn)

    def _recalled(self, fractions: Tensor, hide_own_system: bool) -> CompositionDos | None:
        """The DOS that each composition recalls; None for a generator without a memory."""
        if self.memory is None:
            return None
        x, dos = self.memory.fractions.double(), self.memory.dos.double()
        kept = remembered_rows(len(x))
        others, their_dos = self.memory.fractions[kept], dos[kept]
        keys, recalled = self._keys(others), []
        for rows in torch.split(fractions, SAMPLED_AT_ONCE):
            hidden = is_superset_of(rows, others) if hide_own_system else None
            near = self.attend(self._keys(rows), keys, their_dos, hidden)
            known = torch.zeros(len(rows), dtype=torch.bool)
            if not hide_own_system:
                same = torch.cdist(rows.double(), x) < SAME
                known = same.any(dim=1)
                near[known] = (same.double() @ dos / same.sum(dim=1, keepdim=True))[known]
            recalled.append((near.float(), known))
        return CompositionDos(*(torch.cat(part) for part in zip(*recalled, strict=True)))

    def _keys(self, fractions: Tensor) -> Tensor:
        """Keys, in double precision so that no row depends on its batch: [n, k]."""
        weights = {name: weight.double() for name, weight in self.key.state_dict().items()}
        keys: Tensor = functional_call(self.key, weights, self.condition(fractions.double()))
        return keys

    def save(self, path: str | Path, *, provenance: Provenance) -> None:
        """Write the generator as one safetensors file."""
        header: dict[str, Any] = {
            "vocabulary": self.vocabulary,
            "noise": self.noise,
            "hidden": self.hidden,
            "grid": asdict(self.grid),
            "recalls": self.recalls,
            "scaler": None,
            "provenance": provenance,
        }
        tensors = dict(self.state_dict())
        if (scaler := self.scaler) is not None:
            header["scaler"] = {"unit": scaler.unit, "top": scaler.top}
            tensors |= {"scaler.mean": scaler.mean, "scaler.std": scaler.std}
        if self.memory is not None:
            tensors |= pack("memory", self.memory._asdict())
        write_tensors(path, tensors, header)

    @classmethod
    def from_file(cls, path: str | Path) -> "Generator":
        """Read a generator that ``save`` wrote.

        Raises:
            UserError: the file is missing or is no generator.
        """
        what = "a generator"
        with read_tensors(path, what=what, remedy=MAKERS, framework="pt") as (header, tensors):
            scaler = None
            if (known := header["scaler"]) is not None:
                statistics = {k: tensors.pop(f"scaler.{k}") for k in ("mean", "std")}
                scaler = DosScaler(**statistics, **known)
            generator = cls(
                vocabulary=header["vocabulary"],
                vectors=tensors["vectors"],
                seen=tensors["seen"],
                noise=header["noise"],
                hidden=header["hidden"],
                grid=EnergyGrid(**header["grid"]),
                scaler=scaler,
                recalls=header.get("recalls", False),
            )
            if generator.recalls:
                kept = {name: tensors.pop(f"memory.{name}") for name in ("fractions", "dos")}
                generator.memory = Materials(**kept)
            generator.load_state_dict(tensors)
            generator.provenance = dict(header["provenance"])
        return generator
