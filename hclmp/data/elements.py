"""Fixed vectors and tabulated properties of the elements, from the ElementEmbeddings library."""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.periodic_table import Element

from hclmp.data.formula import Fractions
from hclmp.errors import UserError, join_some

# The tabulated element properties that the baselines use, whatever the configuration says.
TABULATED = "magpie"


def known_elements(name: str) -> tuple[str, ...]:
    """The elements that have a vector in an embedding, alphabetical."""
    return tuple(sorted(_load(name)))


def describable(embedding: str, *, left_out: Sequence[str]) -> tuple[str, ...]:
    """The elements with a vector and tabulated properties, without those left out."""
    known = set(known_elements(embedding)) & set(known_elements(TABULATED))
    return tuple(sorted(known - set(left_out)))


def element_vectors(elements: Sequence[str], name: str) -> NDArray[np.float32]:
    """Vectors of elements in a published embedding, each dimension scaled to unit variance.

    Args:
        elements: V symbols.
        name: an embedding of ElementEmbeddings, such as ``matscholar`` (200 numbers; Weston et
            al., J. Chem. Inf. Model. 59, 3692, 2019) or ``magpie`` (22 tabulated properties;
            Ward et al., npj Comput. Mater. 2, 16028, 2016).

    Returns:
        [V, d] float32, standardised over all elements that the embedding knows, so that the
        vector of an element does not depend on which others are asked for.

    Raises:
        UserError: an element has no vector in this embedding.
    """
    table = _load(name)
    if missing := sorted(set(elements) - table.keys()):
        raise UserError(
            f"the `{name}` embedding has no vector for {join_some(missing)}: leave their "
            "compositions out of the table, name the elements in `targets.left_out`, or choose "
            "another `model.embedding`"
        )
    known = np.array([table[element] for element in sorted(table)])
    std = known.std(axis=0)
    vectors = np.array([table[element] for element in elements])
    scaled = (vectors - known.mean(axis=0)) / np.where(std > 0, std, 1.0)
    return np.asarray(scaled, dtype=np.float32)


@functools.cache
def _load(name: str) -> dict[str, NDArray[np.float64]]:
    """Element -> vector, as published; numbers that the table lacks are the dimension's mean."""
    # Here, not above: it brings numba and umap with it, which take seconds to import.
    from elementembeddings.core import Embedding

    embedding = Embedding.load_data(name)
    symbols = [symbol for symbol in embedding.element_list if Element.is_valid_symbol(symbol)]
    values = np.array([embedding.embeddings[symbol] for symbol in symbols], dtype=np.float64)
    values = np.where(np.isnan(values), np.nanmean(values, axis=0), values)
    return dict(zip(symbols, values, strict=True))


def check_elements(
    parsed: Sequence[Fractions], formulas: Sequence[object], names: Sequence[str], *, origin: str
) -> None:
    """Check that the embeddings have all elements of the compositions.

    Args:
        parsed, formulas: n compositions, and what they were read from.
        names: of the embeddings.
        origin: the file, for the message.

    Raises:
        UserError: names the rows.
    """
    for name in dict.fromkeys(names):
        known = set(known_elements(name))
        bad = [
            f"row {row} ({formula}: {join_some(unknown)})"
            for row, (fractions, formula) in enumerate(zip(parsed, formulas, strict=True), start=1)
            if (unknown := [e for e in fractions if e not in known])
        ]
        if bad:
            other = "" if name == TABULATED else ", or choose another `model.embedding`"
            raise UserError(
                f"{origin}: the `{name}` vectors lack elements of {join_some(bad)}. Remove these "
                f"rows, or name the elements in `targets.left_out`{other}."
            )
