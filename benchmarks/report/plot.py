"""The plot, as SVG written by hand: two panels of bars, readable on white and on black."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from ..servers.subjects import title
from .results import Results

_PANELS: Final = {
    "CPU, single": "Single events: µs of server CPU for each event and client",
    "CPU, burst": "Bursts of 20: µs of server CPU for each event and client",
}
_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _TITLE = 760, 270, 60, 16, 8, 40

#: Readable on both backgrounds: 4.5 to 1 at least.
_TEXT, _OURS, _OTHERS, _FLOOR = "#757575", "#0d8a6a", "#8a8fa3", "#c08a2e"


def draw(results: Results) -> str:
    """Return the plot of all subjects."""
    height = len(_PANELS) * _panel_height(results)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>CPU for each delivered event</title>",
        *(line for number, name in enumerate(_PANELS) for line in _panel(results, name, number)),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _panel_height(results: Results) -> int:
    return _TITLE + len(results.samples) * (_BAR + _GAP) + _GAP


def _panel(results: Results, figure: str, number: int) -> Iterator[str]:
    top = number * _panel_height(results)
    values = {name: results.figure(figure, name) for name in results.samples}
    scale = (_WIDTH - _LEFT - _RIGHT) / max(values.values())
    yield _text(_LEFT, top + _TITLE - 14, _PANELS[figure], 'font-weight="600"')
    for row, (name, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        yield from _bar(name, value, value * scale, top + _TITLE + row * (_BAR + _GAP))


def _bar(name: str, value: float, length: float, top: int) -> Iterator[str]:
    baseline = top + _BAR - 4
    label = title(name).replace("`", "")
    yield _text(_LEFT - 10, baseline, label, 'text-anchor="end"')
    yield (
        f'<rect x="{_LEFT}" y="{top}" width="{max(length, 1):.1f}" height="{_BAR}" rx="2" '
        f'fill="{_color(name)}"/>'
    )
    yield _text(_LEFT + length + 6, baseline, f"{value:.1f}", "")


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{_TEXT}" {attributes}>{escape(text)}</text>'


def _color(name: str) -> str:
    if name == "floor":
        return _FLOOR
    return _OURS if title(name).startswith("trio-sse") else _OTHERS
