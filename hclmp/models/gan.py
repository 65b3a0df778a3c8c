"""The generator of density of states: a conditional Wasserstein GAN with gradient penalty.

After Kong et al. 2021 (section "Generative transfer learning") and Gulrajani et al., *Improved
training of Wasserstein GANs*, 2017. What differs from the paper and why:

- the condition is [fractions, fraction-weighted mean of fixed element vectors], not the fractions
  alone, so that elements with few DOS borrow from their neighbours in the periodic table;
- heavy tails (values up to hundreds of times the median) are tamed by a logarithm before scaling.

A generator without element vectors and without a scaler is the published one
(`hclmp.models.published_generator`): its condition is the fractions, its values are standardised by
statistics that it does not bring along.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hclmp.errors import UserError
from hclmp.models.layers import mlp
from hclmp.provenance import Provenance, written
from hclmp.tables import EnergyGrid

ROWS_AT_ONCE = 1024
MAKERS = "`hclmp pretrain-gan` or, from a published one, `hclmp import-generator` makes it"


@dataclass(frozen=True)
class DosScaler:
    """Scaled DOS: u = (log(1 + dos / unit) - mean) / std, per energy.

    Attributes:
        unit: the median of the positive training values, in the unit of the DOS.
        mean, std: [D], of the logarithm over the training DOS.
        top: the largest logarithm in training; samples are not taken beyond it.
    """

    unit: float
    mean: Tensor
    std: Tensor
    top: float

    @classmethod
    def fit(cls, dos: NDArray[np.float32]) -> "DosScaler":
        """Fit to training DOS: [n, D]."""
        positive = dos[dos > 0]
        unit = float(np.median(positive)) if len(positive) else 1.0
        logs = np.log1p(dos.astype(np.float64) / unit)
        std = logs.std(axis=0)
        # Energies where nearly every material has no states would otherwise be blown up.
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


class Generator(nn.Module):
    """Composition and noise to a scaled density of states.

    Args:
        vocabulary: the V elements that it knows, in the order of its input.
        vectors: [V, d] fixed element vectors, part of the condition; d may be 0.
        seen: [V] 1 for elements of the training DOS, 0 for those it knows by their vector alone.
        noise: length of the noise vector.
        hidden: hidden layers.
        grid: the D energies.
        scaler: between scaled values and the unit of the DOS; None where it is not known, so that
            scaled values are all there is.

    Attributes:
        provenance: of the file that it was read from; empty for one that was made here.
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
    ) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self.noise, self.hidden, self.grid, self.scaler = noise, tuple(hidden), grid, scaler
        self.provenance = {}
        self.register_buffer("vectors", vectors)
        self.register_buffer("seen", seen)
        condition = len(self.vocabulary) + vectors.shape[1]
        self.network = mlp([condition + noise, *hidden, grid.n])

    def condition(self, fractions: Tensor) -> Tensor:
        """Fractions [n, V] to the condition [n, V + d]."""
        return torch.cat([fractions * self.seen, fractions @ self.vectors], dim=-1)

    def forward(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Condition [..., V + d] and noise [..., z] to scaled DOS [..., D]."""
        out: Tensor = self.network(torch.cat([condition, noise], dim=-1))
        return out

    @torch.no_grad()
    def samples(self, fractions: Tensor, *, draws: int, seed: int) -> Tensor:
        """Scaled DOS samples: fractions [n, V] -> [n, draws, D].

        Every composition gets the same noise vectors, so that a row does not depend on its batch.
        """
        rng = torch.Generator().manual_seed(seed)
        noise = torch.randn(draws, self.noise, generator=rng)
        condition = self.condition(fractions)
        n = len(condition)
        sampled: Tensor = self(
            condition[:, None].expand(n, draws, condition.shape[1]),
            noise[None].expand(n, draws, self.noise),
        )
        return sampled

    def feature(self, fractions: NDArray[np.float32], *, draws: int, seed: int) -> Tensor:
        """The DOS feature: the mean over noise draws, scaled: fractions [n, V] -> [n, D]."""
        rows = torch.split(torch.from_numpy(fractions), ROWS_AT_ONCE)
        return torch.cat([self.samples(r, draws=draws, seed=seed).mean(dim=1) for r in rows])

    def save(self, path: str | Path, *, provenance: Provenance) -> None:
        """Write the generator as safetensors, with all that rebuilds it in the metadata."""
        about: dict[str, Any] = {
            "vocabulary": self.vocabulary,
            "noise": self.noise,
            "hidden": self.hidden,
            "grid": asdict(self.grid),
            "scaler": None,
            "provenance": provenance,
        }
        tensors = dict(self.state_dict())
        if self.scaler is not None:
            about["scaler"] = {"unit": self.scaler.unit, "top": self.scaler.top}
            tensors |= {"scaler.mean": self.scaler.mean, "scaler.std": self.scaler.std}
        with written(path) as temporary:
            save_file(tensors, temporary, metadata={"hclmp": json.dumps(about, sort_keys=True)})

    @classmethod
    def from_file(cls, path: str | Path) -> "Generator":
        """Read a generator that ``save`` wrote.

        Raises:
            UserError: the file is missing or is no generator.
        """
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; {MAKERS}")
        try:
            with safe_open(path, framework="pt") as file:
                about: dict[str, Any] = json.loads(file.metadata()["hclmp"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            known, scaler = about["scaler"], None
            if known is not None:
                statistics = {k: tensors.pop(f"scaler.{k}") for k in ("mean", "std")}
                scaler = DosScaler(**statistics, **known)
            generator = cls(
                vocabulary=about["vocabulary"],
                vectors=tensors["vectors"],
                seen=tensors["seen"],
                noise=about["noise"],
                hidden=about["hidden"],
                grid=EnergyGrid(**about["grid"]),
                scaler=scaler,
            )
            generator.load_state_dict(tensors)
            generator.provenance = dict(about["provenance"])
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not a generator; {MAKERS} ({error})") from error
        return generator.eval()
