"""The table of sources on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hclmp.sources.downloads import OWN, read_registry, registry_file

WIDTH_IN_A_LOG = 160


def sources() -> None:
    """Print the table of sources: what they are, licence, citation and how to get them.

    Raises:
        UserError: no registry, or a bad one.
    """
    path = registry_file()
    table = Table(title="Sources of data", caption=str(path), show_lines=True)
    for title in ("source", "what", "licence", "citation", "how to get it"):
        table.add_column(title, overflow="fold")
    for name, (what, licence, how) in OWN.items():
        table.add_row(name, what, licence, "", how)
    for name, entry in read_registry(path).items():
        how = entry.how or f"hclmp fetch {name}" + ("" if entry.sha256 else " (not verified)")
        what = f"{entry.what}\n({entry.used_as})"
        table.add_row(*map(escape, (name, what, entry.licence, entry.citation, how)))
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_IN_A_LOG
    console.print(table)
