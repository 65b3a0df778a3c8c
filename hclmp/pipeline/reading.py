"""What a training reads of earlier results: the same for a fold and for the final model."""

from pathlib import Path
from typing import TYPE_CHECKING

from hclmp.config import Config
from hclmp.data.features import read_features
from hclmp.data.inputs import Inputs
from hclmp.data.tables import Targets
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


def read_start(job: Job) -> "Pretrained | None":
    """The pretrained encoder that the members start from, if any."""
    if (path := job.inputs.get("encoder")) is None:
        return None
    from hclmp.models.hclmp.pretrained import Pretrained  # torch, which baselines do without

    return Pretrained.from_file(path)
