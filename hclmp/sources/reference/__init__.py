"""The source ``reference``: the archive of the paper."""

from hclmp.sources.reference.read import count_rows, input_files, read_dos, read_targets

__all__ = ["count_rows", "input_files", "read_dos", "read_targets"]
