"""The source ``materials_project``: densities of states of the Materials Project."""

from hclmp.sources.materials_project.read import read_dos

__all__ = ["read_dos"]
