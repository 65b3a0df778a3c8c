"""The features file: what every model sees of every sample, computed once and stored as tensors."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hclmp.data.composition import Compositions
from hclmp.data.inputs import ElementTable, Inputs
from hclmp.provenance import Provenance
from hclmp.tensors import pack, read_tensors, unpack, write_tensors

REMEDY = "`hclmp featurize` makes it"


def write_features(
    path: str | Path,
    inputs: Inputs,
    *,
    sample_id: list[str],
    provenance: Provenance,
    dos_known: NDArray[np.bool_] | None = None,
) -> None:
    """Write the inputs of all samples, in the order of the targets table.

    ``dos_known`` says for each sample whether its DOS feature is its own computed DOS.
    """
    tensors: dict[str, NDArray[Any]] = {
        "elements": inputs.compositions.elements,
        "fractions": inputs.compositions.fractions,
        "element_properties": inputs.elements.properties,
    }
    tensors |= pack("vectors", inputs.elements.vectors)
    if inputs.dos is not None:
        tensors["dos"] = inputs.dos
    if dos_known is not None:
        tensors["dos_known"] = dos_known
    header = {
        "vocabulary": inputs.compositions.vocabulary,
        "sample_id": sample_id,
        "provenance": provenance,
    }
    write_tensors(path, tensors, header)


def read_features(path: str | Path) -> tuple[Inputs, list[str], Provenance]:
    """Read the inputs of all samples, their ``sample_id`` and where they come from.

    Raises:
        UserError: the file is missing or is no features file.
    """
    with read_tensors(path, what="a features file", remedy=REMEDY) as (header, tensors):
        inputs = Inputs(
            Compositions(tuple(header["vocabulary"]), tensors["elements"], tensors["fractions"]),
            ElementTable(unpack("vectors", tensors), tensors["element_properties"]),
            tensors.get("dos"),
        )
    return inputs, header["sample_id"], header["provenance"]


def read_dos_known(path: str | Path) -> set[str]:
    """The ``sample_id`` of the samples whose DOS feature is their own computed DOS.

    Raises:
        UserError: the file is missing or is no features file.
    """
    with read_tensors(path, what="a features file", remedy=REMEDY) as (header, tensors):
        known = tensors["dos_known"]
        return {sample for sample, own in zip(header["sample_id"], known, strict=True) if own}
