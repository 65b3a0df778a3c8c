"""What a training reads of earlier results, and which DOS it may learn from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hclmp.config import Config
from hclmp.data.calibration_folds import draw_outside
from hclmp.data.features import read_features
from hclmp.data.folds import CALIBRATION, read_systems, seen_of
from hclmp.data.inputs import Inputs
from hclmp.data.tables import Targets, read_targets
from hclmp.errors import UserError
from hclmp.pipeline.jobs import Job

if TYPE_CHECKING:
    from hclmp.models.hclmp.pretrained import Pretrained


def read_inputs(config: Config, variant: str, features: Path, table: Targets) -> Inputs:
    """What a variant may see of the samples of the table: the DOS feature with transfer alone.

    Raises:
        UserError: the features are of other samples, or lack the DOS feature.
    """
    inputs, sample_id, _ = read_features(features)
    if sample_id != table.sample_id:
        raise UserError(
            f"{features}: made of other samples than the targets table; run `hclmp featurize`"
        )
    if not config.variants[variant].transfer:
        return Inputs(inputs.compositions, inputs.elements)
    if inputs.dos is None:
        raise UserError(f"{features}: no DOS feature in it; run `hclmp featurize`")
    return inputs


def seen_dos(config: Config, job: Job, systems: Sequence[str]) -> list[bool]:
    """Which DOS, one of each system, a job may learn from: not those that its fold holds out."""
    if not job.scope:
        return [True] * len(systems)
    (fold,) = job.scope
    if fold not in CALIBRATION:
        return seen_of(systems, read_systems(config.systems)[fold])
    table = read_targets(job.inputs["targets"])
    outside = draw_outside(table.system, table.values, fold=fold, seed=config.training.seed)
    return [not outside.holds(system) for system in systems]


def read_start(job: Job) -> "Pretrained | None":
    """The pretrained encoder that the members start from, if any."""
    if (path := job.inputs.get("encoder")) is None:
        return None
    from hclmp.models.hclmp.pretrained import Pretrained  # torch, which baselines do without

    return Pretrained.from_file(path)
