"""Tiles: names by tlog-tiles, growth, reloading, and reading what was changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelvault.audit.merkle import EMPTY_ROOT, inclusion_path, leaf_hash, range_root, verify_inclusion
from voxelvault.audit.tiles import HEIGHT, WIDTH, Tile, TileReader, Tree, last_tile
from voxelvault.errors import IntegrityError

LEAVES = [leaf_hash(b"%d" % i) for i in range(70_000)]


def grown(size: int) -> tuple[Tree, dict[Tile, bytes]]:
    tree = Tree()
    return tree, tree.extend(LEAVES[:size])


@pytest.fixture(scope="module")
def large() -> tuple[Tree, dict[Tile, bytes]]:
    return grown(70_000)


def test_paths_are_those_of_the_specification() -> None:
    assert Tile(0, 1234067, WIDTH).path == "0/x001/x234/067"
    assert Tile(2, 0, 1).path == "2/000.p/1"
    assert Tile(0, 1234067, 8).path == "0/x001/x234/067.p/8"
    assert Tile(1, 999, WIDTH).path == "1/999"
    assert Tile(1, 1000, WIDTH).path == "1/x001/000"


def test_tiles_of_70_000_leaves_are_those_of_the_specification(large: tuple[Tree, dict[Tile, bytes]]) -> None:
    _, tiles = large
    of_level = {level: [tile for tile in tiles if tile.level == level] for level in range(4)}
    assert sorted(of_level[0]) == [*(Tile(0, i, WIDTH) for i in range(273)), Tile(0, 273, 112)]
    assert sorted(of_level[1]) == [Tile(1, 0, WIDTH), Tile(1, 1, 17)]
    assert of_level[2] == [Tile(2, 0, 1)]
    assert not of_level[3]


def test_256_leaves_make_a_full_tile_and_one_of_width_1() -> None:
    tree, tiles = grown(256)
    assert set(tiles) == {Tile(0, 0, WIDTH), Tile(1, 0, 1)}
    assert tiles[Tile(1, 0, 1)] == tree.root


@given(st.lists(st.integers(0, 300), max_size=6))
def test_batches_of_any_size_grow_the_same_tree(batches: list[int]) -> None:
    tree, tiles = Tree(), dict[Tile, bytes]()
    for batch in batches:
        new = tree.extend(LEAVES[tree.size : tree.size + batch])
        assert not new.keys() & tiles.keys()  # no tile that a checkpoint commits to is written twice
        tiles |= new
    whole, expected = grown(sum(batches))
    assert tree.root == whole.root
    assert expected.items() <= tiles.items()
    again = Tree.load(tree.size, tiles.__getitem__)
    assert (again.root, again.edge) == (tree.root, tree.edge)
    again.extend(LEAVES[:1])
    tree.extend(LEAVES[:1])
    assert again.root == tree.root


def test_an_empty_tree() -> None:
    assert Tree().root == Tree.load(0, {}.__getitem__).root == EMPTY_ROOT


def test_a_copy_is_independent() -> None:
    tree, _ = grown(300)
    root = tree.root
    tree.copy().extend(LEAVES[:300])
    assert tree.root == root
    assert tree.size == 300


def test_a_reader_proves_and_serves_any_leaf(large: tuple[Tree, dict[Tile, bytes]]) -> None:
    tree, tiles = large
    reader = TileReader(tree, tiles.__getitem__)
    assert range_root(0, tree.size, reader.node) == tree.root
    for index in (0, 255, 256, 65_535, 65_536, 69_999):
        path = inclusion_path(index, tree.size, reader.node)
        verify_inclusion(LEAVES[index], index, tree.size, path, tree.root)


@pytest.mark.parametrize("tile", [Tile(0, 0, WIDTH), Tile(0, 100, WIDTH), Tile(1, 0, WIDTH)])
def test_a_changed_tile_is_noticed(large: tuple[Tree, dict[Tile, bytes]], tile: Tile) -> None:
    tree, tiles = large
    other = tiles[tile][:-1] + bytes([tiles[tile][-1] ^ 1])
    for bad in (other, other[:-1], b""):
        reader = TileReader(tree, {**tiles, tile: bad}.__getitem__)
        with pytest.raises(IntegrityError, match="tile"):
            reader.hashes(0, tile.index << HEIGHT * tile.level)


def test_a_cut_edge_is_noticed() -> None:
    _, tiles = grown(300)
    with pytest.raises(IntegrityError, match="length"):
        Tree.load(300, lambda tile: tiles[tile][:-32])


def test_last_tile_of_a_full_level() -> None:
    assert last_tile(0, 512) == Tile(0, 2, 0)
    assert last_tile(1, 512) == Tile(1, 0, 2)
