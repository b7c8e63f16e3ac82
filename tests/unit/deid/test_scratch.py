"""What is put aside on the disk: found again, and in clear nowhere."""

from __future__ import annotations

from threading import Thread

import pytest
from cryptography.exceptions import InvalidTag

from voxelvault.deid.scratch import SealedTexts, temporary


def test_texts_come_back_from_their_places_and_are_not_in_the_file() -> None:
    texts = SealedTexts()
    told = [f"Doe^John/{number}\udce9.dcm" for number in range(50)]
    places = [texts.put(text) for text in told]
    assert [texts.get(place) for place in reversed(places)] == told[::-1]
    texts._file.seek(0)
    data = texts._file.read()
    assert b"Doe" not in data
    texts._file.seek(places[7] + 9)
    texts._file.write(bytes([data[places[7] + 9] ^ 1]))
    with pytest.raises(InvalidTag):
        texts.get(places[7])


def test_each_temporary_database_is_its_own() -> None:
    first, second = (temporary("create table t (n int)") for _ in range(2))
    first.execute("insert into t values (1)")
    assert second.execute("select count(*) from t").fetchone() == (0,)


def test_a_database_goes_in_whichever_thread_collects_it() -> None:
    held = [temporary("create table t (n int)")]
    thread = Thread(target=held.clear)
    thread.start()
    thread.join()
    assert not held
