"""The paper's pretrained generator, turned into a file of ours.

The release (https://github.com/gomes-lab/H-CLMP, MIT) holds `generator_MP2020.pt`, a state dict of
four linear layers with leaky ReLU (slope 0.1) between them: [39 cation fractions, 50 noise] -> 256
-> 256 -> 128 -> 161 DOS values from -8 to 8 eV, standardised per energy over its training DOS.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hclmp.config.data import PAPER_CATIONS, EnergiesConfig
from hclmp.errors import UserError, listed
from hclmp.models.gan import Generator
from hclmp.provenance import Provenance, sha256
from hclmp.tables import EnergyGrid

LAYERS = [f"laten_to_label.{i}" for i in (0, 2, 4, 6)]
NOISE = 50


def import_generator(path: Path, out: Path) -> Generator:
    """Read the published state dict and write it as a generator of ours.

    Its scaled values are standardised by statistics that it does not bring along, so that they
    cannot be turned into states/eV; as a feature they serve as they are.

    Args:
        path: the state dict, as ``torch.save`` wrote it.
        out: the safetensors file that is written.

    Returns:
        The generator that was written.

    Raises:
        UserError: no such file, it holds more than tensors, or its layers are not those of the
            published generator.
    """
    weights = _layers(path, _state_dict(path))
    sizes = [weights[f"{LAYERS[0]}.weight"].shape[1]]
    sizes += [weights[f"{name}.weight"].shape[0] for name in LAYERS]
    if sizes[0] != len(PAPER_CATIONS) + NOISE:
        raise UserError(
            f"{path}: the first layer takes {sizes[0]} numbers; the published generator takes "
            f"{len(PAPER_CATIONS)} cation fractions and {NOISE} noise"
        )
    energies = EnergiesConfig()
    if sizes[-1] != energies.n:
        raise UserError(
            f"{path}: the last layer gives {sizes[-1]} DOS values; the published generator gives "
            f"{energies.n}, from {energies.start:g} to {energies.stop:g} {energies.unit}"
        )
    generator = Generator(
        vocabulary=PAPER_CATIONS,
        vectors=torch.zeros(len(PAPER_CATIONS), 0),
        seen=torch.ones(len(PAPER_CATIONS)),
        noise=NOISE,
        hidden=sizes[1:-1],
        grid=EnergyGrid(**energies.model_dump()),
        scaler=None,
    )
    linear = [layer for layer in generator.network if isinstance(layer, nn.Linear)]
    for layer, name in zip(linear, LAYERS, strict=True):
        layer.load_state_dict({k: weights[f"{name}.{k}"] for k in ("weight", "bias")})
    origin: Provenance = {"step": "import-generator", "file": path.name, "sha256": sha256(path)}
    generator.eval().save(out, provenance=origin)
    return generator


def _state_dict(path: Path) -> dict[str, Any]:
    """What the file holds, read as tensors alone."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds more than tensors (`{_named(str(error))}`), and is not read: a pickle "
            "can run any program. Take the file from its publisher."
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not written by torch.save: {reason}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds a {type(state).__name__}, not a state dict")
    return state


def _named(message: str) -> str:
    """What the file asked for: the name after ``GLOBAL`` in PyTorch's message, amid its advice."""
    return message.partition("GLOBAL ")[2].partition(" ")[0] or "a pickle"


def _layers(path: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    """The checked weights and biases, as 32-bit numbers."""
    wanted = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]
    absent, strange = [k for k in wanted if k not in state], [k for k in state if k not in wanted]
    if absent or strange:
        faults = [f"lacks {listed(absent)}"] if absent else []
        faults += [f"has {listed(strange)} beside"] if strange else []
        raise UserError(
            f"{path}: not the published generator, whose layers are {listed(LAYERS)}: it "
            + " and ".join(faults)
        )
    size: int | None = None
    for layer in LAYERS:
        weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        if not (isinstance(weight, Tensor) and isinstance(bias, Tensor)):
            raise UserError(f"{path}: `{layer}` holds no tensors")
        fits = weight.ndim == 2 and (size is None or weight.shape[1] == size)
        if not fits or bias.shape != weight.shape[:1]:
            raise UserError(
                f"{path}: `{layer}` has shapes {tuple(weight.shape)} and {tuple(bias.shape)}, "
                "which do not fit the layer before it or each other"
            )
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise UserError(f"{path}: `{layer}` holds numbers that are not finite")
        size = weight.shape[0]
    return {name: state[name].float() for name in wanted}
