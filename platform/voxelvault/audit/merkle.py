"""Merkle tree hashing and proofs as RFC 6962 defines them: pure functions of hashes.

A proof is a list of subtree roots. What asks for one gives a function `node(height, index)` that
returns the root of the perfect subtree over leaves `[index << height, (index + 1) << height)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeAlias

from voxelvault.errors import IntegrityError, UsageError

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Node: TypeAlias = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """Hash one entry (RFC 6962, 2.1: prefix 0x00)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbouring subtrees (RFC 6962, 2.1: prefix 0x01)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of neighbouring hashes."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


def fold_peaks(peaks: Sequence[bytes]) -> bytes:
    """Return the root of a tree from its maximal perfect subtrees, the widest first."""
    if not peaks:
        return EMPTY_ROOT
    return reduce(lambda right, left: node_hash(left, right), reversed(peaks))


def peak_heights(size: int) -> list[int]:
    """Heights of the maximal perfect subtrees of a tree of `size` leaves, the widest first."""
    return [height for height in reversed(range(size.bit_length())) if size >> height & 1]


def range_root(start: int, stop: int, node: Node) -> bytes:
    """Root over leaves `[start, stop)`, where `start` is as aligned as RFC 6962's splits make it."""
    peaks = []
    for height in peak_heights(stop - start):
        peaks.append(node(height, start >> height))
        start += 1 << height
    return fold_peaks(peaks)


def _split(width: int) -> int:
    """Largest power of two smaller than `width` (RFC 6962, 2.1)."""
    return 1 << (width - 1).bit_length() - 1


def inclusion_path(index: int, size: int, node: Node) -> list[bytes]:
    """Prove that a tree of `size` leaves holds its leaf `index`.

    Parameters
    ----------
    index, size : int
        Leaf counted from 0; number of leaves.
    node : callable
        `node(height, index)`, the root of a perfect subtree.

    Returns
    -------
    list of bytes
        The audit path, the leaf's sibling first.

    Raises
    ------
    UsageError
        There is no such leaf.

    References
    ----------
    RFC 6962, 2.1.1.
    """
    if not 0 <= index < size:
        raise UsageError(f"the log has {size} entries, counted from 0; there is no entry {index}")
    path, start, stop = [], 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(range_root(middle, stop, node))
            stop = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    return path[::-1]


def consistency_path(old: int, new: int, node: Node) -> list[bytes]:
    """Prove that a tree of `new` leaves begins with the tree of its first `old` leaves.

    Parameters
    ----------
    old, new : int
        Numbers of leaves; from or to the same or the empty tree the proof is empty.
    node : callable
        `node(height, index)`, the root of a perfect subtree of the larger tree.

    Returns
    -------
    list of bytes
        The consistency proof in RFC 6962's order.

    Raises
    ------
    UsageError
        `old` is larger than `new`.

    References
    ----------
    RFC 6962, 2.1.2.
    """
    if not 0 <= old <= new:
        raise UsageError(f"the log has {new} entries; it can't be compared with one of {old}")
    if old in (0, new):
        return []
    path, start, stop = [], 0, new
    while old < stop:
        middle = start + _split(stop - start)
        if old <= middle:
            path.append(range_root(middle, stop, node))
            stop = middle
        else:
            path.append(range_root(start, middle, node))
            start = middle
    # What remains is the old tree's last perfect subtree; when that is the whole old tree, its
    # root is known to the verifier and left out (RFC 6962: SUBPROOF's flag b).
    if start > 0:
        path.append(range_root(start, stop, node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check an audit path.

    Parameters
    ----------
    leaf : bytes
        The leaf's hash.
    index, size : int
        Its index, and the size of the tree.
    path : sequence of bytes
        From `inclusion_path`.
    root : bytes
        Root hash of the tree.

    Raises
    ------
    IntegrityError
        The proof does not hold.

    References
    ----------
    RFC 9162, 2.1.3.2.
    """
    node, last, result = index, size - 1, leaf
    sound = 0 <= index < size and _are_hashes([leaf, root, *path])
    for sibling in path:
        sound = sound and last > 0
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    if not sound or last != 0 or result != root:
        raise IntegrityError("the inclusion proof does not hold; do not rely on this entry")


def verify_consistency(old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check a consistency proof.

    Parameters
    ----------
    old, new : int
        Sizes of the two trees.
    path : sequence of bytes
        From `consistency_path`.
    old_root, new_root : bytes
        Root hashes of the two trees.

    Raises
    ------
    IntegrityError
        The proof does not hold: the larger tree does not begin with the smaller.

    References
    ----------
    RFC 9162, 2.1.4.2.
    """
    if not _consistent(old, new, list(path), old_root, new_root):
        raise IntegrityError(f"the log of {new} entries does not begin with the log of {old} entries")


def _are_hashes(values: Sequence[bytes]) -> bool:
    return all(len(value) == HASH_SIZE for value in values)


def _consistent(old: int, new: int, path: list[bytes], old_root: bytes, new_root: bytes) -> bool:
    if not 0 <= old <= new or not _are_hashes([old_root, new_root, *path]):
        return False
    if old == new:
        return not path and old_root == new_root
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    left = right = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            left, right = node_hash(sibling, left), node_hash(sibling, right)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            right = node_hash(right, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and left == old_root and right == new_root
