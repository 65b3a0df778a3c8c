"""The features file: what every model sees of every sample, computed once and stored as tensors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hclmp.data.composition import Compositions
from hclmp.data.inputs import ElementTable, Inputs
from hclmp.errors import UserError
from hclmp.files import atomic_write
from hclmp.provenance import Provenance


def write_features(
    path: str | Path, inputs: Inputs, *, sample_id: list[str], provenance: Provenance
) -> None:
    """Write the inputs of all samples, in the order of the targets table."""
    tensors: dict[str, Any] = {
        "elements": inputs.compositions.elements,
        "fractions": inputs.compositions.fractions,
        "element_properties": inputs.elements.properties,
    }
    tensors |= {f"vectors.{name}": v for name, v in inputs.elements.vectors.items()}
    if inputs.dos is not None:
        tensors["dos"] = inputs.dos
    about = {
        "vocabulary": inputs.compositions.vocabulary,
        "sample_id": sample_id,
        "provenance": provenance,
    }
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(contiguous, temporary, metadata={"hclmp": json.dumps(about, sort_keys=True)})


def read_features(path: str | Path) -> tuple[Inputs, list[str], Provenance]:
    """Read the inputs of all samples, their ``sample_id`` and where they come from.

    Raises:
        UserError: the file is missing or is no features file.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; `hclmp featurize` makes it")
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["hclmp"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        prefix = "vectors."
        inputs = Inputs(
            Compositions(tuple(about["vocabulary"]), tensors["elements"], tensors["fractions"]),
            ElementTable(
                {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)},
                tensors["element_properties"],
            ),
            tensors.get("dos"),
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a features file; `hclmp featurize` makes it") from error
    return inputs, about["sample_id"], about["provenance"]
