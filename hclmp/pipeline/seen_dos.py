"""Which densities of states a generator or encoder may learn from."""

from collections.abc import Sequence

from hclmp.config import Config
from hclmp.data.calibration_folds import draw_outside
from hclmp.data.folds import CALIBRATION, read_systems, seen_of
from hclmp.data.tables import read_targets
from hclmp.pipeline.jobs import Job


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
