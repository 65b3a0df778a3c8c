"""The colour and marker of a variant, the same in every picture and on the page."""

import zlib
from collections.abc import Iterable

STYLES = {  # colour, marker
    "hclmp_t": ("#D55E00", "o"),
    "hclmp": ("#0072B2", "s"),
    "boosting_t": ("#4C5E22", "P"),
    "boosting": ("#7A8B4F", "p"),
    "extra_trees_t": ("#33475B", "<"),
    "extra_trees": ("#5F7384", "^"),
    "random_forest": ("#A99F5B", "v"),
    "ridge": ("#B78FB1", "D"),
    "mean": ("#B3B3B3", "X"),
}
SPARE_STYLES = [
    ("#009E73", "P"),
    ("#E69F00", "<"),
    ("#CC3377", ">"),
    ("#56B4E9", "h"),
    ("#332288", "p"),
    ("#000000", "*"),
]


def variant_styles(variants: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each variant; unknown ones get a spare, the next if it is taken."""
    chosen: dict[str, tuple[str, str]] = {}
    for variant in variants:
        first = zlib.crc32(variant.encode()) % len(SPARE_STYLES)
        spare = SPARE_STYLES[first:] + SPARE_STYLES[:first]
        free = [style for style in spare if style not in chosen.values()]
        chosen[variant] = STYLES.get(variant) or (free or spare)[0]
    return chosen
