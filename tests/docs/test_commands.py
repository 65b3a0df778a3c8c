"""Every command of the README and the documentation does what the page says, on a small demo."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.docs.blocks import PAGES, Block, blocks_of
from tests.docs.conftest import Checkout

BLOCKS = {page: [block for block in blocks_of(page) if block.runs] for page in PAGES}
QUICK = [page for page, blocks in BLOCKS.items() if any(not block.slow for block in blocks)]
SLOW = [page for page, blocks in BLOCKS.items() if any(block.slow for block in blocks)]
OnPage = Callable[[str], Checkout]


@pytest.mark.parametrize("page", QUICK)
def test_the_commands_of_a_page_run(page: str, on_page: OnPage) -> None:
    _run(on_page(page), [block for block in BLOCKS[page] if not block.slow])


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW)
def test_the_commands_of_a_page_run_the_slow_ones_too(page: str, on_page: OnPage) -> None:
    _run(on_page(page), BLOCKS[page])


def _run(checkout: Checkout, blocks: list[Block]) -> None:
    for block in blocks:
        checkout.run(block)
        print(f"{block.where}: {checkout.seconds[block.where]:.1f} s")


def test_a_block_that_fails_is_told_with_its_place(fresh: Checkout) -> None:
    block = Block("page.md", 7, "bash", None, "true\nhclmp predict nowhere TiO2\n")
    with pytest.raises(AssertionError, match=r"page\.md:7 fails \(2\)[\s\S]*no such file"):
        fresh.run(block)


def test_a_console_must_print_what_it_shows(fresh: Checkout) -> None:
    fresh.run(Block("page.md", 1, "console", None, "$ printf 'a\\nb\\nc\\n'\na\n...\nc\n"))
    with pytest.raises(AssertionError, match=r"page\.md:1 shows what was not printed: \['d'\]"):
        fresh.run(Block("page.md", 1, "console", None, "$ echo a\nd\n"))
