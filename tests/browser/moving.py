"""Move the controls of a live panel as a learner does, and wait for the picture to follow."""

from __future__ import annotations

from typing import Any

PICTURE = ".ql-picture .widget-html-content"
CHANGED = (
    "([panel, before]) => panel.querySelector('.ql-picture .widget-html-content').innerHTML"
    " !== before"
)
DISABLED = (
    "e => !!e.closest('[disabled]') || e.ariaDisabled === 'true' || "
    "(e.querySelector('button') && !e.querySelector('button:not([disabled])'))"
)


def picture(panel: Any) -> str:
    """The picture's text."""
    return panel.locator(PICTURE).inner_html()


def changes(panel: Any, act: Any, milliseconds: int = 6000) -> bool:
    """Whether the picture changes within the time after ``act()``."""
    before = picture(panel)
    act()
    handle = panel.element_handle()
    try:
        panel.page.wait_for_function(CHANGED, arg=[handle, before], timeout=milliseconds)
    except Exception as error:
        if type(error).__name__ != "TimeoutError":
            raise
        return False
    return True


def move_slider(slider: Any, panel: Any) -> bool:
    """Step with an arrow key and back; where a step shows nothing, go to the ends."""
    slider.focus()
    at_end = slider.evaluate("e => +e.ariaValueNow >= +e.ariaValueMax")
    there, back = ("ArrowLeft", "ArrowRight") if at_end else ("ArrowRight", "ArrowLeft")
    if changes(panel, lambda: slider.press(there)):
        changes(panel, lambda: slider.press(back))
        return True
    return changes(panel, lambda: slider.press("End")) or changes(
        panel, lambda: slider.press("Home")
    )


def move_box(box: Any, panel: Any) -> bool:
    """Tick a check box and back."""
    return changes(panel, box.click) and changes(panel, box.click)


def drag_slider(slider: Any, panel: Any) -> bool:
    """Drag the handle with the mouse to another place on its track."""
    slider.scroll_into_view_if_needed()
    handle = slider.bounding_box()
    track = slider.locator("xpath=ancestor::*[contains(@class,'noUi-target')]").bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    middle = track["x"] + track["width"] / 2
    goal = track["x"] + track["width"] * (0.85 if x < middle else 0.15)
    mouse = panel.page.mouse

    def act() -> None:
        mouse.move(x, y)
        mouse.down()
        for part in range(1, 9):
            mouse.move(x + (goal - x) * part / 8, y)
        mouse.up()

    return changes(panel, act)


def move_select(select: Any, panel: Any) -> bool:
    """Choose every other option of a drop-down once, then the first choice again."""
    count = select.locator("option").count()
    now = select.evaluate("e => e.selectedIndex")
    others = [i for i in range(count) if i != now]
    moved = [changes(panel, lambda i=i: select.select_option(index=i)) for i in others]
    return go_back(panel, moved, lambda: select.select_option(index=now))


def move_buttons(group: Any, panel: Any) -> bool:
    """Press every other button of a row once, then the first choice again."""
    buttons = group.locator("button")
    now = group.evaluate(
        "e => [...e.querySelectorAll('button')].findIndex(b => b.classList.contains('mod-active'))"
    )
    others = [i for i in range(buttons.count()) if i != now]
    moved = [changes(panel, buttons.nth(i).click) for i in others]
    return go_back(panel, moved, buttons.nth(now).click)


def go_back(panel: Any, moved: list[bool], act: Any) -> bool:
    """Take the first choice again and wait for it: it may enable or disable the next control."""
    if moved and moved[-1]:
        changes(panel, act)
    else:
        act()
    return any(moved)


def move_everything(panel: Any) -> list[str]:
    """Move every control of a panel; the names of those that changed nothing."""
    stuck = []
    kinds = (
        ("[role=slider]", move_slider),
        ("select", move_select),
        (".widget-toggle-buttons", move_buttons),
        ("input[type=checkbox]", move_box),
    )
    for selector, move in kinds:
        for control in panel.locator(selector).all():
            if control.evaluate(DISABLED):
                continue
            if not move(control, panel):
                label = control.evaluate(
                    "e => (e.closest('.jupyter-widgets') || e).querySelector('label')?.innerText"
                    " || e.closest('.jupyter-widgets')?.innerText || e.outerHTML.slice(0, 80)"
                )
                stuck.append(f"{selector} {label!r}")
    return stuck
