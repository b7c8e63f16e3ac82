"""An open series as pictures: viewers in a notebook, sheets elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from voxelvault.dicom.even_grid import even_labels
from voxelvault.dicom.resample import resample_regular
from voxelvault.dicom.slices import LPS_TO_RAS
from voxelvault.errors import UsageError
from voxelvault.reading.pictures import Open, first_slice, laid, look_of, pane_of, slices_of, under
from voxelvault.reading.stacks import FrameStack, choose
from voxelvault.reading.volumes import Array, VolumeReader

if TYPE_CHECKING:
    from PIL import Image


class PictureFace:
    """What gives a series its pictures; `Series` is one."""

    _reader: VolumeReader
    handle: Open

    if TYPE_CHECKING:  # `Series` has these

        @property
        def _stacks(self) -> tuple[FrameStack, ...]: ...

        @property
        def modality(self) -> str:
            """Modality, such as CT."""

        def load(self, stack: int | str | None = None) -> Array:
            """Read a volume."""

        def mask(
            self, label: str | int | Sequence[str | int] | None = None, *, stack: int | str | None = None
        ) -> Array:
            """Lay segments on the grid of a volume."""

    def show(
        self,
        window: str | tuple[float, float] | None = None,
        *,
        stack: int | str | None = None,
        mask: Array | str | Sequence[str] | None = None,
        planes: bool = False,
        at: tuple[float, float, float] | None = None,
        opacity: float = 0.4,
    ) -> Any:
        """Show the volume: in a notebook a viewer, elsewhere a picture.

        Parameters
        ----------
        window : str or (centre, width), optional
            A preset such as ``brain``, ``bone``, ``lung``, or values in the unit of the series.
        stack : int or str, optional
            Which volume.
        mask : ndarray, label or sequence of labels, optional
            Laid over it: (slice, row, column), bool or labels 0 to 255; or what `mask` gives for the
            labels. A viewer opens in the middle of it.
        planes : bool
            Axial, coronal and sagittal planes with a cross-hair, instead of one slice after another.
        at : (x, y, z), optional
            With `planes`: where the cross-hair is at first, mm, RAS; by default in the middle of the
            mask, or of the volume without one.
        opacity : float
            Of the mask.

        Returns
        -------
        anywidget.AnyWidget or PIL.Image.Image
            What a notebook displays, or a picture with `save` and `show`.

        Raises
        ------
        MissingExtra
            In a notebook without the extra `notebook`.
        UsageError
            The mask does not lie on the volume, or `planes` of a colour series.
        """
        from voxelvault.display.planes import planes as three_planes
        from voxelvault.display.viewer import show

        chosen = choose(self._stacks, stack)
        labels, names = self._laid(chosen, mask)
        look = look_of(self._reader, chosen, window=window, opacity=opacity, names=names)
        if planes:
            volume, affine = self._upright(chosen)
            if labels is not None and not chosen.group.regular:
                labels = even_labels(labels, chosen.group)[0]
            return three_planes(volume, affine, look, at=at, mask=labels)
        mask_at = None if labels is None else labels.__getitem__
        slices = slices_of(self._reader, self.handle, chosen)
        return show(slices, len(chosen.refs), look, mask_at=mask_at, start=first_slice(labels))

    def compare(
        self,
        *others: PictureFace,
        window: str | tuple[float, float] | None = None,
        stack: int | str | None = None,
    ) -> Any:
        """Show this volume beside others: linked viewers in a notebook, elsewhere rows of slices.

        Volumes of one frame of reference and orientation show the same place, others the same part of
        the way.

        Parameters
        ----------
        *others : Series
            Open series, each of one volume.
        window : str or (centre, width), optional
            As for `show`, for every volume in the same unit as this one.
        stack : int or str, optional
            Which volume of this series.

        Returns
        -------
        ipywidgets.Box or PIL.Image.Image
            As for `show`.

        Raises
        ------
        StackChoiceNeeded
            One of the others has several volumes.
        UsageError
            Nothing to compare with.
        """
        from voxelvault.display.compare import compare

        chosen = [choose(self._stacks, stack), *(choose(one._stacks, None) for one in others)]
        panes = [
            pane_of(one._reader, one.handle, which, one.modality)
            for one, which in zip((self, *others), chosen, strict=True)
        ]
        return compare(under(window, panes))

    def contact_sheet(
        self,
        window: str | tuple[float, float] | None = None,
        *,
        stack: int | str | None = None,
        mask: Array | str | Sequence[str] | None = None,
        opacity: float = 0.4,
        count: int = 20,
    ) -> Image.Image:
        """Draw slices of the volume, evenly spread, on one sheet; nothing on it names anybody.

        Parameters
        ----------
        window, stack, mask, opacity
            As for `show`; masks are tinted and outlined.
        count : int
            Slices on the sheet, at most.

        Returns
        -------
        PIL.Image.Image
            `.save("sheet.png")` writes it.

        Raises
        ------
        UsageError
            The mask does not lie on the volume, or the series has no such label.
        """
        from voxelvault.display.viewer import sheet

        chosen = choose(self._stacks, stack)
        labels, _ = self._laid(chosen, mask)
        look = look_of(self._reader, chosen, window=window, opacity=opacity)
        mask_at = None if labels is None else labels.__getitem__
        slices = slices_of(self._reader, self.handle, chosen)
        return sheet(slices, len(chosen.refs), look, mask_at=mask_at, shown=count)

    def _laid(
        self, chosen: FrameStack, mask: Array | str | Sequence[str] | None
    ) -> tuple[Array | None, dict[int, str]]:
        """Return labels on the grid of a volume, and their names."""
        from voxelvault.display.overlay import named

        if mask is None or isinstance(mask, np.ndarray):
            return laid(mask, self._reader.shape(chosen)[:3]), named(mask)
        wanted = [mask] if isinstance(mask, str) else list(mask)
        labels = self.mask(wanted, stack=self._stacks.index(chosen))
        return labels, {number: str(label) for number, label in enumerate(wanted, start=1)}

    def _upright(self, chosen: FrameStack) -> tuple[Array, npt.NDArray[np.float64]]:
        """Return a volume with an affine (RAS), interpolated onto an even grid if need be."""
        if chosen.layout.colour:
            raise UsageError("three planes need grey values; leave out planes=True")
        volume = self.load(self._stacks.index(chosen))
        if chosen.group.regular:
            return volume, chosen.group.affine_ras
        done = resample_regular(volume, chosen.group)
        return done.volume, LPS_TO_RAS @ done.affine_lps
