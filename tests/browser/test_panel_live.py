"""A panel in a real JupyterLab: picture before the run, live after it, errors in red."""

import pytest
from jupyterlab_driver import Notebook
from moving import PICTURE, changes, drag_slider, move_everything, picture


@pytest.fixture(scope="module")
def notebook(browser, server):
    page = Notebook(browser, server, "demo/demo.ipynb")
    yield page
    page.close()


def test_before_the_run_there_are_still_pictures(notebook):
    assert notebook.page.locator(".jp-OutputArea-output img").count() == 4
    assert not notebook.panels.count()
    assert not notebook.errors()


def test_after_the_run_there_are_live_panels(notebook, screenshots):
    notebook.run()
    assert not notebook.errors()
    assert notebook.panels.count() == 4
    assert all(cell["count"] for cell in notebook.cells())
    notebook.screenshots(screenshots, "demo-light")
    notebook.theme("dark")
    notebook.screenshots(screenshots, "demo-dark")
    notebook.theme("light")


def test_every_control_changes_the_picture(notebook):
    panel = notebook.panels.first
    assert not move_everything(panel)
    assert drag_slider(panel.locator("[role=slider]").first, panel)
    assert not notebook.errors()


def test_a_control_that_changes_nothing_is_noticed(notebook):
    panel = notebook.panels.first
    # What the page still had to do after the last theme or key comes first.
    assert any(not changes(panel, lambda: None, 300) for _ in range(10))


def test_the_second_view_follows_the_first(notebook):
    first, second = notebook.panels.nth(1), notebook.panels.nth(2)
    slider = first.locator("[role=slider]").first
    slider.focus()
    assert changes(second, lambda: slider.press("ArrowRight"))
    assert picture(first) == picture(second)


def test_tracks_are_wide_and_labels_whole(notebook):
    panel = notebook.panels.first
    for slider in panel.locator(".noUi-target").all():
        assert slider.bounding_box()["width"] >= 400
    for label in panel.locator(".widget-label").all():
        assert label.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), label.inner_text()
    assert panel.locator("svg.ql").first.bounding_box()["width"] <= 960


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_tooltips_need_no_script(notebook, screenshots, how):
    panel = notebook.panels.nth(1)
    panel.locator(PICTURE).scroll_into_view_if_needed()
    hit, other = (panel.locator(".ql-h").nth(number) for number in (4, 2))
    words = "e => getComputedStyle(e, '::after').content"
    assert hit.evaluate(words) == "none"
    if how == "mouse":
        hit.hover()
    else:
        hit.focus()
    assert "stands for" in hit.evaluate(words)
    assert other.evaluate(words) == "none"
    if screenshots:
        panel.screenshot(path=screenshots / f"demo-tooltip-{how}.png")
    notebook.page.mouse.move(0, 0)


def test_the_picture_follows_the_theme(notebook):
    colour = "e => getComputedStyle(e).fill"
    svg = notebook.panels.first.locator("svg.ql").first
    light = svg.evaluate(colour)
    notebook.theme("dark")
    dark = svg.evaluate(colour)
    notebook.theme("light")
    assert (light, dark) == ("rgb(27, 31, 36)", "rgb(236, 239, 243)")


def test_an_error_shows_in_red_and_goes_away(notebook, screenshots):
    panel = notebook.panels.nth(3)
    slider = panel.locator("[role=slider]").first
    slider.focus()
    good = picture(panel)
    slider.press("ArrowRight")
    alert = panel.locator("[role=alert]")
    alert.wait_for()
    assert alert.inner_text() == "five bits are forbidden"
    assert alert.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(179, 38, 30)"
    assert picture(panel) == good
    dim = panel.locator(".ql-picture").evaluate("e => getComputedStyle(e).opacity")
    assert float(dim) < 0.5
    if screenshots:
        panel.screenshot(path=screenshots / "demo-error.png")
    assert notebook.errors() == ["panel: five bits are forbidden"]
    assert changes(panel, lambda: slider.press("ArrowRight"))
    alert.wait_for(state="detached")
    assert not notebook.errors()
