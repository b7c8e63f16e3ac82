"""RFC 6962 by its own example, by published vectors, and against pymerkle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from voxelvault.audit.merkle import (
    EMPTY_ROOT,
    Node,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    perfect_root,
    range_root,
    verify_consistency,
    verify_inclusion,
)
from voxelvault.errors import IntegrityError, UsageError

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rfc6962.json").read_text())
LEAVES = [bytes.fromhex(leaf) for leaf in GOLDEN["leaves"]]


def node_of(entries: list[bytes]) -> Node:
    hashes = [leaf_hash(entry) for entry in entries]
    return lambda height, index: perfect_root(hashes[index << height : (index + 1) << height])


def root_of(entries: list[bytes]) -> bytes:
    return range_root(0, len(entries), node_of(entries))


def as_hex(path: list[bytes]) -> list[str]:
    return [value.hex() for value in path]


def test_hashes_are_the_published_ones() -> None:
    leaf, leaf_digest = GOLDEN["hashes"]["leaf"]
    left, right, node_digest = GOLDEN["hashes"]["node"]
    assert leaf_hash(leaf.encode()).hex() == leaf_digest
    assert node_hash(left.encode(), right.encode()).hex() == node_digest


def test_roots_are_the_published_ones() -> None:
    assert [root_of(LEAVES[:size]).hex() for size in range(len(LEAVES) + 1)] == GOLDEN["roots"]


def test_inclusion_paths_are_the_published_ones() -> None:
    for index, size, path in GOLDEN["inclusion"]:
        assert as_hex(inclusion_path(index, size, node_of(LEAVES))) == path


def test_consistency_paths_are_the_published_ones() -> None:
    for old, new, path in GOLDEN["consistency"]:
        assert as_hex(consistency_path(old, new, node_of(LEAVES))) == path


def test_the_example_of_rfc_6962_section_2_1_3() -> None:
    entries = [b"d%d" % i for i in range(7)]
    a, b, c, d, e, f, j = (leaf_hash(entry) for entry in entries)
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, node = node_hash(g, h), node_of(entries)
    letter_l = node_hash(i, j)
    assert inclusion_path(0, 7, node) == [b, h, letter_l]
    assert inclusion_path(3, 7, node) == [c, g, letter_l]
    assert inclusion_path(4, 7, node) == [f, j, k]
    assert inclusion_path(6, 7, node) == [i, k]
    assert consistency_path(3, 7, node) == [c, d, g, letter_l]
    assert consistency_path(4, 7, node) == [letter_l]
    assert consistency_path(6, 7, node) == [i, j, k]


def test_every_proof_of_small_trees_holds_and_matches_pymerkle() -> None:
    entries = [bytes([i]) for i in range(33)]
    node = node_of(entries)
    oracle = InmemoryTree(algorithm="sha256")
    roots = [EMPTY_ROOT]
    for entry in entries:
        oracle.append_entry(entry)
        roots.append(oracle.get_root())
    for new in range(1, len(entries) + 1):
        assert root_of(entries[:new]) == roots[new]
        for old in range(new):
            path = inclusion_path(old, new, node)
            # pymerkle's path begins with the leaf itself.
            assert path == oracle.prove_inclusion(old + 1, new).path[1:]
            verify_inclusion(leaf_hash(entries[old]), old, new, path, roots[new])
            path = consistency_path(old, new, node)
            verify_consistency(old, new, path, roots[old], roots[new])


@given(size=st.integers(1, 70), data=st.data())
def test_a_changed_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    entries = [bytes([i]) for i in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path, root = inclusion_path(index, size, node_of(entries)), root_of(entries)
    leaf = leaf_hash(entries[index])
    verify_inclusion(leaf, index, size, path, root)
    other = data.draw(st.integers(-1, size).filter(lambda i: i != index))
    for arguments in [
        (leaf_hash(b"other"), index, size, path, root),
        (leaf, other, size, path, root),
        (leaf, index, size, [*path, root], root),
        (leaf, index, size, path, EMPTY_ROOT),
        *([(leaf, index, size, path[:-1], root), (leaf, index, size, path[1:], root)] if path else []),
    ]:
        with pytest.raises(IntegrityError):
            verify_inclusion(*arguments)


@given(new=st.integers(2, 70), data=st.data())
def test_a_changed_consistency_proof_is_refused(new: int, data: st.DataObject) -> None:
    entries = [bytes([i]) for i in range(new)]
    old = data.draw(st.integers(1, new - 1))
    path = consistency_path(old, new, node_of(entries))
    roots = root_of(entries[:old]), root_of(entries)
    verify_consistency(old, new, path, *roots)
    changed = entries.copy()
    changed[data.draw(st.integers(0, old - 1))] = b"changed"
    for arguments in [
        (old, new, path, root_of(changed[:old]), roots[1]),
        (old, new, path, roots[0], root_of(changed)),
        (old, new, path[:-1], *roots),
        (old, new, [*path, roots[0]], *roots),
        (new, old, path, *roots),
    ]:
        with pytest.raises(IntegrityError):
            verify_consistency(*arguments)


def test_hashes_of_another_length_are_refused() -> None:
    with pytest.raises(IntegrityError):
        verify_inclusion(b"", 0, 1, [], b"")


def test_proofs_of_what_is_not_there() -> None:
    node = node_of(LEAVES)
    with pytest.raises(UsageError, match="8 entries"):
        inclusion_path(8, 8, node)
    with pytest.raises(UsageError, match="compared"):
        consistency_path(9, 8, node)
