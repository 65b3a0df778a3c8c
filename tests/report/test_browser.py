"""The page in a real headless Chromium: what a reader sees and does, and no request."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from tests.report.conftest import NASTY, Made

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
PHONE, DESK = 390, 1280
DRAWN = (
    "[...document.querySelectorAll('.plot')].every(e => !e.offsetParent || e.querySelector('svg'))"
)

CORNERS = """names => names.every(
    name => [...document.querySelectorAll('#map-true text')].some(t => t.textContent === name)
)"""


@dataclass
class Opened:
    """A page, and all that it asked for, complained of or popped up."""

    page: Page
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def rows(self) -> list[list[str]]:
        """The texts of the table of systems."""
        rows: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('#system-table tbody tr')]"
            ".map(r => [...r.cells].map(c => c.textContent))"
        )
        return rows

    def traces(self, plot: str) -> list[dict[str, Any]]:
        """What Plotly has drawn there, once it has."""
        self.page.evaluate(f"document.getElementById('{plot}').scrollIntoView()")
        self.page.wait_for_selector(f"#{plot} svg")
        traces: list[dict[str, Any]] = self.page.evaluate(f"document.getElementById('{plot}').data")
        return traces

    def draw_all(self) -> None:
        """Scroll to the end, as a reader does."""
        height = self.page.evaluate("document.documentElement.scrollHeight")
        for y in range(0, height, 500):
            self.page.evaluate(f"scrollTo(0, {y})")
            self.page.wait_for_timeout(50)
        self.page.wait_for_function(DRAWN)

    def overflow(self) -> int:
        """By how much the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, timeout=180_000)
        yield opened
        opened.close()


@pytest.fixture
def open_(browser: Browser) -> Iterator[Open]:
    contexts = []

    def open_page(made: Made, *, width: int = DESK, scheme: Any = "light") -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, has_touch=width == PHONE
        )
        contexts.append(context)
        opened = Opened(context.new_page())
        page = opened.page
        page.set_default_timeout(120_000)
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on("console", lambda message: opened.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: opened.said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (opened.said.append("dialog"), dialog.dismiss()))
        page.goto((made.directory / "results/report.html").as_uri())
        return opened

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("which", "width", "scheme"),
    [
        *[("demo", PHONE, "light"), ("demo", DESK, "dark")],
        *(
            pytest.param("demo", width, scheme, marks=pytest.mark.slow)
            for width, scheme in ((PHONE, "dark"), (DESK, "light"))
        ),
        *itertools.product(["least", "gaps"], [PHONE], ["dark"]),
    ],
)
def test_it_draws_everything_quietly_without_a_request_and_fits(
    request: pytest.FixtureRequest, open_: Open, which: str, width: int, scheme: str
) -> None:
    opened = open_(request.getfixturevalue(which), width=width, scheme=scheme)
    opened.draw_all()
    assert opened.overflow() <= 0
    assert opened.requests == [opened.page.url]
    assert opened.said == []
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", background))) / 3
    assert lightness > 200 if scheme == "light" else lightness < 60
    drawn = opened.page.evaluate("document.querySelectorAll('.plot .main-svg').length")
    assert drawn >= {"demo": 13, "least": 3, "gaps": 9}[which]


def test_a_request_would_be_seen_and_the_page_forbids_it(open_: Open, demo: Made) -> None:
    opened = open_(demo)
    fetched = opened.page.evaluate("fetch('http://127.0.0.1:9/').catch(e => 'refused')")
    assert fetched == "refused"
    assert any("Content Security Policy" in text for text in opened.said)


def test_it_sorts(open_: Open, demo: Made) -> None:
    opened = open_(demo)
    table = pd.read_csv(demo.directory / "results/metrics/by_system.csv")
    table = table.query("property == 'all' and metric == 'mae_std'")
    errors = table.pivot(index="system", columns="variant", values="value")

    def systems() -> list[str]:
        return [row[0] for row in opened.rows()]

    heads = opened.page.locator("#system-table thead button")
    assert heads.all_text_contents()[:3] == ["System", "Samples", "hclmp_t"]
    assert systems() == errors["hclmp_t"].sort_values(ascending=False).index.tolist()
    heads.nth(2).click()
    assert systems() == errors["hclmp_t"].sort_values().index.tolist()
    assert opened.page.locator("#system-table th").nth(2).get_attribute("aria-sort") == "ascending"
    heads.filter(has_text="mean").click()
    assert systems() == errors["mean"].sort_values(ascending=False).index.tolist()
    heads.nth(0).click()
    assert systems() == sorted(errors.index)
    heads.nth(0).click()
    assert systems() == sorted(errors.index, reverse=True)


def test_it_filters(open_: Open, demo: Made) -> None:
    opened = open_(demo)
    every = ["Co-Cu-Nb", "Co-Fe-Mo", "Co-Ti-Zr", "Cr-Fe-Mn"]
    for typed, expected in {
        "zr": ["Co-Ti-Zr"],
        "Fe Co": ["Co-Fe-Mo"],
        "mn-cr": ["Cr-Fe-Mn"],
        "C": every,  # no carbon here: the beginning of Co, Cr, Cu
        "C Mo": ["Co-Fe-Mo"],
        "U": [],
        "": every,
    }.items():
        opened.page.fill("#filter", typed)
        assert sorted(row[0] for row in opened.rows()) == expected, typed
        assert opened.page.text_content("#count") == f"{len(expected)} of 4 systems"


def test_it_switches_system_property_and_composition(open_: Open, demo: Made) -> None:
    opened, data = open_(demo), demo.data
    page = opened.page
    for system in ("Cr-Fe-Mn", "Co-Ti-Zr"):
        page.select_option("#system", system)
        detail = data["details"][system]
        middle = detail["middle"]
        assert page.input_value("#composition") == str(middle)
        shown = opened.traces("detail-plot")
        assert shown[2]["y"] == [values[middle] for values in detail["predicted"]]
        assert shown[3]["y"] == [values[middle] for values in detail["true"]]
        for i in (0, 7):
            page.select_option("#property", str(i))
            (points,) = opened.traces("map-true")
            assert points["marker"]["color"] == detail["true"][i]
            assert points["a"] == detail["fractions"][0]
            (points,) = opened.traces("map-uncertainty")
            widths = zip(detail["high"][i], detail["low"][i], strict=True)
            assert points["marker"]["color"] == pytest.approx(
                [(high - low) / 2 for high, low in widths]
            )
        page.wait_for_function(CORNERS, arg=system.split("-"))
    page.click("#next")
    after = (data["details"]["Co-Ti-Zr"]["middle"] + 1) % len(detail["formulas"])
    assert page.input_value("#composition") == str(after)
    assert opened.traces("detail-plot")[2]["y"] == [v[after] for v in detail["predicted"]]
    page.click("#previous")
    assert page.input_value("#composition") == str(middle)
    assert opened.said == []


def test_a_system_of_the_table_opens_below(open_: Open, demo: Made) -> None:
    opened = open_(demo, width=PHONE)
    opened.page.get_by_role("button", name="Cr-Fe-Mn").click()
    assert opened.page.input_value("#system") == "Cr-Fe-Mn"
    opened.page.wait_for_function(
        "Math.abs(document.getElementById('look').getBoundingClientRect().top) < 100"
    )


def test_parity_of_every_model_and_property(open_: Open, demo: Made) -> None:
    opened, data = open_(demo), demo.data
    for variant, i in (("hclmp_t", 0), ("mean", 0), ("extra_trees", 9)):
        opened.page.select_option("#parity-variant", variant)
        opened.page.select_option("#parity-property", str(i))
        points, line = opened.traces("parity-plot")
        assert [points["x"], points["y"]] == data["parity"]["points"][variant][i]
        assert line["x"] == line["y"]


def test_calibration_of_every_model_and_coverage_of_every_system(open_: Open, demo: Made) -> None:
    opened, data = open_(demo), demo.data
    diagonal, *curves = opened.traces("calibration-plot")
    assert diagonal["x"] == diagonal["y"] == [0, 1]
    assert {c["name"]: c["y"] for c in curves} == data["calibration"]["observed"]
    wanted = {
        row["system"]: [f"{int(100 * row['coverage90'] + 0.5)} %", f"{row['width90_std']:.2f}"]
        for row in data["systems"]
    }
    assert {row[0]: row[-2:] for row in opened.rows()} == wanted
    assert opened.said == []


def test_plots_follow_the_colour_scheme(open_: Open, demo: Made) -> None:
    opened = open_(demo)
    opened.draw_all()
    before = opened.traces("parity-plot")[0]["marker"]["color"]
    opened.page.bring_to_front()  # what is not shown may be told of the change much later
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_function(
        "before => document.getElementById('parity-plot').data[0].marker.color !== before",
        arg=before,
        polling=100,
    )


def test_generator_losses_and_correlation(open_: Open, demo: Made) -> None:
    opened, data = open_(demo), demo.data
    opened.page.select_option("#material", "1")
    assert opened.traces("dos-plot")[1]["y"] == data["dos"]["materials"][1]["true"]
    opened.page.select_option("#loss-variant", "no_covariance")
    wanted = data["losses"]["no_covariance"]["validation_mae"]["middle"]
    assert opened.traces("loss-plot")[5]["y"] == wanted
    (heat,) = opened.traces("correlation-learned")
    assert heat["z"] == data["correlation"]["maps"]["learned"]
    assert heat["z"][0][0] == 1


def test_nasty_names_are_shown_as_they_are(open_: Open, least: Made) -> None:
    opened = open_(least)
    opened.draw_all()
    assert opened.page.locator("#property option").all_text_contents() == [NASTY]
    assert NASTY in (opened.page.text_content("#detail-plot") or "")
    assert opened.page.locator("section script, section b").count() == 0
    assert opened.page.is_hidden("#maps")
    assert opened.page.is_visible("#no-map")
    assert opened.said == []


def test_what_is_missing_is_left_out_of_plots(open_: Open, gaps: Made) -> None:
    opened = open_(gaps)
    for system, detail in gaps.data["details"].items():
        opened.page.select_option("#system", system)
        for i in (0, 1):
            opened.page.select_option("#property", str(i))
            predicted, labels = opened.traces("detail-plot")
            assert len(predicted["y"]) == len(detail["formulas"])
            assert sorted(v for v in labels["y"] if v is not None) == sorted(
                v for v in detail["true"][i] if v is not None
            )
    assert opened.said == []
