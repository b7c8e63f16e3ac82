"""Three planes with a cross-hair in the browser: NiiVue's program and the volume go there as messages.

ipyniivue brings NiiVue, whole and offline. Its own widget keeps volumes as widget state, which
nbconvert and papermill save into the notebook, and sends them back to the kernel once they are shown;
so `static/planes.js` hands NiiVue what this half sends, and nothing is saved or sent back.
Imported only where such a viewer is made.
"""

from __future__ import annotations

import base64
import importlib.util
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from voxelvault.display.overlay import OPACITY, PALETTE
from voxelvault.display.slice_widget import STATIC
from voxelvault.display.window import Window
from voxelvault.errors import MissingExtra


class PlanesViewer(anywidget.AnyWidget):
    """Axial, coronal and sagittal planes of one volume, linked by a cross-hair.

    Parameters
    ----------
    volumes : sequence of bytes
        NIfTI-1: the image, and perhaps labels over it.
    still : callable
        Viewer to PNG, for pages where no widgets run.
    **state
        Values of the traits below.
    """

    _esm = STATIC / "planes.js"
    _css = STATIC / "viewer.css"

    extent = traitlets.List([1.0, 1.0, 1.0]).tag(sync=True)
    """Of the volume along x, y, z: mm."""
    unit = traitlets.Unicode("").tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    presets = traitlets.Dict({}).tag(sync=True)
    low = traitlets.Float(0.0).tag(sync=True)
    high = traitlets.Float(1.0).tag(sync=True)
    range = traitlets.List([0.0, 1.0]).tag(sync=True)
    inverted = traitlets.Bool(False).tag(sync=True)
    opacity = traitlets.Float(OPACITY, min=0.0, max=1.0).tag(sync=True)
    masked = traitlets.Bool(False).tag(sync=True)
    names = traitlets.Dict({}).tag(sync=True)
    colours = traitlets.List([list(colour) for colour in PALETTE]).tag(sync=True)
    cross = traitlets.List([0.5, 0.5, 0.5]).tag(sync=True)
    """Where the cross-hair starts, as parts of the volume along x, y, z."""
    at: Any = traitlets.List([]).tag(sync=True)
    """Where the cross-hair is: mm, RAS; set by the user's clicks."""

    def __init__(
        self, volumes: Sequence[bytes], still: Callable[[PlanesViewer], bytes], **state: Any
    ) -> None:
        self._program = zlib.compress(program().read_bytes(), 1)
        self._volumes = [zlib.compress(volume, 1) for volume in volumes]
        self._still = still
        super().__init__(masked=len(volumes) > 1, **state)
        self.on_msg(self._asked)

    @property
    def window(self) -> Window:
        """The window shown."""
        return Window((self.low + self.high) / 2, self.high - self.low, "LINEAR_EXACT")

    def _asked(self, _: Any, content: Any, buffers: Any) -> None:
        wanted = content.get("want") if isinstance(content, dict) else None
        if wanted == "program":
            self.send({"program": True}, [self._program])
        if wanted == "volumes":
            self.send({"volumes": len(self._volumes)}, self._volumes)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, about = bundle
        return {**data, "image/png": base64.b64encode(self._still(self)).decode()}, about


def program() -> Path:
    """Return where ipyniivue keeps NiiVue.

    Raises
    ------
    MissingExtra
        It is not installed, or keeps it elsewhere.
    """
    found = importlib.util.find_spec("ipyniivue")
    places = list(found.submodule_search_locations or []) if found is not None else []
    path = Path(places[0], "static", "widget.js") if places else None
    if path is None or not path.is_file():
        raise MissingExtra("three planes need ipyniivue; run: pip install 'voxelvault[notebook]'")
    return path
