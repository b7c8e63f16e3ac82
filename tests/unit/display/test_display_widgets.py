"""Viewer, HTML, progress."""

from __future__ import annotations

import base64
import io
import re
import sys
import zlib
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

import voxelvault.display.viewer as viewer_module
from voxelvault.display.contact_sheet import contact_sheet
from voxelvault.display.html import card, table, vault_html
from voxelvault.display.look import Look
from voxelvault.display.progress import Progress, progress_bar
from voxelvault.display.slice_widget import STATIC, SliceViewer, encode
from voxelvault.display.viewer import render, show, viewer
from voxelvault.display.window import PRESETS, Window
from voxelvault.errors import MissingExtra, UsageError


def still(shown: Any) -> np.ndarray:
    """Return what a page without widgets shows."""
    data = shown._repr_mimebundle_()[0]["image/png"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))


def asked(
    shown: Any, monkeypatch: pytest.MonkeyPatch, content: Any
) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Return what the kernel answers to a message of the browser."""
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    monkeypatch.setattr(shown, "send", lambda message, buffers=(): sent.append((message, list(buffers))))
    shown._handle_custom_msg(content, [])
    return sent


@pytest.fixture
def volume() -> np.ndarray:
    """Slice k holds k x 10: dark to bright in the brain window."""
    return np.stack([np.full((40, 20), 10.0 * k) for k in range(9)])


def test_the_browser_gets_the_slice_it_asks_for(volume: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = viewer(lambda k: volume[k], 9, Look(window="brain", hounsfield=True, aspect=2.0), start=0)
    assert shown.shape == [128, 512]
    for k in (8, 3):
        [(message, [data])] = asked(shown, monkeypatch, {"slice": k})
        assert message == {"slice": k, "rows": 40, "columns": 20, "kind": "int16"}
        values = np.frombuffer(zlib.decompress(data), "<i2").reshape(40, 20)
        np.testing.assert_array_equal(values, volume[k])
    for nonsense in ({"slice": 9}, {"slice": -1}, {"slice": "1"}, {}, None):
        assert asked(shown, monkeypatch, nonsense) == []


def test_values_travel_unchanged() -> None:
    holes = np.array([[np.nan, 1.0]], np.float32)
    for plane, kind in (
        (np.array([[-1024.0, 3071.0]]), "int16"),
        (np.array([[0.25, 3.0]]), "float32"),
        (np.array([[40000.0, 0.0]]), "float32"),
        (holes, "float32"),
        (np.full((2, 2, 3), 7, np.uint8), "rgb"),
    ):
        found, values = encode(plane)
        assert found == kind
        np.testing.assert_array_equal(values, plane)
        assert values.flags.c_contiguous


def test_masks_travel_beside_the_slice(volume: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros(volume.shape, bool)
    mask[4, 10:20, 5:9] = True
    shown = viewer(lambda k: volume[k], 9, Look(window="brain", hounsfield=True), mask_at=mask.__getitem__)
    [(_, [_, labels])] = asked(shown, monkeypatch, {"slice": 4})
    np.testing.assert_array_equal(np.frombuffer(zlib.decompress(labels), np.uint8).reshape(40, 20), mask[4])
    shown.opacity, coloured = 1.0, still(shown)
    shown.overlay = False
    assert (still(shown) != coloured).any()
    shown.overlay, shown.hidden = True, [1]
    assert (still(shown) != coloured).any()


def test_a_closed_series_says_so_in_the_viewer(volume: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    open_now = [True]

    def read(k: int) -> np.ndarray:
        if not open_now:
            raise UsageError("this series is closed; open it again")
        return volume[k]

    shown = viewer(read, 9)
    open_now.clear()
    assert asked(shown, monkeypatch, {"slice": 1}) == [
        ({"slice": 1, "problem": "this series is closed; open it again"}, [])
    ]


def test_presets_and_numbers_follow_each_other(volume: np.ndarray) -> None:
    shown = viewer(lambda k: volume[k], 9, Look(hounsfield=True, header=Window(40, 400)), start=8)
    assert (shown.preset, shown.center, shown.width) == ("as acquired", 40, 400)
    before = still(shown)
    shown.preset = "brain"
    assert shown.window == PRESETS["brain"]
    assert still(shown)[200, 128] == 255 != before[200, 128]
    shown.center = 80
    assert shown.preset == "custom"
    assert 120 < still(shown)[200, 128] < 135
    shown.width = 0  # ignored: nothing has such a window
    assert shown.width == 80
    shown.preset = "as acquired"
    np.testing.assert_array_equal(still(shown), before)
    shown.window = Window(0, 10)
    assert (shown.preset, shown.center, shown.width) == ("custom", 0, 10)
    shown.index = 99
    assert shown.index == 8


def test_presets_are_for_hounsfield_units_only(volume: np.ndarray) -> None:
    assert viewer(lambda k: volume[k], 9).presets == ["as acquired", "auto", "custom"]
    with pytest.raises(UsageError, match="Hounsfield"):
        viewer(lambda k: volume[k], 9, Look(window="brain"))


def test_colour_has_no_window_and_nothing_no_viewer() -> None:
    colour = np.zeros((8, 8, 3), np.uint8)
    assert viewer(lambda _: colour, 1).coloured
    with pytest.raises(UsageError, match="no slices"):
        viewer(lambda _: colour, 0)
    with pytest.raises(UsageError, match="one plane"):
        render(np.zeros((2, 2, 2, 2)), Window(0, 1))


def test_without_anywidget_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, volume: np.ndarray) -> None:
    monkeypatch.delitem(sys.modules, "voxelvault.display.slice_widget", raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(MissingExtra, match=r"voxelvault\[notebook\]"):
        viewer(lambda k: volume[k], 9)


def test_no_slice_is_kept_as_widget_state(volume: np.ndarray) -> None:
    """nbconvert and papermill save widget state into the notebook."""
    shown = viewer(lambda k: volume[k], 9, mask_at=lambda k: volume[k] > 50)
    state = shown.get_state()
    assert not any(isinstance(value, bytes | memoryview) for value in state.values())
    assert len(str({name: value for name, value in state.items() if name not in ("_esm", "_css")})) < 4000


def test_the_browser_half_loads_nothing() -> None:
    for path in STATIC.iterdir():
        text = path.read_text()
        assert not re.search(r"https?:|//[a-z]+\.|url\(|@import|fetch\(|XMLHttp|innerHTML", text), path.name
        assert text


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


def test_outside_a_notebook_a_picture_comes_back(volume: np.ndarray) -> None:
    look = Look(aspect=2.0, window="brain", hounsfield=True, orientation=(1, 0, 0, 0, 1, 0))
    picture = show(lambda k: volume[k], 9, look)
    assert isinstance(picture, Image.Image)
    assert isinstance(show(lambda _: np.zeros((4, 4, 3), np.uint8), 30), Image.Image)
    with pytest.raises(UsageError, match="Hounsfield"):
        show(lambda k: volume[k], 9, Look(window="brain"))


def test_in_a_notebook_the_viewer_comes_back(volume: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_module, "in_notebook", lambda: True)
    assert isinstance(show(lambda k: volume[k], 9, Look(window="brain", hounsfield=True)), SliceViewer)


def test_a_page_without_widgets_shows_the_slice_at_hand(volume: np.ndarray) -> None:
    """The bundle carries a still beside the widget; it follows the viewer."""
    shown = viewer(lambda k: volume[k], 9, Look(window="brain", hounsfield=True), start=8)
    assert "application/vnd.jupyter.widget-view+json" in shown._repr_mimebundle_()[0]
    levels = []
    for k in range(9):
        shown.index = k
        levels.append(int(still(shown)[200, 128]))
    assert (levels[0], levels[8]) == (0, 255)
    assert levels == sorted(set(levels))


def test_wide_slices_lie_close_on_a_sheet() -> None:
    wide = [np.zeros((10, 40), np.uint8)] * 6
    high = [np.zeros((40, 10), np.uint8)] * 6
    flat, tall = (contact_sheet(planes, across=3) for planes in (wide, high))
    assert flat.width == tall.width
    assert flat.height < tall.height / 3
