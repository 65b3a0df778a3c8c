"""Do results belong to this run? Every result carries its provenance, which is held against it.

Times of change play no role, so that copies from elsewhere are judged rightly too.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hclmp.config import Config
from hclmp.errors import UserError, join_some
from hclmp.pipeline.jobs import Job, jobs, makers
from hclmp.provenance import Provenance, differing, hash_of, read_provenance, sha256

HASH = 64  # characters, which say nothing to a reader
NOTHING = "nothing"  # in place of the value of a key that is not there, which is not null


def check_inputs(job: Job) -> None:
    """The inputs of a job must be there and belong to this run: same settings, same data.

    So must all that these were made from, as far as it is here: the predictions of a fold do not
    themselves say how the generator of their features was trained.

    Results of another version of the source are accepted: Snakemake and DVC make those again,
    whoever works by hand decides.

    Raises:
        UserError: names the file, the difference and the command that makes it.
    """
    made_by, digest = makers(job.config), cache(sha256)
    for path in job.inputs.values():
        if not path.is_file():
            own = "`gan.path` names it, `hclmp import-generator` makes one"
            remedy = f"`{made_by[path].command}` makes it" if path in made_by else own
            raise UserError(f"{path}: no such file; {remedy}")
    todo, checked = list(job.inputs.values()), set[Path]()
    for path in todo:  # which grows
        if path in checked or path not in made_by or not path.is_file():
            continue
        checked.add(path)
        maker = made_by[path]
        if path in maker.stamped:
            _check_origin(maker, path, digest)
        todo += maker.inputs.values()


def _check_origin(maker: Job, path: Path, digest: Callable[[Path], str]) -> None:
    """A result must have been made with its job's settings and from its job's inputs."""
    again = f"Make it again: `{maker.command}`."
    try:
        found = read_provenance(path)
    except UserError as error:
        raise UserError(f"{error}. {again}") from error
    if hash_of(found.get("config")) != hash_of(maker.settings):
        raise UserError(
            f"{path}: made with another configuration than this run's "
            f"({join_some(_differences(found.get('config') or {}, maker.settings))}). {again}"
        )
    recorded = found.get("inputs", {})
    here = {name: file for name, file in maker.inputs.items() if file.is_file()}
    if other := [name for name, file in here.items() if recorded.get(name) != digest(file)]:
        raise UserError(f"{path}: made from other {join_some(other)} than this run's. {again}")


def _differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], within: str = ""
) -> list[str]:
    """Each key that differs, such as ``training.seed: 0 there, 1 here``."""
    texts = []
    for key in sorted({*found, *wanted}):
        there, here = (values.get(key, NOTHING) for values in (found, wanted))
        name = f"{within}{key}"
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            texts += _differences(there, here, f"{name}.")
        elif hash_of(there) != hash_of(here):
            hashed = isinstance(here, str) and len(here) == HASH
            texts.append(name if hashed else f"{name}: {there} there, {here} here")
    return texts


def check_results(config: Config, step: str) -> None:
    """Hold the results of a step against what they would be if they were made now.

    Raises:
        UserError: a result is missing or damaged, or comes from another configuration, other
            inputs or another source; the message names file and difference.
    """
    for made in jobs(config, step):
        expected = made.provenance() | _own_file(made)
        for path in made.stamped:
            if other := differing(read_provenance(path), expected):
                raise UserError(
                    f"{path}: not what this run would make: another {join_some(other)}. "
                    "Make it again: `snakemake --cores all` or `dvc repro`."
                )


def _own_file(made: Job) -> Provenance:
    """What a table says of the user's own file that it was made from, with that file's hash now."""
    paths = {"pull-dos": made.config.dos.path, "prepare-targets": made.config.targets.path}
    path = paths.get(made.step)
    if path is None or not Path(path).is_file():
        return {}
    recorded = read_provenance(made.stamped[0]).get("origin", {})
    return {"origin": recorded | {"sha256": sha256(path)}}
