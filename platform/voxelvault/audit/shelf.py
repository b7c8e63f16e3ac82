"""Where the log's parts lie in the object store, and reading them with everything proved.

::

    audit/checkpoint            signed tree head; replacing it is what commits an append
    audit/tile/<L>/<N>[.p/<W>]  clear hashes, C2SP tlog-tiles
    audit/entries/<N>[.p/<W>]   sealed entry bundles, 256 entries each
    audit/text/<xx>/<id>        sealed free texts

A name never changes its meaning once a checkpoint covers it: what a killed writer left beyond the
checkpoint is the only thing that is ever overwritten. Partial tiles stay until their full tile is
there; a partial bundle goes once a wider one holds its entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from voxelvault.audit.checkpoint import Checkpoint, NoteKey, open_checkpoint
from voxelvault.audit.envelope import LogKeys, open_bundle, open_text, seal_bundle
from voxelvault.audit.leaf import TextRef
from voxelvault.audit.merkle import consistency_path, leaf_hash, range_root, verify_consistency
from voxelvault.audit.tiles import WIDTH, Tile, TileReader, Tree, index_path, last_tile
from voxelvault.errors import IntegrityError, ObjectMissing, RollbackDetected, StorageError
from voxelvault.model import ObjectStore

CHECKPOINT = "audit/checkpoint"
_TRIES = 8


@dataclass(frozen=True)
class Head:
    """A verified state of the log.

    Parameters
    ----------
    note : str
        The signed checkpoint as it is stored.
    checkpoint : Checkpoint
        What it says.
    tree : Tree
        Right edge with that root. Not to be changed.
    reader : TileReader
        Proved tiles of this state.
    """

    note: str
    checkpoint: Checkpoint
    tree: Tree
    reader: TileReader

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.checkpoint.size

    def bundle(self, number: int) -> Tile:
        """Coordinates of an entry bundle, which are those of its level 0 tile."""
        last = last_tile(0, self.size)
        return last if number == last.index else Tile(0, number, WIDTH)

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
            note = self._note()
            if known and note == known.note:
                return known
            try:
                head = self._load(note)
            except ObjectMissing:
                # A writer may have completed a tile and swept its partial ones since the note was read.
                if tries + 1 == _TRIES or self._note() == note:
                    raise _damaged("a tile is missing") from None
                continue
            if known:
                head.extends(known.checkpoint)
            return head
        raise _damaged("a tile is missing")

    def _note(self) -> str:
        try:
            return self.objects.get(CHECKPOINT).decode()
        except (ObjectMissing, UnicodeDecodeError):
            raise _damaged("its checkpoint is missing or damaged") from None

    def _load(self, note: str) -> Head:
        checkpoint = open_checkpoint(note, self.key)
        tree = Tree.load(checkpoint.size, self.read_tile)
        if tree.root != checkpoint.root:
            raise _damaged("its tiles do not make the root that was signed")
        return self.made(note, tree)

    def made(self, note: str, tree: Tree) -> Head:
        """Return the state that a writer just made of `tree` and signed as `note`."""
        checkpoint = Checkpoint(self.key.name, tree.size, tree.root)
        return Head(note, checkpoint, tree, TileReader(tree, self._read_full))

    def read_tile(self, tile: Tile) -> bytes:
        """Return a tile's bytes, not proved; `ObjectMissing` when it is not there."""
        return self.objects.get(_tile_name(tile))

    def _read_full(self, tile: Tile) -> bytes:
        try:
            return self.read_tile(tile)
        except ObjectMissing:
            raise _damaged(f"tile {tile.path} is missing") from None

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
        leaves = open_bundle(self.keys, self._bundle(head, head.bundle(number)))
        hashes = head.reader.hashes(0, number)
        if [leaf_hash(leaf) for leaf in leaves[: len(hashes)]] != hashes:
            raise _damaged(f"bundle {number} is not the one the tree commits to")
        return leaves[: len(hashes)]

    def _bundle(self, head: Head, tile: Tile) -> bytes:
        for _ in range(_TRIES):
            try:
                return self.objects.get(_bundle_name(tile))
            except ObjectMissing:
                # A wider bundle may have taken its place since `head` was read.
                head = self.head(head)
                if head.bundle(tile.index) == tile:
                    break
                tile = head.bundle(tile.index)
        raise _damaged(f"bundle {tile.index} is missing")

    def text(self, ref: TextRef) -> str | None:
        """Return a free text, or None when it was erased."""
        try:
            return open_text(self.keys, ref, self.objects.get(text_name(ref)))
        except ObjectMissing:
            return None

    def write(self, tiles: dict[Tile, bytes], leaves: Sequence[bytes], start: int) -> None:
        """Store new bundles, then new tiles.

        Parameters
        ----------
        tiles : dict of Tile to bytes
            As `Tree.extend` returns them.
        leaves : sequence of bytes
            From the first of the first changed bundle on.
        start : int
            Index of the first of them: a multiple of 256.
        """
        for tile in tiles:
            if tile.level == 0:
                first = tile.index * WIDTH - start
                bundle = seal_bundle(self.keys, leaves[first : first + tile.width])
                self.objects.replace(_bundle_name(tile), bundle)
        for tile, data in tiles.items():
            self.objects.replace(_tile_name(tile), data)

    def sweep(self, tiles: dict[Tile, bytes], before: int) -> None:
        """Remove what new tiles made superfluous; failing to is harmless.

        Parameters
        ----------
        tiles : dict of Tile to bytes
            The new tiles, now covered by a checkpoint.
        before : int
            Size of the log before them.
        """
        with suppress(StorageError):
            replaced = last_tile(0, before)
            if replaced.width:
                self.objects.delete(_bundle_name(replaced))
            for tile in tiles:
                if tile.width == WIDTH:
                    self._sweep_partial(_tile_name(tile))
                    if tile.level == 0:
                        self._sweep_partial(_bundle_name(tile))

    def _sweep_partial(self, name: str) -> None:
        for info in list(self.objects.list(f"{name}.p/")):
            self.objects.delete(info.name)


def text_name(ref: TextRef) -> str:
    """Name of the object that holds a text."""
    return f"audit/text/{ref.text_id[:2]}/{ref.text_id}"


def _tile_name(tile: Tile) -> str:
    return f"audit/tile/{tile.path}"


def _bundle_name(tile: Tile) -> str:
    return f"audit/entries/{index_path(tile.index, tile.width)}"


def _damaged(what: str) -> IntegrityError:
    return IntegrityError(f"the audit log is damaged: {what}; restore audit/ from a copy")
