"""Where the log's parts lie in the object store, and reading them with everything proved.

::

    audit/checkpoint        signed tree head; replacing it is what commits an append
    audit/edge/<root>       what ends the log with that root: partial tiles and the partial bundle
    audit/full/<root>       full tiles and bundles of that append, until they are in their places
    audit/tile/<L>/<N>      full tiles: 256 clear hashes, C2SP tlog-tiles
    audit/entries/<N>       full bundles: 256 sealed entries
    audit/text/<xx>/<id>    sealed free texts

Nothing but the checkpoint is ever overwritten, and that only from the version that the writer read.
An append writes its edge under a name that no other append can have, since every leaf is random;
once its checkpoint stands, and not before, full tiles and bundles get their places. So a writer
that lost its lease in object storage, and writes on, can harm nothing that another committed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from voxelvault.audit.checkpoint import Checkpoint, NoteKey, open_checkpoint
from voxelvault.audit.envelope import LogKeys, open_bundle, open_text, seal_bundle
from voxelvault.audit.leaf import TextRef
from voxelvault.audit.merkle import HASH_SIZE, consistency_path, leaf_hash, range_root, verify_consistency
from voxelvault.audit.tiles import WIDTH, Tile, TileReader, Tree, index_path, last_tile
from voxelvault.errors import IntegrityError, ObjectExists, ObjectMissing, RollbackDetected, StorageError
from voxelvault.model import ObjectStore

CHECKPOINT = "audit/checkpoint"
_EDGES, _FULL = "audit/edge", "audit/full"
_LENGTHS = struct.Struct(">HI")
_TRIES = 8


@dataclass(frozen=True)
class Head:
    """A verified state of the log.

    Parameters
    ----------
    note : str
        The signed checkpoint as it is stored.
    version : str
        What the store calls this version of it.
    checkpoint : Checkpoint
        What it says.
    tree : Tree
        Right edge with that root. Not to be changed.
    reader : TileReader
        Proved tiles of this state.
    bundle : bytes
        The sealed entries of the last, partial bundle.
    """

    note: str
    version: str
    checkpoint: Checkpoint
    tree: Tree
    reader: TileReader
    bundle: bytes

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.checkpoint.size

    def extends(self, older: Checkpoint) -> None:
        """Prove that this log begins with an older state of it.

        Parameters
        ----------
        older : Checkpoint
            Whose signature was verified.

        Raises
        ------
        RollbackDetected
            The log is shorter, or its history is another one.
        IntegrityError
            A tile on the way was changed.
        """
        if older.size > self.size:
            raise RollbackDetected(
                f"the audit log has {self.size} entries and had {older.size}: an older copy was put back; "
                "restore the newer one, or accept this one with --accept-restore"
            )
        path = consistency_path(older.size, self.size, self.reader.node)
        try:
            verify_consistency(older.size, self.size, path, older.root, self.checkpoint.root)
        except IntegrityError:
            raise RollbackDetected(
                f"the audit log does not begin with the {older.size} entries it had: its history was "
                "rewritten; restore the true one, or accept this one with --accept-restore"
            ) from None

    @property
    def root(self) -> str:
        """Root hash, 64 hexadecimal digits."""
        return self.checkpoint.root.hex()

    def root_at(self, size: int) -> bytes:
        """Root hash when the log had `size` entries."""
        return range_root(0, size, self.reader.node)


class Shelf:
    """The log's objects; checks all that it reads, decides nothing.

    Parameters
    ----------
    objects : ObjectStore
        Where they lie.
    keys : LogKeys
        Open and seal bundles and texts.
    key : NoteKey
        Origin and public key of the log.
    """

    def __init__(self, objects: ObjectStore, keys: LogKeys, key: NoteKey) -> None:
        self.objects = objects
        self.keys = keys
        self.key = key
        self._settled = ""

    def head(self, known: Head | None = None) -> Head:
        """Read the state that is on disk.

        Parameters
        ----------
        known : Head, optional
            An earlier one: returned when nothing changed, else the new one must extend it.

        Returns
        -------
        Head
            Verified: signature, right edge against the root.

        Raises
        ------
        IntegrityError
            Something was changed; `RollbackDetected` when the log went back.
        """
        for tries in range(_TRIES):
            note, version = self._note()
            if known and note == known.note:
                return known if known.version == version else replace(known, version=version)
            try:
                head = self._load(note, version)
            except ObjectMissing:
                # A writer may have gone on and swept this state's edge since the note was read.
                if tries + 1 == _TRIES or self._note()[0] == note:
                    raise _damaged("a tile is missing") from None
                continue
            if known:
                head.extends(known.checkpoint)
            return head
        raise _damaged("a tile is missing")

    def _note(self) -> tuple[str, str]:
        try:
            data, version = self.objects.versioned(CHECKPOINT)
            return data.decode(), version
        except (ObjectMissing, UnicodeDecodeError):
            raise _damaged("its checkpoint is missing or damaged") from None

    def _load(self, note: str, version: str) -> Head:
        checkpoint = open_checkpoint(note, self.key)
        edge = memoryview(self.objects.get(_edge(checkpoint.root)) if checkpoint.size else b"")
        at = 0

        def read(tile: Tile) -> bytes:
            nonlocal at
            start, at = at, at + tile.width * HASH_SIZE
            return bytes(edge[start:at])

        tree = Tree.load(checkpoint.size, read)
        if tree.root != checkpoint.root:
            raise _damaged("its tiles do not make the root that was signed")
        return self._made(note, version, tree, bytes(edge[at:]))

    def _made(self, note: str, version: str, tree: Tree, bundle: bytes) -> Head:
        checkpoint = Checkpoint(self.key.name, tree.size, tree.root)

        def read(tile: Tile) -> bytes:
            return self._full(f"audit/tile/{tile.path}", checkpoint.root)

        return Head(note, version, checkpoint, tree, TileReader(tree, read), bundle)

    def _full(self, name: str, root: bytes) -> bytes:
        """Return a full tile or bundle, from where the append left it if it has no place yet."""
        for _ in range(2):
            with suppress(ObjectMissing):
                return self.objects.get(name)
            # Missing there, too: then it was given its place between the two looks.
            found = self._pending(root).get(name)
            if found is not None:
                return found
        raise _damaged(f"{name} is missing")

    def _pending(self, root: bytes) -> dict[str, bytes]:
        try:
            return _unpack(self.objects.get(_full_parts(root)))
        except ObjectMissing:
            return {}

    def names(self, head: Head) -> set[str]:
        """Return the names of the objects that make up a state of the log, but for its texts."""
        found = {CHECKPOINT, *([_edge(head.checkpoint.root)] if head.size else [])}
        for level, _ in enumerate(head.tree.edge):
            full = range(last_tile(level, head.size).index)
            found |= {f"audit/tile/{Tile(level, index, WIDTH).path}" for index in full}
        return found | {_bundle_name(number) for number in range(head.size // WIDTH)}

    def leaves(self, head: Head, number: int) -> list[bytes]:
        """Return the leaves of one bundle as of `head`, each compared with the tree.

        Parameters
        ----------
        head : Head
            A state of the log, not necessarily the newest.
        number : int
            Which bundle.

        Returns
        -------
        list of bytes
            Up to 256 leaves.

        Raises
        ------
        IntegrityError
            The bundle is missing or its entries are not those of the tree.
        """
        sealed = (
            head.bundle
            if number == head.size // WIDTH
            else self._full(_bundle_name(number), head.checkpoint.root)
        )
        leaves = open_bundle(self.keys, sealed)
        hashes = head.reader.hashes(0, number)
        if [leaf_hash(leaf) for leaf in leaves] != hashes:
            raise _damaged(f"bundle {number} is not the one the tree commits to")
        return leaves

    def text(self, ref: TextRef) -> str | None:
        """Return a free text, or None when it was erased."""
        try:
            return open_text(self.keys, ref, self.objects.get(text_name(ref)))
        except ObjectMissing:
            return None

    def commit(
        self, head: Head, tree: Tree, tiles: Mapping[Tile, bytes], leaves: Sequence[bytes], note: str
    ) -> Head:
        """Store what follows `head`, then its checkpoint; nothing counts before that, and all after.

        Parameters
        ----------
        head : Head
            The state that the writer read under the lock.
        tree : Tree
            What it becomes.
        tiles : mapping of Tile to bytes
            As `Tree.extend` returned them.
        leaves : sequence of bytes
            From the first of the first changed bundle on.
        note : str
            The signed checkpoint of `tree`.

        Returns
        -------
        Head
            The new state.

        Raises
        ------
        ObjectChanged
            Another writer committed since `head` was read; nothing was changed.
        """
        self.settle(head)
        parts = self._filled(tiles, leaves, tree.size - len(leaves))
        if parts:
            self.objects.put(_full_parts(tree.root), [_pack(parts)])
        partial = leaves[len(leaves) - tree.size % WIDTH :]
        bundle = seal_bundle(self.keys, partial) if partial else b""
        self.objects.put(_edge(tree.root), [b"".join(hashes) for hashes in tree.edge] + [bundle])
        version = self.objects.swap(CHECKPOINT, note.encode(), head.version)
        # The append counts; what fails from here on, the next one makes good.
        with suppress(StorageError):
            self._place(tree.root, parts)
            self.objects.delete(_edge(head.checkpoint.root))
        return self._made(note, version, tree, bundle)

    def settle(self, head: Head) -> None:
        """Give full tiles and bundles their places, should the last append not have come to it."""
        if head.root != self._settled:
            self._place(head.checkpoint.root, self._pending(head.checkpoint.root))

    def _place(self, root: bytes, parts: Mapping[str, bytes]) -> None:
        for name, data in parts.items():
            try:
                self.objects.put(name, [data])
            except ObjectExists:
                # Where files have no second name, a writer killed between name and content leaves it empty.
                if self.objects.get(name) != data:
                    self.objects.replace(name, data)
        if parts:
            self.objects.delete(_full_parts(root))
        self._settled = root.hex()

    def _filled(self, tiles: Mapping[Tile, bytes], leaves: Sequence[bytes], start: int) -> dict[str, bytes]:
        """Return by name the tiles and bundles that became full; `start` is the first leaf's index."""
        parts = {}
        for tile, data in tiles.items():
            if tile.width == WIDTH:
                parts[f"audit/tile/{tile.path}"] = data
                if tile.level == 0:
                    first = tile.index * WIDTH - start
                    sealed = seal_bundle(self.keys, leaves[first : first + WIDTH])
                    parts[_bundle_name(tile.index)] = sealed
        return parts

    def sweep(self, before: float) -> int:
        """Remove what appends left that never came to their checkpoint; return how many objects.

        Only what is older, by the store's own clock, than the edge of the present state: whoever wrote
        that read a former checkpoint, and can't commit any more.

        Parameters
        ----------
        before : float
            Seconds since the epoch; younger ones stay in any case.
        """
        edge = _edge(self.head().checkpoint.root)
        found = [info for folder in (_EDGES, _FULL) for info in self.objects.list(f"{folder}/")]
        limit = min([before] + [info.modified for info in found if info.name == edge])
        if edge not in {info.name for info in found}:
            return 0
        old = [info.name for info in found if info.modified < limit]
        for name in old:
            self.objects.delete(name)
        return len(old)


def text_name(ref: TextRef) -> str:
    """Name of the object that holds a text."""
    return f"audit/text/{ref.text_id[:2]}/{ref.text_id}"


def _bundle_name(number: int) -> str:
    return f"audit/entries/{index_path(number, WIDTH)}"


def _edge(root: bytes) -> str:
    return f"{_EDGES}/{root.hex()}"


def _full_parts(root: bytes) -> str:
    return f"{_FULL}/{root.hex()}"


def _pack(parts: Mapping[str, bytes]) -> bytes:
    """Join named parts to one object, so that they exist together or not at all."""
    pieces = [(name.encode(), data) for name, data in parts.items()]
    return b"".join(_LENGTHS.pack(len(name), len(data)) + name + data for name, data in pieces)


def _unpack(joined: bytes) -> dict[str, bytes]:
    parts, at = dict[str, bytes](), 0
    while at < len(joined):
        try:
            name_length, length = _LENGTHS.unpack_from(joined, at)
            start = at + _LENGTHS.size + name_length
            name, at = joined[start - name_length : start].decode(), start + length
        except (struct.error, UnicodeDecodeError):
            raise _damaged("an append that was cut short is damaged, too") from None
        parts[name] = joined[start:at]
    return parts


def _damaged(what: str) -> IntegrityError:
    return IntegrityError(f"the audit log is damaged: {what}; restore audit/ from a copy")
