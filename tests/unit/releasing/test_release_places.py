"""A release's place: what a run leaves that was killed ahead of its very last step."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxelvault.deid.card import RECEIPTS
from voxelvault.errors import UsageError
from voxelvault.releasing.places import begun
from voxelvault.releasing.targets import TIME


def test_a_whole_release_gets_its_own_time_when_its_place_is_named_again(tmp_path: Path) -> None:
    (tmp_path / RECEIPTS).touch()
    assert tmp_path.stat().st_mtime != TIME
    with pytest.raises(UsageError, match="choose another"):
        begun(tmp_path)
    assert tmp_path.stat().st_mtime == TIME
