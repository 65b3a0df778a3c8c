"""Tables and sentences on the output, which are never cut off, however narrow it is."""

from rich.console import Console
from rich.table import Table

from hclmp.progress import quiet

WIDEST = 1000  # columns of a table, at most


def show_table(table: Table) -> None:
    """Print a table; lines longer than the output is wide rather than values cut off."""
    wanted = Console(width=WIDEST).measure(table).maximum
    Console(width=max(wanted, Console().width)).print(table)


def note(text: str) -> None:
    """Print a sentence, unless ``--quiet``."""
    if not quiet():
        say(text)


def say(text: str) -> None:
    """Print a sentence on one line, without markup: it may contain paths and formulas."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
