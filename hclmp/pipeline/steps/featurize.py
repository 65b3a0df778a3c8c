"""Step ``featurize``: what every model sees of every sample, computed once."""

import logging
from pathlib import Path

from hclmp.config import Config
from hclmp.data.composition import Compositions, pad, vocabulary_of
from hclmp.data.elements import TABULATED, element_vectors
from hclmp.data.features import write_features
from hclmp.data.formula import parse_formulas
from hclmp.data.inputs import ElementTable, Inputs
from hclmp.data.tables import read_targets
from hclmp.errors import UserError, join_some
from hclmp.models.generator.network import CompositionDos, Generator
from hclmp.pipeline.checks import check_inputs
from hclmp.pipeline.jobs import Job

log = logging.getLogger(__name__)


def featurize(config: Config, job: Job) -> None:
    """Pad the compositions, look up the elements and, with transfer, draw the DOS feature.

    Raises:
        UserError: an element has no vector in an embedding, or is unknown to the generator, or the
            generator was trained with other settings or on fractions of other elements.
    """
    check_inputs(job)
    targets = job.inputs["targets"]
    table = read_targets(targets)
    parsed = parse_formulas(table.formula, left_out=config.targets.left_out, origin=str(targets))
    vocabulary = vocabulary_of(parsed)
    compositions = pad(parsed, vocabulary)
    elements = ElementTable(
        {name: element_vectors(vocabulary, name) for name in config.embeddings},
        element_vectors(vocabulary, TABULATED),
    )
    dos = known = None
    if (generator := job.inputs.get("generator")) is not None:
        model = Generator.from_file(generator)
        _check_left_out(model, generator, config.targets.left_out)
        _check_known(model, generator, compositions, origin=str(targets))
        feature = _dos_feature(config, model, compositions)
        dos, known = feature.dos.numpy(), feature.known.numpy()
    write_features(
        job.outputs["features"],
        Inputs(compositions, elements, dos),
        sample_id=table.sample_id,
        provenance=job.provenance(),
        dos_known=known,
    )


def _check_left_out(generator: Generator, path: Path, left_out: list[str]) -> None:
    """Refuse a generator that was trained on other fractions than it would be fed.

    A file that does not say what was left out is taken as it is.
    """
    config = generator.provenance.get("config")
    trained = config.get("left_out") if isinstance(config, dict) else None
    if isinstance(trained, list) and set(trained) != set(left_out):
        raise UserError(
            f"{path}: the generator was trained on fractions with {_named(trained)} left out; here "
            f"`targets.left_out` leaves out {_named(left_out)}, so that it would be fed other "
            f"fractions. Set `targets.left_out: [{', '.join(sorted(trained))}]`, or take or train "
            "(`gan.source: train`) another generator."
        )


def _named(elements: list[str]) -> str:
    return " ".join(sorted(elements)) or "nothing"


def _check_known(
    generator: Generator, path: Path, compositions: Compositions, *, origin: str
) -> None:
    """Refuse elements that a generator has no input for: a pretrained one knows its own alone."""
    unknown = [e for e in compositions.vocabulary if e not in generator.vocabulary]
    if unknown:
        raise UserError(
            f"{origin}: {_holding(compositions, unknown)} of {len(compositions)} compositions hold "
            f"elements that the generator {path} does not know: {join_some(unknown, most=20)}. Its "
            f"elements are {' '.join(generator.vocabulary)}. Remove these compositions from your "
            "table, name the elements in `targets.left_out`, or train a generator (`gan.source: "
            "train`)."
        )


def _holding(compositions: Compositions, elements: list[str]) -> int:
    """How many compositions hold any of these elements."""
    columns = [compositions.vocabulary.index(e) for e in elements]
    return int(compositions.dense()[:, columns].any(axis=1).sum())


def _dos_feature(
    config: Config, generator: Generator, compositions: Compositions
) -> CompositionDos:
    """The generator's mean over noise draws: [n, D], scaled."""
    seen = {e for e, s in zip(generator.vocabulary, generator.seen.tolist(), strict=True) if s}
    unseen = [e for e in compositions.vocabulary if e not in seen]
    if unseen:
        log.warning(
            "%d of %d compositions hold elements that no DOS has shown to the generator (%s): it "
            "knows these by their element vectors alone",
            *(_holding(compositions, unseen), len(compositions), join_some(unseen)),
        )
    fractions = generator.fractions(compositions)
    return generator.feature(fractions, **config.dos_feature)
