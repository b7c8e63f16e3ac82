"""Whether a site's executor has opened the vault, and its latest fault: told by it, read by who starts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from voxelvault.errors import VoxelVaultError
from voxelvault_fl.errors import FederatedError
from voxelvault_fl.hospital import now
from voxelvault_fl.processes.lifetime import tell
from voxelvault_fl.provisioning.files import read_json


class Health:
    """The file in which an executor says how it is.

    Parameters
    ----------
    state : Path
        The site's state folder.
    clock : callable
        The time, UTC.
    """

    def __init__(self, state: Path, clock: Callable[[], datetime] = now) -> None:
        self._path, self._clock = state / "executor.json", clock
        self._said: dict[str, Any] = {}

    def begin(self) -> None:
        """Forget what was told before."""
        self._path.unlink(missing_ok=True)

    def opened(self, warnings: Sequence[str] = ()) -> None:
        """Tell that the vault is open, and what it warns of."""
        self._tell(open=True, warnings=list(warnings))

    def failed(self, error: BaseException) -> None:
        """Tell a fault of the vault or of the site's log; what a message was refused for is none."""
        if isinstance(error, VoxelVaultError) and not isinstance(error, FederatedError):
            self._fault(error)

    def ended(self, error: BaseException) -> None:
        """Tell what the executor ends with."""
        self._fault(error)

    @property
    def open(self) -> bool:
        """Whether the vault is open."""
        return bool(read_json(self._path).get("open"))

    @property
    def fault(self) -> str:
        """The latest fault since the vault was opened, or why it isn't, in a line; empty without one."""
        return str(read_json(self._path).get("fault", ""))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to warn of, a line each."""
        said = read_json(self._path)
        fault = (f"the executor, {said['time']}: {said['fault']}",) if said.get("fault") else ()
        return (*said.get("warnings", ()), *fault)

    def _fault(self, error: BaseException) -> None:
        # The text of ours names nobody; that of others may say anything, and stands in the logs.
        said = " ".join(str(error).split()) if isinstance(error, VoxelVaultError) else type(error).__name__
        self._tell(fault=said, time=self._clock().isoformat(timespec="seconds"))

    def _tell(self, **said: Any) -> None:
        self._said |= said
        tell(self._path, self._said)


__all__ = ["Health"]
