"""What the pages say of their blocks: nothing is left out in silence."""

from __future__ import annotations

import pytest
import yaml

from hclmp.config import Config, resolve
from tests.docs.blocks import PAGES, RUN, SHOWN, Block, blocks_of

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
# Why a block cannot run here. A new reason is a decision: write it here too.
REASONS = {
    "clones",
    "downloads",
    "installs",
    "names of experiments are drawn",
    "needs a cluster",
    "needs a key and the network",
    "needs a table that is not here",
    "needs another machine or a bucket",
    "takes hours",
    "the folder is there only after a run of DVC",
}
YAML = [block for block in BLOCKS if block.language == "yaml"]


def test_there_are_blocks_to_run() -> None:
    assert sum(block.runs for block in BLOCKS) > 20
    assert {block.page for block in BLOCKS if block.runs} >= {"README.md", "docs/tutorial.md"}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_every_block_says_what_it_is(block: Block) -> None:
    assert block.language in (*RUN, *SHOWN), f"{block.where}: run or only shown?"
    assert block.not_run is None or block.language in RUN


def test_the_reasons_for_not_running_are_the_known_ones() -> None:
    assert {block.not_run for block in BLOCKS if block.not_run} == REASONS


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.where)
def test_a_configuration_that_is_shown_is_valid(block: Block) -> None:
    found = yaml.safe_load(block.text)
    assert isinstance(found, dict)
    if found.keys() <= Config.model_fields.keys() and block.title is None:
        resolve(found)


def test_markers_and_fences_are_read() -> None:
    text = (
        "# A\n<!-- not run: why -->\n```bash\na\n```\n\n- b\n\n    <!-- slow -->\n\n"
        '    ```console\n    $ c\n    d\n    ...\n    ```\n```python title="e.py"\nf\n```\n'
    )
    first, second, third = blocks_of("page.md", text)
    assert (first.not_run, first.runs, first.line) == ("why", False, 3)
    assert (second.slow, second.commands(), second.shown_output()) == (True, "c\n", ["d"])
    assert (third.title, third.text, third.runs) == ("e.py", "f\n", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```bash\na\n", "not closed"),
        ("```bash extra\na\n```\n", "not understood"),
        ("<!-- slow -->\nwords\n", "marks no block"),
        ("<!-- slow -->\n", "marks no block"),
        ("<!-- not run -->\n```bash\na\n```\n", "not understood"),
    ],
)
def test_a_marker_that_marks_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        blocks_of("page.md", text)
