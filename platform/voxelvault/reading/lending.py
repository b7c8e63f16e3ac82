"""Loans: packs of an open handle, readable in worker processes without the vault's keys or catalog.

A `Loan` is what travels in a pickle: opaque ids and a sealed grant, which opens only in processes
that multiprocessing started from the lender. In the worker it gives readers of the packs that were
lent, and no more: there is no root key, no catalog and no log. What a loan opens was entered in the
log with the handle that it stands on, whose closing names the grants.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from weakref import WeakValueDictionary

from voxelvault.crypto.grants import Grant, Mode, check_expiry, family_key, open_lent, seal_grant
from voxelvault.errors import IntegrityError, KeyUnavailable, PolicyDenied
from voxelvault.model import SealedRef, new_id
from voxelvault.reading.packs import KeptReaders, checked_manifest, manifest_ref
from voxelvault.reading.processes import check_process, opened
from voxelvault.storage.layout import DERIVED, OBJECTS
from voxelvault.storage.lent_objects import describe_store, lent_store
from voxelvault.storage.pack import MANIFEST_LABEL
from voxelvault.storage.pack_reader import PackReader
from voxelvault.storage.sealed_objects import SealedObjects

if TYPE_CHECKING:
    from voxelvault.dicom.decode import DecoderPool
    from voxelvault.reading.handles import Handle
    from voxelvault.resources import Resources

LIFETIME = 7 * 86_400.0
"""Seconds that a loan is good for."""

SECRETS = (
    "VOXELVAULT_KEY",
    "VOXELVAULT_PASSPHRASE",
    "VOXELVAULT_RECOVERY_CODE",
    "VOXELVAULT_PKCS11_PIN",
    "VAULT_TOKEN",
)
"""Environment variables that open a vault; a worker has no use for them.

Credentials of AWS stay: workers read objects from S3 with them.
"""

_KEPT_LOANS = 32
_KEPT_PACKS = 256
_NO_KEYS: Mapping[str, bytes] = MappingProxyType({})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loan:
    """What a worker process gets; it pickles, and its pickle holds no key, UID, name or path.

    Parameters
    ----------
    vault_id, grant_id : str
        32 hexadecimal digits.
    expires : float
        Seconds since the epoch.
    sealed : bytes
        The grant, sealed to the lender's family of processes.
    """

    vault_id: str
    grant_id: str
    expires: float
    sealed: bytes = field(repr=False)
    _pid: int = field(default_factory=os.getpid, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Loan, (self.vault_id, self.grant_id, self.expires, self.sealed)

    def open(self) -> OpenLoan:
        """Open it here; later calls in this process get the same one.

        Raises
        ------
        GrantExpired
            Its time is over.
        KeyUnavailable
            This process is not of the lender's family.
        ForkedProcess
            This is a forked child of a process that has a vault or a loan open.
        """
        check_process()
        check_process(self._pid)
        found = _known(self)
        found.check()
        return found


class OpenLoan:
    """A loan open in this process: keys, packs and objects. Made by `Loan.open`; never pickled.

    It stands in for a handle: `check` and `count` are what reads under a loan ask.

    Attributes
    ----------
    packs : KeptReaders
        `reader(pack_id)`, as of an open vault, decoding in one thread.
    mode : {"read", "write"}
        `write` may put new objects into the area of derived ones.
    payload : bytes
        What the lender sent along.
    lender : str
        The process that lent it: there it ends with its handle, also when nobody holds that any more.
    frames, bytes : int
        What was read under it in this process.
    """

    def __init__(self, grant: Grant, handle: Handle | None = None) -> None:
        length = int.from_bytes(grant.payload[:4], "big")
        terms = json.loads(grant.payload[4 : 4 + length])
        self._grant, self._handle, self._pid = grant, handle, os.getpid()
        self._objects = lent_store(terms["store"], terms["areas"])
        self._refs = {pack_id: SealedRef(**ref) for pack_id, ref in terms["packs"].items()}
        self._verify = bool(terms["verify"])
        self.lender: str = terms["lender"]
        self._made: dict[str, Any] = {}
        self._making = threading.RLock()
        self.payload = grant.payload[4 + length :]
        self.packs = KeptReaders(self._open_pack, _KEPT_PACKS)
        self.frames = self.bytes = 0

    def __repr__(self) -> str:
        return f"<OpenLoan to {self.mode} {len(self._refs)} packs>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an open loan holds keys and is never pickled; pickle the loan")

    @property
    def mode(self) -> Mode:
        """`read` or `write`."""
        return self._grant.mode

    @property
    def vault_id(self) -> str:
        """The vault, 32 hexadecimal digits."""
        return self._grant.vault_id

    @property
    def pool(self) -> DecoderPool:
        """The child that decodes the senders' codestreams in this process."""
        return _decoders()

    def reader(self, pack_id: str) -> PackReader:
        """Return the reader of a pack that was lent."""
        return self.packs.reader(pack_id)

    def check(self) -> None:
        """Refuse when its time is over, in a forked child, and where the lender closed the handle."""
        check_process(self._pid)
        check_expiry(self._grant.expires, time.time())
        if self._handle is not None:
            self._handle.check()

    def count(self, frames: int, size: int) -> None:
        """Count a read; in the lender's own process it counts for the handle."""
        self.frames += frames
        self.bytes += size
        if self._handle is not None:
            self._handle.count(frames, size)

    def sealed(self, area: str = OBJECTS) -> SealedObjects:
        """Return the vault's sealed objects of an area, `objects` or `derived`."""
        self.check()
        return SealedObjects(self._objects, self.vault_id, area)

    def key(self, key_id: str) -> bytes:
        """Return a key that was lent, by its id.

        Raises
        ------
        KeyUnavailable
            It was not lent.
        """
        self.check()
        try:
            return self._grant.keys[key_id]
        except KeyError:
            raise KeyUnavailable(f"key {key_id} was not lent; lend it with what needs it") from None

    def once(self, name: str, make: Callable[[OpenLoan], T]) -> T:
        """Return what `make` made of this loan at the first call of that name in this process."""
        self.check()
        with self._making:
            if name not in self._made:
                self._made[name] = make(self)
        made: T = self._made[name]
        return made

    def _open_pack(self, pack_id: str) -> PackReader:
        self.check()
        ref = self._refs.get(pack_id)
        if ref is None:
            raise IntegrityError(f"pack {pack_id} was not lent; lend it with the series that needs it")
        sealed = self.sealed()
        manifest = checked_manifest(sealed, ref, self.key(ref.key_id))
        return PackReader(manifest, self.key(pack_id), sealed, _decoders(), 1, self._verify)


def lend(
    resources: Resources,
    handle: Handle,
    pack_rows: Iterable[Mapping[str, Any]],
    payload: bytes = b"",
    extra_keys: Mapping[str, bytes] = _NO_KEYS,
    mode: Mode = "read",
    lifetime: float = LIFETIME,
) -> Loan:
    """Lend packs of an open handle to the processes that multiprocessing starts from this one.

    Parameters
    ----------
    resources : Resources
        The open vault.
    handle : Handle
        What the log knows; it must cover the packs.
    pack_rows : iterable of mapping
        Rows of the catalog's `packs`.
    payload : bytes
        Anything else for the worker, sealed with the keys.
    extra_keys : mapping of str to bytes
        More keys by opaque id, 32 bytes each.
    mode : {"read", "write"}
        `write` lets the worker put new objects into the area of derived ones.
    lifetime : float
        Seconds.

    Returns
    -------
    Loan
        Pickle it, or send it along in a task.

    Raises
    ------
    PolicyDenied
        The handle is closed.
    UsageError
        The vault is where no other process can read it.
    IntegrityError, KeyUnavailable
        A pack does not open.
    """
    handle.check()
    grant = grant_of(resources, pack_rows, payload, extra_keys, mode, (DERIVED,), lifetime)
    loan = Loan(grant.vault_id, grant.grant_id, grant.expires, seal_grant(grant, family_key().public_key()))
    handle.lent(grant.grant_id, partial(_forget, grant.grant_id))
    _lenders[grant.grant_id] = handle
    return loan


def grant_of(
    resources: Resources,
    pack_rows: Iterable[Mapping[str, Any]],
    payload: bytes,
    extra_keys: Mapping[str, bytes],
    mode: Mode,
    areas: Sequence[str],
    lifetime: float,
) -> Grant:
    """Return a grant that `OpenLoan` opens; `areas` are those that a grant to write adds objects to.

    Raises
    ------
    UsageError
        The vault is where no other process can read it.
    IntegrityError, KeyUnavailable
        A pack does not open.
    """
    keys, packs = dict(extra_keys), {}
    for row in pack_rows:
        ref = manifest_ref(row)
        packs[row["pack_id"]] = asdict(ref)
        keys |= _pack_keys(resources, ref, keys)
    terms = {
        "store": describe_store(resources.objects),
        "areas": list(areas) if mode == "write" else [],
        "verify": resources.options.verify_reads,
        "packs": packs,
        "lender": _this_process(),
    }
    head = json.dumps(terms, separators=(",", ":")).encode()
    whole = b"".join((len(head).to_bytes(4, "big"), head, payload))
    return Grant(resources.settings.vault_id, new_id(), mode, time.time() + lifetime, keys, whole)


def _pack_keys(resources: Resources, ref: SealedRef, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what opens a pack: its study's key for manifests, and its own."""
    key = known.get(ref.key_id) or resources.keys.sub_key(ref.key_id, MANIFEST_LABEL)
    manifest = checked_manifest(resources.sealed, ref, key)
    dek = resources.keys.unwrap_dek(manifest.study_key_id, manifest.pack_id, manifest.wrapped_dek)
    return {ref.key_id: key, manifest.pack_id: dek}


_open: OrderedDict[str, OpenLoan] = OrderedDict()
_lenders: WeakValueDictionary[str, Handle] = WeakValueDictionary()
"""Handles of this process by the grants that stand on them."""
_guard = threading.Lock()


def _known(loan: Loan) -> OpenLoan:
    with _guard:
        found = _open.get(loan.grant_id)
        if found is None:
            found = _open[loan.grant_id] = _opened(loan)
        _open.move_to_end(loan.grant_id)
        while len(_open) > _KEPT_LOANS:
            _open.popitem(last=False)
    return found


def _forget(grant_id: str) -> None:
    with _guard:
        _open.pop(grant_id, None)


def forget_lent() -> None:
    """Drop the loans that other processes made and that are open here."""
    with _guard:
        for grant_id in [grant_id for grant_id, found in _open.items() if found.lender != _this_process()]:
            del _open[grant_id]


@lru_cache(maxsize=1)
def _this_process() -> str:
    """Return what tells this process from others; made late, so that no two share it by a fork server."""
    return new_id()


def _opened(loan: Loan) -> OpenLoan:
    handle = _lenders.get(loan.grant_id)
    if handle is None and multiprocessing.parent_process() is not None:
        for name in SECRETS:
            os.environ.pop(name, None)
    grant = open_lent(loan.sealed, time.time())
    if (grant.vault_id, grant.grant_id) != (loan.vault_id, loan.grant_id):
        raise IntegrityError("a loan carries another one's grant; make the loader or the graph anew")
    found = OpenLoan(grant, handle)
    if handle is None and found.lender == _this_process():
        raise PolicyDenied("what was lent was closed; make the loader or the graph anew")
    opened()
    return found


@lru_cache(maxsize=1)
def _decoders() -> DecoderPool:
    """Return this worker's children for foreign codestreams: one, since workers share the cores."""
    from voxelvault.dicom.decode import DecoderPool

    return DecoderPool(1)


__all__ = ["LIFETIME", "SECRETS", "Loan", "OpenLoan", "forget_lent", "grant_of", "lend"]
