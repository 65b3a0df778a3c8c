"""Import of the paper's pretrained generator.

The release (https://github.com/gomes-lab/H-CLMP, MIT) holds `generator_MP2020.pt`, a state dict of
four linear layers with leaky ReLU (slope 0.1) between them: [39 cation fractions, 50 noise] -> 256
-> 256 -> 128 -> 161 DOS values from -8 to 8 eV, standardised per energy over its training DOS.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hclmp.config.data import PAPER_CATIONS, EnergiesConfig
from hclmp.data.tables import EnergyGrid
from hclmp.errors import UserError, join_some
from hclmp.models.generator.network import Generator
from hclmp.provenance import Provenance, sha256

LAYERS = [f"laten_to_label.{i}" for i in (0, 2, 4, 6)]
NOISE = 50
LEFT_OUT = ["O"]  # its fractions are of cations
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def import_generator(path: Path, out: Path) -> Generator:
    """Read the published state dict and write it as a generator of ours.

    Its values are standardised by statistics that are not published, so they cannot be turned into
    states/eV; the DOS feature does not need that.

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
        recalls=False,
    )
    linear = [layer for layer in generator.network if isinstance(layer, nn.Linear)]
    for layer, name in zip(linear, LAYERS, strict=True):
        layer.load_state_dict({k: weights[f"{name}.{k}"] for k in ("weight", "bias")})
    origin: Provenance = {
        "step": "import-generator",
        "file": path.name,
        "sha256": sha256(path),
        "config": {"left_out": LEFT_OUT},
    }
    generator.save(out, provenance=origin)
    return generator


def _state_dict(path: Path) -> dict[str, Any]:
    """The content of the file; tensors only."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # any exception, because a damaged or hostile pickle may provoke any in PyTorch's reader
    except Exception as error:
        if asked := re.search(r"GLOBAL ([\w.]+\.\w+)", str(error)):
            raise UserError(
                f"{path}: holds more than tensors (`{asked[1]}`), and is not read: a pickle can run"
                " any program. Take the state dict from its publisher."
            ) from None
        # PyTorch's own message advises to read the file unsafely
        raise UserError(
            f"{path}: not written by torch.save, or damaged; is it a web page or a Git LFS pointer"
            f" saved in its place? It begins with {_beginning(path)}. Download it again."
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds a {type(state).__name__}, not a state dict")
    return _unwrapped(state)


def _beginning(path: Path) -> str:
    """The first bytes of a file, as a message shows them."""
    with open(path, "rb") as file:
        return repr(file.read(16))[1:]


def _unwrapped(state: dict[str, Any]) -> dict[str, Any]:
    """The layers of a state dict in a checkpoint (``state_dict``) or of ``DataParallel``."""
    inner = state.get("state_dict")
    if isinstance(inner, dict):
        state = inner
    if state and all(isinstance(k, str) and k.startswith("module.") for k in state):
        state = {k.removeprefix("module."): v for k, v in state.items()}
    return state


def _layers(path: Path, state: dict[str, Any]) -> dict[str, Tensor]:
    """The checked weights and biases, as 32-bit numbers."""
    wanted = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]
    absent, strange = [k for k in wanted if k not in state], [k for k in state if k not in wanted]
    if absent or strange:
        faults = [f"lacks {join_some(absent)}"] if absent else []
        faults += [f"has {join_some(strange)} beside"] if strange else []
        raise UserError(
            f"{path}: not the published generator, whose layers are {join_some(LAYERS)}: it "
            + " and ".join(faults)
        )
    size: int | None = None
    for layer in LAYERS:
        weight, bias = state[f"{layer}.weight"], state[f"{layer}.bias"]
        for kind, value in (("weight", weight), ("bias", bias)):
            if fault := _fault(value):
                raise UserError(
                    f"{path}: `{layer}.{kind}` holds {fault}, where a dense tensor of real floating"
                    " point numbers belongs. Save the state dict of the network as it was trained."
                )
        fits = weight.ndim == 2 and (size is None or weight.shape[1] == size)
        if not fits or bias.shape != weight.shape[:1]:
            raise UserError(
                f"{path}: `{layer}` has shapes {tuple(weight.shape)} and {tuple(bias.shape)}, "
                "which do not fit the layer before it or each other"
            )
        # as 32-bit numbers, because large numbers of 64 bits become infinite
        if not (weight.float().isfinite().all() and bias.float().isfinite().all()):
            raise UserError(f"{path}: `{layer}` holds numbers that are not finite")
        size = weight.shape[0]
    return {name: state[name].float() for name in wanted}


def _fault(value: object) -> str:
    """What is wrong with a value as weights; empty if nothing."""
    if not isinstance(value, Tensor):
        return "no tensor"
    if value.is_meta or value.device.type != "cpu":
        return "a tensor without numbers"
    if value.is_quantized:
        return "a quantised tensor"
    if value.layout != torch.strided or value.is_nested:
        return "a sparse or nested tensor"
    if value.dtype not in FLOATS:
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}"
    # a repeated number (`expand`) can claim a size that does not fit into memory
    stored = value.untyped_storage().nbytes() // value.itemsize
    if value.numel() > stored:
        return f"a tensor of {value.numel()} numbers of which {stored} are there"
    return ""
