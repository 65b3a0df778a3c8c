"""The sources by the word that names them in the configuration."""

from collections.abc import Callable

from hclmp.config import DosConfig, TargetsConfig
from hclmp.sources import demo, table
from hclmp.sources.materials_project import read as materials_project
from hclmp.sources.plates import read as plates
from hclmp.sources.raw import RawDos, RawTargets
from hclmp.sources.reference import read as reference

TARGETS: dict[str, Callable[[TargetsConfig], RawTargets]] = {
    "demo": demo.read_targets,
    "table": table.read_targets,
    "reference": reference.read_targets,
    "plates": plates.read_targets,
}

DOS: dict[str, Callable[[DosConfig], RawDos]] = {
    "demo": demo.read_dos,
    "materials_project": materials_project.read_dos,
    "table": table.read_dos,
    "reference": reference.read_dos,
}
