"""The tree as tiles: names, the growing right edge, and reading with every tile proved.

References
----------
C2SP tlog-tiles: https://c2sp.org/tlog-tiles
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from voxelvault.audit.merkle import HASH_SIZE, fold_peaks, node_hash, peak_heights, perfect_root
from voxelvault.errors import IntegrityError

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""Hashes in a full tile, and entries in a full bundle."""

_CACHED_TILES = 1024


@dataclass(frozen=True, order=True, slots=True)
class Tile:
    """Coordinates of one tile: level 0 holds leaf hashes; `width` is the number of hashes in it."""

    level: int
    index: int
    width: int

    @property
    def path(self) -> str:
        """Path below `tile/`, for example `0/x001/x234/067.p/8`."""
        return f"{self.level}/{index_path(self.index, self.width)}"


def index_path(index: int, width: int) -> str:
    """Write a tile's index as groups of three digits, and its width where it is partial."""
    index, last = divmod(index, 1000)
    path = f"{last:03}"
    while index:
        index, group = divmod(index, 1000)
        path = f"x{group:03}/{path}"
    return path if width == WIDTH else f"{path}.p/{width}"


def split_hashes(data: bytes) -> list[bytes]:
    """Cut a tile's bytes into its hashes."""
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def last_tile(level: int, size: int) -> Tile:
    """Coordinates of the partial tile that ends a level of a tree of `size` leaves; its width may be 0."""
    count = size >> HEIGHT * level
    return Tile(level, count // WIDTH, count % WIDTH)


class Tree:
    """The right edge of a tree: all that is needed to append to it and to know its root.

    Attributes
    ----------
    size : int
        Number of leaves.
    edge : list of list of bytes
        For each level the hashes of its last, partial tile.
    """

    def __init__(self) -> None:
        self.size = 0
        self.edge: list[list[bytes]] = [[]]
        self._peaks: list[bytes] = []

    @classmethod
    def load(cls, size: int, read: Callable[[Tile], bytes]) -> Tree:
        """Rebuild the edge of a tree from its last tiles.

        Parameters
        ----------
        size : int
            Number of leaves.
        read : callable
            Returns the bytes of a tile.

        Returns
        -------
        Tree
            Not trusted until its `root` is compared with a checkpoint.

        Raises
        ------
        IntegrityError
            A tile is not as long as its width says.
        """
        tree = cls()
        tree.size = size
        levels = max(1, -(-size.bit_length() // HEIGHT))
        tree.edge = [_hashes(last_tile(level, size), read) for level in range(levels)]
        for edge in reversed(tree.edge):
            tree._peaks += _peaks(edge)
        return tree

    @property
    def root(self) -> bytes:
        """Root hash (RFC 6962, 2.1)."""
        return fold_peaks(self._peaks)

    def copy(self) -> Tree:
        """Return an independent tree of the same leaves."""
        other = Tree()
        other.size, other._peaks = self.size, self._peaks.copy()
        other.edge = [edge.copy() for edge in self.edge]
        return other

    def extend(self, leaves: Iterable[bytes]) -> dict[Tile, bytes]:
        """Append leaf hashes.

        Parameters
        ----------
        leaves : iterable of bytes
            Leaf hashes, 32 bytes each.

        Returns
        -------
        dict of Tile to bytes
            Every tile that is new: those that became full, and the partial one that now ends each level.
        """
        before, tiles = self.size, dict[Tile, bytes]()
        for leaf in leaves:
            self._push(leaf, tiles)
        for level, edge in enumerate(self.edge):
            if edge and last_tile(level, self.size) != last_tile(level, before):
                tiles[last_tile(level, self.size)] = b"".join(edge)
        return tiles

    def _push(self, top: bytes, tiles: dict[Tile, bytes]) -> None:
        rest, height = self.size, 0
        self.size += 1
        self.edge[0].append(top)
        while rest & 1:
            top = node_hash(self._peaks.pop(), top)
            rest, height = rest >> 1, height + 1
            if height % HEIGHT == 0:
                self._close_tile(height // HEIGHT - 1, rest, top, tiles)
        self._peaks.append(top)

    def _close_tile(self, level: int, index: int, root: bytes, tiles: dict[Tile, bytes]) -> None:
        tiles[Tile(level, index, WIDTH)] = b"".join(self.edge[level])
        self.edge[level].clear()
        if level + 1 == len(self.edge):
            self.edge.append([])
        self.edge[level + 1].append(root)


def _hashes(tile: Tile, read: Callable[[Tile], bytes]) -> list[bytes]:
    data = read(tile) if tile.width else b""
    if len(data) != tile.width * HASH_SIZE:
        raise IntegrityError(f"audit tile {tile.path} has the wrong length; restore audit/ from a copy")
    return split_hashes(data)


def _peaks(edge: list[bytes]) -> list[bytes]:
    peaks, start = [], 0
    for height in peak_heights(len(edge)):
        peaks.append(perfect_root(edge[start : start + (1 << height)]))
        start += 1 << height
    return peaks


class TileReader:
    """Read tiles below a trusted edge; each is proved by the tile above it before it is used.

    Parameters
    ----------
    tree : Tree
        Its root has been compared with a signed checkpoint. Not changed afterwards.
    read : callable
        Returns the bytes of a tile.
    """

    def __init__(self, tree: Tree, read: Callable[[Tile], bytes]) -> None:
        self._tree = tree
        self._read = read
        self._cache: dict[tuple[int, int], list[bytes]] = {}

    def hashes(self, level: int, index: int) -> list[bytes]:
        """Return the hashes of one tile, proved.

        Parameters
        ----------
        level, index : int
            Coordinates of the tile.

        Returns
        -------
        list of bytes
            256 hashes, fewer for the tile that ends its level.

        Raises
        ------
        IntegrityError
            The tile is not the one that the checkpoint commits to.
        """
        if index == last_tile(level, self._tree.size).index:
            return self._tree.edge[level]
        if (level, index) not in self._cache:
            if len(self._cache) >= _CACHED_TILES:
                self._cache.clear()
            self._cache[level, index] = self._proved(Tile(level, index, WIDTH))
        return self._cache[level, index]

    def _proved(self, tile: Tile) -> list[bytes]:
        hashes = _hashes(tile, self._read)
        above = self.hashes(tile.level + 1, tile.index // WIDTH)
        if perfect_root(hashes) != above[tile.index % WIDTH]:
            raise IntegrityError(f"audit tile {tile.path} was changed; restore audit/ from a copy")
        return hashes

    def node(self, height: int, index: int) -> bytes:
        """Root of the perfect subtree over leaves `[index << height, (index + 1) << height)`.

        Parameters
        ----------
        height, index : int
            Height above the leaves; position at that height.

        Returns
        -------
        bytes
            The hash, proved.

        Raises
        ------
        IntegrityError
            A tile on the way is not the one that the checkpoint commits to.
        """
        level, rest = divmod(height, HEIGHT)
        tile, start = divmod(index << rest, WIDTH)
        return perfect_root(self.hashes(level, tile)[start : start + (1 << rest)])
