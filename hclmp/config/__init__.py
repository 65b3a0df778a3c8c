"""The configuration: its types, defaults, and the friendly reading of what a user wrote.

Every key's docstring is its documentation: ``config/README.md`` and the JSON schema are generated
from these types (``hclmp config-docs``), and a test fails when they drift.
"""

from hclmp.config.data import (
    DosConfig,
    EnergiesConfig,
    MaterialsProjectConfig,
    PlatesConfig,
    PropertyConfig,
    TargetsConfig,
)
from hclmp.config.models import (
    CALIBRATION_TREES,
    DEFAULT_VARIANTS,
    MOST_REMEMBERED,
    PAPER_PRESET,
    BaselinesConfig,
    GanConfig,
    ModelConfig,
    TrainingConfig,
    VariantConfig,
)
from hclmp.config.reading import as_json, load_config, resolve
from hclmp.config.run import Config, variant_settings

__all__ = [
    "CALIBRATION_TREES",
    "DEFAULT_VARIANTS",
    "MOST_REMEMBERED",
    "PAPER_PRESET",
    "BaselinesConfig",
    "Config",
    "DosConfig",
    "EnergiesConfig",
    "GanConfig",
    "MaterialsProjectConfig",
    "ModelConfig",
    "PlatesConfig",
    "PropertyConfig",
    "TargetsConfig",
    "TrainingConfig",
    "VariantConfig",
    "as_json",
    "load_config",
    "resolve",
    "variant_settings",
]
