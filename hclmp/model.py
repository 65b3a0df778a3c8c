"""A final model for use: three lines to a prediction.

from hclmp.model import Model

model = Model.load("results/final")
print(model.predict(["Fe0.3Ti0.5W0.2", "Fe2O3"]))
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hclmp.data.composition import Compositions, pad
from hclmp.data.formula import Fractions, parse_formulas, system_of
from hclmp.data.inputs import ElementTable, Inputs
from hclmp.data.tables import Floats, Property
from hclmp.errors import UserError, join_some
from hclmp.files import ModelFiles
from hclmp.models.generator.network import Generator
from hclmp.models.hclmp.ensemble import Ensemble, distances
from hclmp.models.interface import Prediction
from hclmp.provenance import Provenance
from hclmp.tensors import pack, read_tensors, unpack, write_tensors

SCHEMA_VERSION = 1  # of the folder; later versions of this file must read all earlier ones
ABOUT = {"left_out", "trained_on", "far", "transfer", "properties", "citation"}  # must be there
ROWS_AT_ONCE = 10_000  # bounds the memory of a prediction
# Of the training samples, from which on the model and its uncertainty are those for computed DOS.
MOSTLY = 0.5
MAKER = "`snakemake --cores all` makes it, or `hclmp finalize`"
AGAIN = "Copy the whole folder again, or make it anew (`snakemake --cores all`, `hclmp finalize`)."


def write_elements(path: Path, elements: ElementTable, *, provenance: Provenance) -> None:
    """Write what is known of the elements, so that a prediction never depends on a library's."""
    tensors = pack("vectors", elements.vectors) | {"properties": elements.properties}
    write_tensors(path, tensors, {"provenance": provenance})


def _read_elements(path: Path) -> ElementTable:
    with read_tensors(path, what="a table of elements", remedy=AGAIN) as (_, tensors):
        return ElementTable(unpack("vectors", tensors), tensors["properties"])


def _read_about(files: ModelFiles) -> dict[str, Any]:
    """What ``model.json`` says, if it is of a version that can be read here."""
    if not files.about.is_file():
        raise UserError(f"{files.about}: no such file; {MAKER}")
    try:
        about: dict[str, Any] = json.loads(files.about.read_text())
        version = about["schema_version"]
        later = version > SCHEMA_VERSION
        if not later and (missing := ABOUT - about.keys()):
            raise ValueError(f"it does not say {join_some(sorted(missing))}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{files.about}: not a model, or damaged ({error}). {AGAIN}") from error
    if later:
        raise UserError(
            f"{files.about}: schema version {version}, and this hclmp reads up to "
            f"{SCHEMA_VERSION}: update hclmp"
        )
    return about


def _check_complete(files: ModelFiles, *, transfer: bool) -> None:
    """Refuse a folder of which a file was left behind, or may not be read."""
    needed = [files.weights, files.elements, *([files.generator] if transfer else [])]
    if missing := [path.name for path in needed if not path.is_file()]:
        missed = join_some(missing)
        raise UserError(f"{files.folder}: not a whole model: no {missed} in it. {AGAIN}")
    # safetensors says of such a file that it does not exist
    if barred := [path.name for path in needed if not os.access(path, os.R_OK)]:
        raise UserError(
            f"{files.folder}: you may not read {join_some(barred)}. Its owner can permit it: "
            f"`chmod -R a+rX {files.folder}`"
        )


@dataclass(frozen=True)
class Model:
    """A trained model with all that a prediction needs.

    Attributes:
        about: ``model.json``: properties, what it was trained on, how well it predicted held-out
            systems, where it comes from, what to cite.
        properties: the L properties that it predicts.
        ensemble: the networks.
        elements: vectors and properties of the elements of the vocabulary.
        generator: of the DOS feature; None without transfer.
    """

    about: dict[str, Any]
    properties: tuple[Property, ...]
    ensemble: Ensemble
    elements: ElementTable
    generator: Generator | None

    @classmethod
    def load(cls, folder: str | Path = "results/final") -> "Model":
        """Read a folder that ``hclmp finalize`` wrote; it needs no other file.

        Raises:
            UserError: the folder is none, is damaged, or is of a later version of hclmp.
        """
        files = ModelFiles(Path(folder))
        about = _read_about(files)
        _check_complete(files, transfer=bool(about["transfer"]))
        try:
            properties = tuple(Property(**p) for p in about["properties"])
            elements = _read_elements(files.elements)
            generator = Generator.from_file(files.generator) if about["transfer"] else None
            ensemble = Ensemble.from_file(files.weights)
            if len(ensemble.scalers.labels.mean) != len(properties):
                raise ValueError("its files do not belong together")
        except (OSError, KeyError, TypeError, ValueError, UserError) as error:
            reason = str(error).split(";")[0]  # without a remedy that is for files of a run
            raise UserError(f"{folder}: not a model, or damaged ({reason}). {AGAIN}") from error
        return cls(about, properties, ensemble, elements, generator)

    @property
    def units(self) -> dict[str, str]:
        """Property -> unit."""
        return {p.name: p.unit for p in self.properties}

    def predict(
        self, data: pd.DataFrame | Sequence[str], *, formula_column: str = "formula"
    ) -> pd.DataFrame:
        """Predict compositions that need no labels, in any order, of any number of elements.

        Args:
            data: formulas, or a table with a column of them. What ``left_out`` names (oxygen, say)
                is dropped from them, as it was in training.
            formula_column: the name of that column.

        Returns:
            A row per composition, in the order given: ``formula``; ``system``, without what is
            left out; for every property ``P`` its prediction, ``P_std``, and ``P_low`` and
            ``P_high``, which hold the truth 9 times of 10, in its unit (``attrs["units"]``);
            ``distance`` to the nearest training composition in latent space; ``warning``, why a
            prediction is not to be trusted, or "".

        Raises:
            UserError: no such column, or formulas that cannot be used, by row.
        """
        formulas = _formulas(data, formula_column)
        parsed = parse_formulas(formulas, left_out=self.about["left_out"], origin="compositions")
        self._check_elements(parsed, formulas)
        starts = range(0, len(parsed), ROWS_AT_ONCE)
        parts = [self._predicted(parsed[start : start + ROWS_AT_ONCE]) for start in starts]
        frame = pd.concat(parts, ignore_index=True)
        frame.insert(0, "formula", formulas)
        frame.attrs["units"] = self.units
        return frame

    def _predicted(self, parsed: Sequence[Fractions]) -> pd.DataFrame:
        """The columns of a prediction, but for the formulas."""
        compositions = pad(parsed, self.ensemble.vocabulary)
        inputs, known = self._inputs(compositions)
        distance = distances(self.ensemble, inputs)
        values = _in_units(self.ensemble.predict(inputs), self.properties)
        frame = pd.DataFrame({"system": [system_of(f) for f in parsed], **values})
        frame["distance"] = np.nan if distance is None else distance
        frame["warning"] = self._warnings(compositions, distance, known)
        return frame

    @property
    def known_elements(self) -> tuple[str, ...]:
        """The elements that model and generator have a vector for, alphabetical."""
        known = set(self.ensemble.vocabulary)
        if self.generator is not None:
            known &= set(self.generator.vocabulary)
        return tuple(sorted(known))

    def outputs(self, compositions: Compositions) -> Prediction:
        """What ``predict`` makes its columns of: n compositions over the ensemble's vocabulary."""
        return self.ensemble.predict(self._inputs(compositions)[0])

    def _inputs(self, compositions: Compositions) -> tuple[Inputs, NDArray[np.bool_]]:
        """What the networks see, and whose DOS the generator knows rather than guesses: [n]."""
        if self.generator is None:
            return Inputs(compositions, self.elements), np.zeros(len(compositions), dtype=np.bool_)
        fractions = self.generator.fractions(compositions)
        feature = self.generator.feature(fractions, **self.about["transfer"])
        return Inputs(compositions, self.elements, feature.dos.numpy()), feature.known.numpy()

    def _check_elements(self, parsed: Sequence[Fractions], formulas: Sequence[object]) -> None:
        """Refuse elements that model or generator has no vector for, by row."""
        known = self.known_elements
        bad = [
            f"row {row} ({formula}: {join_some(strangers)})"
            for row, (fractions, formula) in enumerate(zip(parsed, formulas, strict=True), start=1)
            if (strangers := [e for e in fractions if e not in known])
        ]
        if bad:
            raise UserError(
                f"the model knows nothing of some elements: {join_some(bad)}. It knows "
                f"{' '.join(known)}. Remove these compositions."
            )

    def _warnings(
        self, compositions: Compositions, distance: Floats | None, dos_known: NDArray[np.bool_]
    ) -> list[str]:
        """Why the predictions are not to be trusted: n texts, "" where nothing is known."""
        trained, far = set(self.about["trained_on"]["elements"]), self.about["far"]
        # not said by folders that were made before it was recorded
        share = self.about["trained_on"].get("dos_known") or 0.0
        texts = []
        for row, (elements, fractions) in enumerate(
            zip(compositions.elements, compositions.fractions, strict=True)
        ):
            there = {compositions.vocabulary[e] for e in elements[fractions > 0]}
            reasons = []
            if unseen := sorted(there - trained):
                reasons.append(f"no training composition has {join_some(unseen)}")
            if distance is not None and far is not None and distance[row] > far:
                reasons.append(
                    f"far from every training composition ({distance[row]:.2f}; 99 % of held-out "
                    f"ones are nearer than {far:.2f})"
                )
            if share > MOSTLY and not dos_known[row]:
                reasons.append(
                    f"its density of states is a guess, where {share:.0%} of the training samples "
                    "had a computed one, so that its error is larger than its interval says"
                )
            texts.append("; ".join(reasons))
        return texts


def _formulas(data: pd.DataFrame | Sequence[str], column: str) -> list[Any]:
    if isinstance(data, str):
        return [data]
    if len(data) == 0:
        raise UserError("no composition is given to be predicted")
    if not isinstance(data, pd.DataFrame):
        return list(data)
    if column not in data.columns:
        raise UserError(
            f"no column `{column}` among {join_some(data.columns)}: name the column of formulas"
        )
    return data[column].tolist()


def _in_units(predicted: Prediction, properties: Sequence[Property]) -> dict[str, Floats]:
    """Prediction, standard deviation and 90 % interval of each property, in its unit."""
    std, (low, high) = predicted.std, predicted.interval()
    values = {}
    for i, prop in enumerate(properties):
        t = predicted.mean[:, i]
        values[prop.name] = prop.inverse(t)
        values[f"{prop.name}_std"] = prop.inverse_std(t, std[:, i])
        values[f"{prop.name}_low"] = prop.inverse(low[:, i])
        values[f"{prop.name}_high"] = prop.inverse(high[:, i])
    return values
