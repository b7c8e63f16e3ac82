"""Every failure this package raises, in one tree.

::

    VoxelVaultError
    ├── UsageError                 the call was wrong
    │   ├── UnknownUID             no such study, series or instance here
    │   ├── AmbiguousUID           the UID belongs to more than one subject
    │   ├── RulesRefused           rules of de-identification that can't be honoured, all of them
    │   ├── StackChoiceNeeded      several stacks, time points or echoes: say which
    │   └── VaultClosed            the vault was closed before
    ├── NotAVault                  no vault at this place
    ├── VaultExists                a vault is already at this place
    ├── NewerFormat                written by a newer version
    ├── KeyUnavailable             no slot opens with the keys at hand
    │   └── WrongPassphrase
    ├── IntegrityError             a proof failed
    │   ├── RollbackDetected       the vault is older than what was last seen
    │   └── ForgedRecord           the vault record is not what its root key vouches for
    ├── StorageError               the disk or object store refused
    │   ├── ObjectExists
    │   ├── ObjectMissing
    │   ├── ObjectChanged          another writer replaced the document meanwhile
    │   ├── NoSpace
    │   ├── NoPermission
    │   ├── Unanswered             network or server failed: nothing is known of what is stored
    │   ├── NetworkFileSystem      embedded writing needs a local disk
    │   └── LockTimeout            another process holds the lock
    ├── DicomError
    │   ├── NotDicom
    │   ├── MalformedDicom
    │   ├── ArchiveRefused         a zip or tar is hostile or too large
    │   ├── DecodeError            the codestream did not decode
    │   │   └── DecoderCrashed     … and took its decoder down with it
    │   ├── NoPixels               this object has none
    │   ├── Refused                not to be released (voxelvault.deid.model)
    │   └── GeometryError          no single geometry describes these frames
    ├── CatalogError
    │   └── QueryError             the SQL was refused or failed
    ├── AuditError                 no entry could be written, so nothing was done
    │   └── OutcomeNotLogged       the keys were changed, and only the intent is logged
    ├── SplitViolation             one person would stand in two parts of a split
    ├── PolicyDenied
    │   └── GrantExpired           what was lent to a worker process is no longer valid
    ├── ForkedProcess              a handle was used in a forked child
    ├── WorkerDied                 a loader's worker process was killed
    ├── ChildDied                  a confined process died or hung on a stranger's bytes
    ├── MissingExtra               an optional package is not installed
    └── PluginFailed               a package that adds to this one can't be loaded

Messages are one line, say what to do next and carry opaque ids only: never a UID, name, date
or source path.
"""

from __future__ import annotations

from collections.abc import Sequence


class VoxelVaultError(Exception):
    """Root of the tree."""


class UsageError(VoxelVaultError):
    """The call was wrong."""


class UnknownUID(UsageError):
    """No such study, series or instance in this vault."""


class AmbiguousUID(UsageError):
    """The UID belongs to more than one subject."""


class StackChoiceNeeded(UsageError):
    """Several stacks, time points or echoes; the message names the choices."""


class RulesRefused(UsageError):
    """Rules of de-identification that can't be honoured.

    Attributes
    ----------
    problems : tuple of str
        One for each line or rule: where it stands and what to write instead.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{len(self.problems)} rules can't be honoured: {'; '.join(self.problems)}")


class VaultClosed(UsageError):
    """The vault was closed before; open it again."""

    def __init__(self, message: str = "this vault is closed; open it again") -> None:
        super().__init__(message)


class NotAVault(VoxelVaultError):
    """There is no vault at this place."""


class VaultExists(VoxelVaultError):
    """A vault is already at this place."""


class NewerFormat(VoxelVaultError):
    """The data was written by a newer version of this package."""


class OlderFormat(VoxelVaultError):
    """The vault was made by a version whose layout this one does not read."""


class KeyUnavailable(VoxelVaultError):
    """No slot opens with the keys at hand."""


class WrongPassphrase(KeyUnavailable):
    """The passphrase opens no slot."""


class IntegrityError(VoxelVaultError):
    """A proof failed: a tag, a digest, a length, a signature."""


class RollbackDetected(IntegrityError):
    """The vault is older than what was last seen of it."""


class ForgedRecord(IntegrityError):
    """The vault record is not what its root key vouches for."""


class StorageError(VoxelVaultError):
    """The disk or the object store refused."""


class ObjectExists(StorageError):
    """Objects are written once; this one is there already."""


class ObjectMissing(StorageError):
    """The object is not there."""


class ObjectChanged(StorageError):
    """Another writer replaced the document meanwhile, so it was left as it is."""


class NoSpace(StorageError):
    """The disk is full."""


class NoPermission(StorageError):
    """The operating system denied access."""


class Unanswered(StorageError):
    """The network or a server failed: what is stored, and whether a write arrived, is not known."""


UNSEEN = Unanswered, NoPermission
"""Errors that tell nothing of what is stored: no reason to call it lost."""


class NetworkFileSystem(StorageError):
    """Embedded writing needs a local disk."""


class LockTimeout(StorageError):
    """Another process holds the lock."""


class DicomError(VoxelVaultError):
    """The input is not what DICOM says it should be."""


class NotDicom(DicomError):
    """The bytes are not a DICOM object."""


class MalformedDicom(DicomError):
    """The bytes contradict themselves."""


class ArchiveRefused(DicomError):
    """The archive is hostile or too large."""


class DecodeError(DicomError):
    """The codestream did not decode to what the header promises."""


class DecoderCrashed(DecodeError):
    """The decoder died or hung on the codestream; the file belongs in quarantine."""


class NoPixels(DicomError):
    """The object has no pixels, or none that can be decoded."""


class GeometryError(DicomError):
    """No single geometry describes these frames."""


class CatalogError(VoxelVaultError):
    """The catalog refused."""


class QueryError(CatalogError):
    """The SQL was refused or failed."""


class AuditError(VoxelVaultError):
    """No audit entry could be written, so nothing was done."""


class OutcomeNotLogged(AuditError):
    """The keys were changed, and the log has no outcome of it, only the intent.

    Attributes
    ----------
    recovery_code : str or None
        The new one, when the change made one: shown here or never, since the one before opens
        nothing any more.
    """

    def __init__(self, recovery_code: str | None = None) -> None:
        self.recovery_code = recovery_code
        super().__init__(
            "the keys were changed, but the outcome could not be entered in the log; free some disk "
            "space, and look at `keys list` before doing it again"
        )


class PolicyDenied(VoxelVaultError):
    """The policy said no."""


class GrantExpired(PolicyDenied):
    """What was lent to a worker process is no longer valid."""


class SplitViolation(VoxelVaultError):
    """One person would stand in two parts of a split."""


class ForkedProcess(VoxelVaultError):
    """A handle was used in a forked child; use spawn or forkserver."""


class WorkerDied(VoxelVaultError):
    """A loader's worker process was killed; iterate again to start others."""


class ChildDied(VoxelVaultError):
    """A confined process died on what it was given, or was not done in time.

    Attributes
    ----------
    hung : bool
        It was not done in time.
    """

    def __init__(self, message: str = "the confined process died; try again", *, hung: bool = False) -> None:
        self.hung = hung
        super().__init__(message)


class MissingExtra(VoxelVaultError):
    """An optional package is not installed; the message names the extra."""


class PluginFailed(VoxelVaultError):
    """A package that adds a codec, source, verb or provider fails; the message names it."""
