"""Viewer, HTML, progress."""

from __future__ import annotations

import base64
import io
import sys
from html.parser import HTMLParser

import ipywidgets
import numpy as np
import pytest
from PIL import Image

import voxelvault.display.viewer as viewer_module
from voxelvault.display.contact_sheet import contact_sheet
from voxelvault.display.html import card, series_html, table, vault_html
from voxelvault.display.progress import Progress, progress_bar
from voxelvault.display.viewer import render, show, viewer
from voxelvault.display.window import PRESETS, Window
from voxelvault.errors import MissingExtra, UsageError


def pixels(box: ipywidgets.VBox) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(box.children[0].value)).convert("L"))


def part(box: ipywidgets.VBox, kind: type, description: str) -> ipywidgets.Widget:
    flat = [
        w
        for child in box.children
        for w in (child.children if isinstance(child, ipywidgets.HBox) else [child])
    ]
    return next(w for w in flat if isinstance(w, kind) and w.description == description)


@pytest.fixture
def volume() -> np.ndarray:
    """Slice k holds k x 10 in the middle: dark to bright in the brain window."""
    return np.stack([np.full((40, 20), 10.0 * k) for k in range(9)])


def test_slider_shows_the_slice_it_names(volume: np.ndarray) -> None:
    box = viewer(lambda k: volume[k], 9, window="brain", hounsfield=True, aspect=2.0, start=0)
    seen = []
    for k in range(9):
        part(box, ipywidgets.IntSlider, "slice").value = k
        shown = pixels(box)
        assert shown.shape == (512, 128)
        seen.append(int(shown[200, 64]))
    assert seen == sorted(seen)
    assert (seen[0], seen[8]) == (0, 255)
    assert len(set(seen)) == 9


def test_presets_and_numbers_follow_each_other(volume: np.ndarray) -> None:
    box = viewer(lambda k: volume[k], 9, hounsfield=True, header=Window(40, 400), start=8)
    preset = part(box, ipywidgets.Dropdown, "window")
    center, width = part(box, ipywidgets.FloatText, "center"), part(box, ipywidgets.FloatText, "width")
    assert (preset.value, center.value, width.value) == ("as acquired", 40, 400)
    before = pixels(box)
    preset.value = "brain"
    assert (center.value, width.value) == (PRESETS["brain"].center, PRESETS["brain"].width)
    assert pixels(box)[200, 128] == 255 != before[200, 128]
    center.value = 80
    assert preset.value == "custom"
    assert 120 < pixels(box)[200, 128] < 135
    width.value = 0  # typing: ignored until it makes sense
    assert 120 < pixels(box)[200, 128] < 135
    preset.value = "as acquired"
    np.testing.assert_array_equal(pixels(box), before)


def test_presets_are_for_hounsfield_units_only(volume: np.ndarray) -> None:
    box = viewer(lambda k: volume[k], 9)
    assert part(box, ipywidgets.Dropdown, "window").options == ("as acquired", "auto", "custom")
    with pytest.raises(UsageError, match="Hounsfield"):
        viewer(lambda k: volume[k], 9, window="brain")


def test_one_slice_has_no_slider_and_colour_no_window() -> None:
    colour = np.zeros((8, 8, 3), np.uint8)
    box = viewer(lambda _: colour, 1)
    assert len(box.children) == 1
    with pytest.raises(UsageError, match="no slices"):
        viewer(lambda _: colour, 0)
    with pytest.raises(UsageError, match="one plane"):
        render(np.zeros((2, 2, 2, 2)), Window(0, 1))


def test_without_ipywidgets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, volume: np.ndarray) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(MissingExtra, match=r"voxelvault\[notebook\]"):
        viewer(lambda k: volume[k], 9)


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def test_markup_in_values_is_text() -> None:
    for text in (
        card(HOSTILE, {HOSTILE: HOSTILE, "b": [HOSTILE, 2]}, HOSTILE),
        table([HOSTILE], [[HOSTILE], [object()]], HOSTILE, HOSTILE),
    ):
        found = Tags(text)
        assert set(found.tags) <= {"div", "table", "tbody", "thead", "tr", "th", "td"}
        assert found.attributes == {"style"}


def test_values_read_well() -> None:
    text = card(
        "Vault", {"instances": 12345, "shape": (28, 512, 512), "absent": None, "ratio": 0.25, "open": True}
    )
    for shown in ("12,345", "28 \u00d7 512 \u00d7 512", "0.25", "yes"):
        assert shown in text
    assert "absent" not in text
    assert "… and 8 more rows" in table(["a"], [[k] for k in range(10)], most=2)
    assert Tags(card("x", {}, picture=b"\x89PNG")).tags.count("img") == 1


def test_progress_on_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("ingest", shown=True) as bar:
        bar.expect(4)
        bar.advance(3)
        bar.note("series 2")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "ingest" in captured.err
    assert "3/4" in captured.err
    assert bar.count == 3


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("ingest", total=2) as bar:
        bar.advance()
    assert capsys.readouterr().err == ""


def test_progress_in_files_and_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar("export") as advance:
        advance(3, 2_000_000)
    assert "2 MB" in capsys.readouterr().err
    with progress_bar("export", shown=False) as advance:
        advance(3, 2_000_000)
    assert capsys.readouterr().err == ""


def test_summaries_with_tables_inside() -> None:
    text = vault_html(
        {"studies": 3, "by modality": [{"Modality": HOSTILE, "n": 4}], "sizes": {"objects": 5000}}
    )
    found = Tags(text)
    assert found.tags.count("table") == 3
    assert found.attributes == {"style"}
    assert "5,000" in text
    assert "Series" in series_html({"stack 0": "axial"})


def test_outside_a_notebook_a_picture_comes_back(volume: np.ndarray) -> None:
    picture = show(lambda k: volume[k], 9, spacing=(2.0, 1.0), window="brain", orientation=(1, 0, 0, 0, 1, 0))
    assert isinstance(picture, Image.Image)
    assert isinstance(show(lambda _: np.zeros((4, 4, 3), np.uint8), 30), Image.Image)
    with pytest.raises(UsageError, match="Hounsfield"):
        show(lambda k: volume[k], 9, window="brain", unit="BQML")


def test_in_a_notebook_the_viewer_comes_back(volume: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_module, "in_notebook", lambda: True)
    assert isinstance(show(lambda k: volume[k], 9, window="brain"), ipywidgets.VBox)


def test_a_page_without_widgets_shows_the_slice_at_hand(volume: np.ndarray) -> None:
    """The bundle carries a still beside the widget; it follows the slider."""
    box = viewer(lambda k: volume[k], 9, window="brain", hounsfield=True, start=8)
    bundle = box._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    still = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    np.testing.assert_array_equal(np.asarray(still.convert("L")), pixels(box))
    part(box, ipywidgets.IntSlider, "slice").value = 0
    assert box._repr_mimebundle_()["image/png"] != bundle["image/png"]


def test_wide_slices_lie_close_on_a_sheet() -> None:
    wide = [np.zeros((10, 40), np.uint8)] * 6
    high = [np.zeros((40, 10), np.uint8)] * 6
    flat, tall = (contact_sheet(planes, across=3) for planes in (wide, high))
    assert flat.width == tall.width
    assert flat.height < tall.height / 3
