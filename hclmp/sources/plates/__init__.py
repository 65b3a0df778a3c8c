"""The source ``plates``: printed plates of metal oxides."""

from hclmp.sources.plates.read import input_files, read_targets

__all__ = ["input_files", "read_targets"]
