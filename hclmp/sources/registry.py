"""The sources of data: the configuration's ``source: NAME`` is the module ``hclmp.sources.NAME``.

A source has one or both of

- ``read_targets(TargetsConfig) -> RawTargets``
- ``read_dos(DosConfig) -> RawDos``

and may have ``input_files`` and ``count_rows`` (see `hclmp.sources.inputs`). Its name stands among
the choices of ``source`` in `hclmp.config.data`.
"""

from importlib import import_module
from typing import Any

from hclmp.config import DosConfig, TargetsConfig
from hclmp.sources.raw import RawDos, RawTargets


def source_module(name: str) -> Any:
    """The module of a source; imported when it is used."""
    return import_module(f"hclmp.sources.{name}")


def read_targets(config: TargetsConfig) -> RawTargets:
    """Read the measured properties that the configuration names; UserError if that cannot be."""
    raw: RawTargets = source_module(config.source).read_targets(config)
    return raw


def read_dos(config: DosConfig) -> RawDos:
    """Read the densities of states that the configuration names; UserError if that cannot be."""
    raw: RawDos = source_module(config.source).read_dos(config)
    return raw
