"""Every colour of the lab, by the role it plays, for a light and a dark page.

The hues start from Okabe and Ito (2008), which stay apart for colour-blind eyes, and are moved in
lightness until each stands out from its page (contrast at least 3 : 1, text roles 4.5 : 1).
"""

from __future__ import annotations

import re

LIGHT: dict[str, str] = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#59626d",
    "line": "#dbe0e6",
    "soft": "#f3f5f8",
    "float": "#0072b2",
    "quantized": "#d17600",
    "error": "#9c3a1e",
    "range": "#6f7782",
    "good": "#007a59",
    "bad": "#b3261e",
    "code0": "#0072b2",
    "code1": "#d17600",
    "code2": "#007a59",
    "code3": "#a8508a",
    "code4": "#2f87b8",
    "code5": "#8a6d00",
    "code6": "#9c3a1e",
    "code7": "#6f7782",
}
"""Colours on a light page."""

DARK: dict[str, str] = {
    "paper": "#111418",
    "ink": "#eceff3",
    "muted": "#a9b2bd",
    "line": "#343b44",
    "soft": "#1d2228",
    "float": "#5cb8ee",
    "quantized": "#f5a623",
    "error": "#e07b5c",
    "range": "#98a1ac",
    "good": "#3fca9d",
    "bad": "#ff8a7a",
    "code0": "#5cb8ee",
    "code1": "#f5a623",
    "code2": "#3fca9d",
    "code3": "#dd94c0",
    "code4": "#8fd0f5",
    "code5": "#e3cf57",
    "code6": "#e07b5c",
    "code7": "#98a1ac",
}
"""The same roles on a dark page."""

ROLES: tuple[str, ...] = tuple(LIGHT)
"""Names that a mark, a readout or a label may give as its ``role``."""

_VARIABLE = re.compile(r"var\(--ql-([a-z0-9]+)\)")


def check_role(owner: str, role: str) -> str:
    """Return ``role`` when the palette has it.

    ``owner`` is the name of the mark, used in the message. Raises ``ValueError`` listing the roles.

    >>> check_role("Line", "float")
    'float'
    """
    if role not in LIGHT:
        raise ValueError(f"{owner}: got role {role!r}; choose one of {', '.join(ROLES)}")
    return role


def variable(role: str) -> str:
    """CSS value of a role, resolved by the page's theme.

    >>> variable("quantized")
    'var(--ql-quantized)'
    """
    return f"var(--ql-{role})"


def concrete(text: str, theme: str) -> str:
    """Replace the colour variables in ``text`` by the colours of ``theme`` (light or dark).

    Needed wherever CSS variables are not understood: rasterizers and image viewers.

    >>> concrete('<path fill="var(--ql-float)"/>', "light")
    '<path fill="#0072b2"/>'
    """
    colours = palette(theme)
    return _VARIABLE.sub(lambda match: colours[match.group(1)], text)


def palette(theme: str) -> dict[str, str]:
    """Role → hexadecimal colour for ``"light"`` or ``"dark"``.

    >>> palette("dark")["float"]
    '#5cb8ee'
    """
    if theme not in ("light", "dark"):
        raise ValueError(f"got theme {theme!r}; choose 'light' or 'dark'")
    return LIGHT if theme == "light" else DARK


def theme_css() -> str:
    """Style rules that set the variables for whichever page shows the picture.

    The page's own statement wins (JupyterLab and Voilà, VS Code, Colab); without one the system's
    preference decides.

    >>> "prefers-color-scheme" in theme_css()
    True
    """
    light = _declare(LIGHT, "var(--jp-layout-color1,#ffffff)")
    dark = _declare(DARK, "var(--jp-layout-color1,#111418)")
    says_light = 'body[data-jp-theme-light="true"] .ql,body.vscode-light .ql,html[theme=light] .ql'
    says_dark = 'body[data-jp-theme-light="false"] .ql,body.vscode-dark .ql,html[theme=dark] .ql'
    return (
        f".ql{{{light}}}@media (prefers-color-scheme:dark){{.ql{{{dark}}}}}"
        f"{says_light}{{{light}}}{says_dark}{{{dark}}}"
    )


def _declare(colours: dict[str, str], paper: str) -> str:
    own = {**colours, "paper": paper}
    return ";".join(f"--ql-{role}:{colour}" for role, colour in own.items())
