"""The features file: what every model sees of every sample, computed once and stored as tensors."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hclmp.data.composition import Compositions
from hclmp.data.inputs import ElementTable, Inputs
from hclmp.provenance import Provenance
from hclmp.tensors import pack, read_tensors, unpack, write_tensors


def write_features(
    path: str | Path, inputs: Inputs, *, sample_id: list[str], provenance: Provenance
) -> None:
    """Write the inputs of all samples, in the order of the targets table."""
    tensors: dict[str, NDArray[Any]] = {
        "elements": inputs.compositions.elements,
        "fractions": inputs.compositions.fractions,
        "element_properties": inputs.elements.properties,
    }
    tensors |= pack("vectors", inputs.elements.vectors)
    if inputs.dos is not None:
        tensors["dos"] = inputs.dos
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
    remedy = "`hclmp featurize` makes it"
    with read_tensors(path, what="a features file", remedy=remedy) as (header, tensors):
        inputs = Inputs(
            Compositions(tuple(header["vocabulary"]), tensors["elements"], tensors["fractions"]),
            ElementTable(unpack("vectors", tensors), tensors["element_properties"]),
            tensors.get("dos"),
        )
    return inputs, header["sample_id"], header["provenance"]
