"""The friendly reading of what a user wrote: bad keys are named, with the nearest good one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hclmp.config.explain import explain
from hclmp.config.run import Config
from hclmp.errors import UserError


def resolve(raw: Mapping[str, Any], *, origin: str = "config") -> Config:
    """Check a configuration and fill in the defaults.

    Raises:
        UserError: names each bad key with its value, and for an unknown key the nearest valid one.
    """
    try:
        return Config.model_validate(dict(raw))
    except ValidationError as error:
        problems = [explain(dict(problem), Config) for problem in error.errors()]
        raise UserError(f"{origin}: " + "; ".join(problems)) from error


def load_config(path: str | Path) -> Config:
    """Read a configuration, YAML or JSON, and fill in the defaults.

    Raises:
        UserError: no such file, not YAML, or a bad key or value.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such config. `snakemake` writes results/config.json; by hand, give "
            "`--config config/config.yaml`."
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a config is a mapping of keys to values")
    return resolve(raw, origin=str(path))


def as_json(config: Config) -> str:
    """The resolved configuration as JSON, in its own order: what ``results/config.json`` holds."""
    return json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
