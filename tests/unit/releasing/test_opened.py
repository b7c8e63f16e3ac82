"""Files that are read for their values are kept for what comes next, as far as they fit."""

from __future__ import annotations

from io import BytesIO

import pytest

from deid_support import image
from voxelvault.deid.source import read_source
from voxelvault.releasing import study
from voxelvault.releasing.originals import Original
from voxelvault.releasing.study import Opened


def data() -> bytes:
    out = BytesIO()
    image().save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_a_file_that_is_kept_is_not_read_again_until_it_is_taken() -> None:
    reads = []

    def read() -> bytes:
        reads.append(1)
        return data()

    original, opened = Original("a", read), Opened()
    opened.keep(original, read_source(read()))
    assert opened.source(original) is opened.take(original, opened.read(original))
    assert len(reads) == 1
    assert opened.take(original, opened.read(original)).data == data()
    assert len(reads) == 2


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "KEPT_BYTES", 2 * len(data()) + 1)
    opened, source = Opened(), read_source(data())
    originals = [Original(name, lambda: pytest.fail("was not kept")) for name in "ab"]
    last = Original("c", data)
    for original in [*originals, last]:
        opened.keep(original, source)
    for original in originals:
        assert opened.source(original) is source
    assert opened.source(last) is not source
