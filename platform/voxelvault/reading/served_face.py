"""An open series as DICOM: its instances, and its frames as files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from voxelvault.dicom.read import Header
from voxelvault.errors import AmbiguousUID, UnknownUID, UsageError
from voxelvault.reading.stacks import FrameStack, choose
from voxelvault.reading.volumes import VolumeReader

if TYPE_CHECKING:
    from voxelvault.reading.served import ServedInstance
    from voxelvault.resources import Resources


def find_instance(resources: Resources, uid: str) -> tuple[str, str]:
    """Return the opaque ids of the series and of the instance that has this SOPInstanceUID.

    Raises
    ------
    UnknownUID
        There is none.
    AmbiguousUID
        Several series have one: of several subjects, maybe.
    """
    rows = resources.catalog.query(
        "select series_id, instance_id from instances where SOPInstanceUID = $uid and not superseded",
        {"uid": uid},
    ).to_pylist()
    if not rows:
        raise UnknownUID("no such instance in this vault; a query on the table `instances` lists them")
    if len(rows) > 1:
        raise AmbiguousUID(
            "several series have an instance of this UID; open one with `series` and look through `instances`"
        )
    return rows[0]["series_id"], rows[0]["instance_id"]


class Closable(Protocol):
    """What an instance closes with it: the series it was opened with."""

    def close(self) -> None:
        """Close."""


class Instance(AbstractContextManager["Instance"]):
    """One SOP instance of an open series. Made by `series.instances` and `vault.instance`.

    Parameters
    ----------
    reader : VolumeReader
        Of its series; every read goes by the series' handle.
    instance_id, pack_id : str
        Opaque ids.
    opened : Closable, optional
        Closed with the instance, where it was opened for it alone.
    """

    def __init__(
        self, reader: VolumeReader, instance_id: str, pack_id: str, opened: Closable | None = None
    ) -> None:
        self._reader, self._opened = reader, opened
        self._pack_id = pack_id
        self.instance_id = instance_id

    def owning(self, opened: Closable) -> Instance:
        """Return the same instance, that closes its series when it is closed."""
        return Instance(self._reader, self.instance_id, self._pack_id, opened)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the series that was opened for this instance; an open series stays open."""
        if self._opened is not None:
            self._opened.close()

    def __repr__(self) -> str:
        return f"<Instance {self.instance_id}>"

    def __len__(self) -> int:
        """Return the number of frames that can be served."""
        return self._served().frames

    def __bool__(self) -> bool:
        return True

    @property
    def uid(self) -> str:
        """SOPInstanceUID."""
        pack = self._reader.pack(self._pack_id)
        return pack.manifest.instance(self.instance_id).sop_instance_uid

    @property
    def header(self) -> Header:
        """The instance's attributes without bulk data."""
        return self._reader.header(self.instance_id)

    @property
    def transfer_syntaxes(self) -> tuple[str, ...]:
        """UIDs that `as_dicom` takes; first the one it came in."""
        return self._served().transfer_syntaxes

    def as_dicom(self, transfer_syntax: str | None = None) -> bytes:
        """Return the instance as a DICOM Part 10 file.

        Its SOP Instance UID stays: pixel values do, whatever codes them.

        Parameters
        ----------
        transfer_syntax : str, optional
            UID. Without one, or with the one it came in, the file as it came, byte for byte.
            ``1.2.840.10008.1.2.1`` (native pixels) and ``1.2.840.10008.1.2.4.201`` (lossless HTJ2K)
            are made where it can be; then digital signatures are left out, and overlays that lay in
            pixels' unused bits stand in OverlayData.

        Raises
        ------
        UsageError
            Not in that transfer syntax; the message names those that work.
        IntegrityError
            A stored byte is not what it was.
        PolicyDenied
            The series was closed.

        References
        ----------
        DICOM PS3.10 7, PS3.5 A.4, PS3.3 C.12.4.1.1.
        """
        file = self._served().whole(transfer_syntax)
        self._reader.count(1, len(file))
        return file

    def frame_as_dicom(self, index: int = 0, transfer_syntax: str | None = None) -> bytes:
        """Return one frame as a DICOM Part 10 file.

        Of an instance with one frame the file is that instance. Of one with several it is an instance
        of its own, with a SOP Instance UID that is always the same for this frame, and a Frame
        Extraction Sequence that names where it came from.

        Parameters
        ----------
        index : int
            Which frame of the instance, from 0.
        transfer_syntax : str, optional
            UID. By default the frame as it is stored: lossless HTJ2K, or the sender's own codestream;
            native pixels where HTJ2K can't hold them.

        Raises
        ------
        UsageError
            No such frame, or not in that transfer syntax; the message names those that work.
        NoPixels
            The instance has no frames that can be decoded.
        IntegrityError, PolicyDenied
            As for `as_dicom`.

        References
        ----------
        DICOM PS3.3 C.12.3 (frame extraction).
        """
        file = self._served().frame(index, transfer_syntax)
        self._reader.count(1, len(file))
        return file

    def _served(self) -> ServedInstance:
        from voxelvault.reading.served import ServedInstance

        pack = self._reader.pack(self._pack_id)
        return ServedInstance(pack, pack.manifest.instance(self.instance_id))


class ServedFace:
    """What gives a series its instances; `Series` is one."""

    _reader: VolumeReader
    _instances: Sequence[Any]

    if TYPE_CHECKING:  # `Series` has these

        @property
        def _stacks(self) -> tuple[FrameStack, ...]: ...

    @property
    def instances(self) -> list[Instance]:
        """The instances, in order of InstanceNumber."""
        return [Instance(self._reader, row["instance_id"], row["pack_id"]) for row in self._instances]

    def frame_as_dicom(
        self, index: int, stack: int | str | None = None, *, transfer_syntax: str | None = None
    ) -> bytes:
        """Return one slice of a volume as a DICOM Part 10 file, as it is stored: never decoded.

        What HTJ2K can't hold comes as native pixels; see `Instance.frame_as_dicom`.

        Parameters
        ----------
        index : int
            Which slice, in order of space, as `frame` takes it.
        stack : int or str, optional
            Which volume, where there are several.
        transfer_syntax : str, optional
            UID, instead of the one that the frame is stored in.

        Raises
        ------
        UsageError
            There is no such slice, or not in that transfer syntax.
        IntegrityError, PolicyDenied
            A stored byte is not what it was; the series was closed.
        """
        refs = choose(self._stacks, stack).refs
        if not 0 <= index < len(refs):
            raise UsageError(f"there is no slice {index}: this volume has slices 0 to {len(refs) - 1}")
        ref = refs[index]
        found = Instance(self._reader, ref.instance_id, ref.pack_id)
        return found.frame_as_dicom(ref.number, transfer_syntax)


__all__ = ["Instance", "ServedFace", "find_instance"]
