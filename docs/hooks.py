"""What MkDocs takes from elsewhere: the README, the generated configuration, commands, benchmarks.

Each stays the one source of its page. Links are written for the repository, where they work as they
stand; here those to other pages are turned to them, and those to other files become plain text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
INCLUDED = {  # file of the repository -> page
    "README.md": "index.md",
    "config/README.md": "configuration.md",
    "benchmarks/README.md": "benchmarks.md",
}
COMMANDS = "<!-- hclmp's commands: docs/hooks.py puts them here -->"
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]*)(#[^)\s]*)?\)")
FENCE = re.compile(r"^( *```.*?^ *```[^\n]*$)", re.DOTALL | re.MULTILINE)

log = get_plugin_logger("hclmp")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    for source, page in INCLUDED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of the repository to those of the site, outside code."""
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, commands_text())
    page_uri = page.file.src_uri
    source = next((s for s, p in INCLUDED.items() if p == page_uri), f"docs/{page_uri}")
    parts = FENCE.split(markdown)
    return "".join(
        part if i % 2 else LINK.sub(lambda link: _turned(link, source, page_uri), part)
        for i, part in enumerate(parts)
    )


def commands_text() -> str:
    """Every command with its arguments and options, as Typer documents an app."""
    import typer.main
    from typer.cli import get_docs_for_click

    from hclmp.cli.main import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="hclmp")
    text = get_docs_for_click(obj=command, ctx=context, name="hclmp")
    # each of them by itself: Typer's list of all cuts the sentences off
    return text[text.index("\n## ") :]


def _turned(link: re.Match[str], source: str, page: str) -> str:
    """A link of the file ``source``, for the page that it becomes."""
    text, target, anchor = link[1], link[2], link[3] or ""
    if not target or "://" in target or target.startswith("mailto:"):
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in INCLUDED or path.startswith("docs/"):
        uri = INCLUDED.get(path, path.removeprefix("docs/"))
        if text.endswith(".md") and (ROOT / path).is_file():  # named by its file: here by its title
            text = (ROOT / path).read_text().split("\n", 1)[0].removeprefix("# ")
        return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(page) or '.')}{anchor})"
    if not (ROOT / path).exists():
        log.warning("%s links to %s, which does not exist", source, path)
    return text if text.startswith("`") else f"`{path}`" if text == path else f"{text} (`{path}`)"
