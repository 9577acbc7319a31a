"""The report in a real browser: sections are drawn, genes are found, tables sort, and nothing is out of reach without a mouse."""

import shutil

import numpy as np
import pytest
from report_cases import NASTY, html_of, make_result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def html():
    return html_of(make_result())


@pytest.fixture
def opened(html, tmp_path):
    """The page in a window, and what the browser said about it."""
    from playwright.sync_api import sync_playwright

    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    said = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1200, "height": 900})
        window.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        window.on("pageerror", lambda error: said.append(str(error)))
        window.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
        window.goto(f"file://{tmp_path}/report.html")
        yield window, said
        browser.close()


def test_a_narrow_window(opened):
    """The page is not wider than the window; a figure with many names scrolls in its box, which then takes the focus."""
    window, said = opened
    window.set_viewport_size({"width": 320, "height": 800})
    scroll_through(window)
    assert window.evaluate("document.documentElement.scrollWidth") <= 320
    plot = window.query_selector("#embedding-1")
    assert plot.evaluate("box => [box.layout.legend.orientation, box.tabIndex]") == ["h", -1]
    window.set_viewport_size({"width": 200, "height": 800})
    window.wait_for_function("document.querySelector('#markers-1').tabIndex === 0")
    assert window.evaluate("document.querySelector('#markers-1').scrollWidth > document.querySelector('#markers-1').clientWidth")
    window.set_viewport_size({"width": 1200, "height": 800})
    window.wait_for_function("document.querySelector('#embedding-1').layout.legend.orientation === undefined")
    window.wait_for_function("document.querySelector('#markers-1').tabIndex === -1")
    assert said == []


def test_a_figure_fills_its_box_and_no_more(opened):
    """In a wide window no figure scrolls sideways."""
    window, said = opened
    scroll_through(window)
    wider = "[...document.querySelectorAll('.plot')].filter(box => box.scrollWidth > box.clientWidth).map(box => box.id)"
    assert window.evaluate(wider) == []
    assert said == []


def scroll_through(window):
    for plot in window.query_selector_all(".plot"):
        plot.scroll_into_view_if_needed()
    window.wait_for_function(
        "document.querySelectorAll('.plot').length === document.querySelectorAll('.plot .main-svg:first-child').length"
    )


def test_every_figure_is_drawn_without_an_error_or_a_request(opened, html):
    window, said = opened
    scroll_through(window)
    assert window.locator("section").count() == 11
    assert window.locator(".plot .plotly").count() == window.locator(".plot").count() == html.count('class="plot"') > 10
    assert said == []
    assert window.evaluate("document.title") == "T"


def test_a_gene_is_looked_up_and_coloured(opened):
    window, said = opened
    field = window.locator("input[list=genes]").first
    plot = window.locator(".plot").nth(
        int(window.evaluate("[...document.querySelectorAll('.plot')].findIndex(p => p.id.startsWith('embedding'))"))
    )
    field.scroll_into_view_if_needed()
    field.fill("G")  # case does not matter
    field.press("Enter")
    window.wait_for_function("document.querySelector('[id^=embedding].plot').data?.[0]?.marker?.colorbar?.title?.text === 'g'")
    colours = plot.evaluate("box => Array.from(box.data[0].marker.color)")
    np.testing.assert_allclose(colours, np.arange(0, 40, 2), atol=0.1)  # 255 levels
    field.fill("NOTAGENE")
    field.press("Enter")
    window.wait_for_function("document.querySelector('[id$=-said]').textContent.startsWith('Not among')")
    assert said == []


def test_the_menu_changes_the_colours(opened):
    window, _ = opened
    menu = window.locator("select").first
    menu.select_option(label="sample")
    menu.scroll_into_view_if_needed()
    window.wait_for_function("document.querySelector('[id^=embedding].plot').data?.length === 2")
    names = window.evaluate("document.querySelector('[id^=embedding].plot').data.map(trace => trace.name)")
    assert set(names) == {"a", NASTY}


def test_a_table_sorts_filters_and_is_saved(opened, tmp_path):
    window, _ = opened
    table = window.locator("#markers-1-table")
    window.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    rank = table.locator("th button", has_text="rank")
    rank.press("Enter")
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("rank")
    ranks = [row.split("\t")[2] for row in table.locator("tbody tr").all_inner_texts()]
    assert ranks == sorted(ranks)
    with window.expect_download() as download:
        window.locator("button[data-csv='markers-1-table']").click()
    text = download.value.path().read_bytes().decode()
    assert text.startswith('"group","gene","rank"') and f'"{NASTY}"' in text and text.count("\r\n") == 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_accessibility_problem(opened, scheme):
    from axe_playwright_python.sync_playwright import Axe

    window, _ = opened
    window.emulate_media(color_scheme=scheme)
    scroll_through(window)
    found = Axe().run(window).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")] == []
