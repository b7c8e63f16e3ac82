"""Smaller updates: how small, how true, and hostile ones."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save

from voxelvault_fl.errors import SetAside
from voxelvault_fl.jobs.task import Weights
from voxelvault_fl.privacy.compressing import Codec, ErrorFeedback, Int8, TopK, codec_of

RNG = np.random.default_rng(5)


def update(scale: float = 1.0) -> Weights:
    return {
        "conv": (scale * RNG.normal(size=(16, 8, 3, 3))).astype(np.float32),
        "dense": (scale * RNG.normal(size=(100, 70))).astype(np.float32),
        "bias": np.zeros(7, np.float32),
        "steps": np.array([3], np.int64),
        "none": np.zeros((0, 3), np.float32),
    }


def norm(weights: Weights) -> float:
    return float(np.sqrt(sum(float((one.astype(np.float64) ** 2).sum()) for one in weights.values())))


@pytest.mark.parametrize("codec", [Int8(), TopK()])
def test_bytes_stay_below_the_share_that_is_promised(codec: Codec) -> None:
    whole = {"conv": RNG.normal(size=(64, 32, 3, 3)).astype(np.float32)}
    assert len(save(codec.encode(whole))) < 0.35 * len(save(whole))


def test_int8_is_right_to_half_a_level_and_the_same_each_time() -> None:
    whole = update()
    assert save(Int8().encode(whole)) == save(Int8().encode(whole))
    back = Int8().decode(Int8().encode(whole), whole)
    for name, one in whole.items():
        assert back[name].dtype == one.dtype
        assert back[name].shape == one.shape
        assert np.abs(back[name] - one).max(initial=0) <= np.abs(one).max(initial=0) / 127 / 2 * 1.01


def test_top_k_keeps_the_largest() -> None:
    whole = {"a": np.array([0.1, -5, 0.2, 3, 0, 0, 0, 0, 0, 0], np.float32)}
    codec = TopK(0.2)
    np.testing.assert_allclose(
        codec.decode(codec.encode(whole), whole)["a"], [0, -5, 0, 3, 0, 0, 0, 0, 0, 0], atol=0.05
    )


@pytest.mark.parametrize("codec", [Int8(), TopK(0.05)])
def test_what_is_lost_comes_with_the_next_updates(codec: Codec) -> None:
    side = ErrorFeedback(codec)
    one = {"a": RNG.normal(size=500).astype(np.float32)}
    arrived = np.zeros(500)
    for _ in range(200):
        arrived += side.decode(side.encode(one), one)["a"]
    np.testing.assert_allclose(arrived / 200, one["a"], atol=0.15)


@pytest.mark.parametrize("codec", [Int8(), TopK(), TopK(1.0)])
def test_no_norm_grows_beyond_the_bound(codec: Codec) -> None:
    side = ErrorFeedback(codec, most=2.0)
    for _ in range(20):
        whole = {"a": RNG.normal(size=900).astype(np.float32)}
        assert norm(side.decode(side.encode(whole), whole)) <= 2.0


def broken(codec: Codec, change: object) -> None:
    whole = {"a": np.arange(1, 101, dtype=np.float32), "n": np.array([1])}
    sent = codec.encode(whole)
    change(sent)  # type: ignore[operator]
    with pytest.raises(SetAside, match=r"\[compression\]"):
        codec.decode(sent, whole)


HOSTILE = [
    lambda sent: sent.pop("q:a"),
    lambda sent: sent.update({"x": np.zeros(1)}),
    lambda sent: sent.update({"q:a": sent["q:a"][:-1]}),
    lambda sent: sent.update({"q:a": sent["q:a"].astype(np.int16)}),
    lambda sent: sent.update({"q:a": sent["q:a"][:, None]}),
    lambda sent: sent.update({"s:a": np.array([np.nan], np.float32)}),
    lambda sent: sent.update({"s:a": np.array([np.inf], np.float32)}),
    lambda sent: sent.update({"s:a": np.zeros(2, np.float32)}),
    lambda sent: sent.update({"s:a": np.zeros(1)}),
]
PLACES = [
    lambda sent: sent["i:a"].__setitem__(0, 99),
    lambda sent: sent["i:a"].__setitem__(-1, 100),
    lambda sent: sent["i:a"].__setitem__(-1, 2**32 - 1),
    lambda sent: sent.update({"i:a": sent["i:a"].astype(np.int64)}),
    lambda sent: sent.update({"i:a": np.arange(100, dtype=np.uint32)}),
]


@pytest.mark.parametrize("change", HOSTILE)
def test_a_hostile_int8_update_is_refused(change: object) -> None:
    broken(Int8(), change)


@pytest.mark.parametrize("change", HOSTILE + PLACES)
def test_a_hostile_top_k_update_is_refused(change: object) -> None:
    broken(TopK(), change)


def test_a_job_names_its_codec() -> None:
    assert codec_of("none") is None
    assert isinstance(codec_of("int8"), Int8)
    assert isinstance(codec_of("top-k"), TopK)
    with pytest.raises(SetAside):
        codec_of("zip")
