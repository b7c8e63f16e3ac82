"""One network on three runtimes, here and confined: the same answer; and what a confined one can't do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from bundles_made import SIDE, bundle, files, network
from onnx import TensorProto, helper

from voxelvault.confining import child
from voxelvault.errors import ChildDied, UsageError, VoxelVaultError
from voxelvault_triage.models.bundle import Bundle
from voxelvault_triage.models.confined import Bounds, ConfinedSession
from voxelvault_triage.models.loaded import LoadedModel, load, network_of
from voxelvault_triage.models.sessions import ONNX, Network

IMAGE = {"image": np.random.default_rng(0).random((2, 3, SIDE, SIDE), np.float32)}


@pytest.fixture(scope="module")
def confined() -> LoadedModel:
    return load(bundle())


def test_every_runtime_gives_one_answer(confined: LoadedModel) -> None:
    wanted = confined.run(IMAGE)["pred"]
    assert confined.confined == "seccomp, limits"
    assert wanted.shape == (2, 2, SIDE, SIDE)
    for form, runtime in (("onnx", "onnxruntime"), ("onnx", "openvino"), ("pt", "torch")):
        found = load(bundle(form), runtime=runtime, confined=False).run(IMAGE)["pred"]
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=runtime)


def test_of_two_forms_a_runtime_takes_its_own(confined: LoadedModel) -> None:
    both = bundle().with_file("models/model.pt", files("pt")["models/model.pt"])
    assert network_of(both).form == ONNX
    found = load(both, runtime="torch", confined=False).run(IMAGE)["pred"]
    np.testing.assert_allclose(found, confined.run(IMAGE)["pred"], atol=1e-5)


@pytest.mark.long
def test_confined_weights_give_that_answer_too(confined: LoadedModel) -> None:
    found = load(bundle("pt"), runtime="torch").run(IMAGE)["pred"]
    np.testing.assert_allclose(found, confined.run(IMAGE)["pred"], atol=1e-5)


def test_a_busy_machine_is_not_told_as_a_broken_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "START_SECONDS", 0.0)
    with pytest.raises(VoxelVaultError, match="busy, try again"):
        load(bundle())


def test_an_answer_is_not_overwritten_by_the_next(confined: LoadedModel) -> None:
    for runtime in ("onnxruntime", "openvino"):
        model = load(bundle(), runtime=runtime, confined=False)
        first = model.run(IMAGE)["pred"]
        kept = first.copy()
        model.run({"image": 1 - IMAGE["image"]})
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image[:, :2], "3 channels"),
        (lambda image: image[..., :20], "shape"),
        (lambda image: image * 1000, "units differ"),
        (lambda image: np.where(image > 0.5, np.nan, image).astype(np.float32), "no number"),
        (lambda image: image.astype(np.float64), "float32"),
    ],
)
def test_an_input_that_does_not_fit_is_never_run(
    confined: LoadedModel, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        confined.run({"image": change(IMAGE["image"])})
    with pytest.raises(UsageError, match="takes image"):
        confined.run({"picture": IMAGE["image"]})


def test_what_does_not_fit_together_is_refused() -> None:
    for form, options, words in (
        ("onnx", {"runtime": "torch"}, "weights"),
        ("onnx", {"runtime": "tensorflow"}, "no runtime"),
        ("onnx", {"runtime": "openvino"}, "makes code"),
        ("pt", {"device": "cuda"}, "confined"),
        ("onnx", {"device": "cuda", "confined": False}, "choose torch"),
    ):
        with pytest.raises(UsageError, match=words):
            load(bundle(form), **options)  # type: ignore[arg-type]
    with pytest.raises(VoxelVaultError, match="can't be loaded"):
        load(Bundle({**files(), "models/model.onnx": b"no network"}))
    with pytest.raises(VoxelVaultError, match="can't be loaded"):
        load(Bundle({**files(), "models/model.onnx": b"no network"}), confined=False)


def test_a_pickle_in_the_weights_never_runs() -> None:
    evil = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
    with pytest.raises(VoxelVaultError, match="can't be loaded"):
        load(Bundle({**files("pt"), "models/model.pt": evil}), confined=False)


def test_memory_and_time_are_bounded_and_the_next_run_works() -> None:
    large = {"image": np.zeros((1, 3, 4096, 4096), np.float32)}
    session = ConfinedSession(Network(ONNX, network()[0]), "onnxruntime", bounds=Bounds(memory=300 << 20))
    with pytest.raises(VoxelVaultError, match="memory"):
        session.run(large)
    assert session.run(IMAGE)["pred"].shape == (2, 2, SIDE, SIDE)
    session.close()
    quick = ConfinedSession(Network(ONNX, network()[0]), "onnxruntime", bounds=Bounds(run_seconds=0.2))
    began = time.monotonic()
    with pytest.raises(ChildDied, match="longer"):
        quick.run({"image": np.zeros((4, 3, 4096, 2048), np.float32)})
    assert time.monotonic() - began < 10
    assert quick.run(IMAGE)["pred"].shape == (2, 2, SIDE, SIDE)


def hostile(*nodes: Any, more: Sequence[Any] = ()) -> bytes:
    """Return a network of a stranger's own making, ONNX: `pred` from `image`."""
    shape = ["batch", 3, "row", "column"]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "pred")]
    graph = helper.make_graph(list(nodes), "hostile", ends[:1], ends[1:], list(more))
    return bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()
    )


@pytest.mark.parametrize("last", ["Sqrt", "Log"])
def test_an_answer_of_nan_or_infinity_is_not_used_and_told_in_a_line(last: str) -> None:
    data = hostile(helper.make_node("Neg", ["image"], ["less"]), helper.make_node(last, ["less"], ["pred"]))
    model = load(Bundle({**files(), "models/model.onnx": data}), confined=False)
    image = np.zeros_like(IMAGE["image"]) if last == "Log" else IMAGE["image"]
    with pytest.raises(VoxelVaultError) as refused:
        model.run({"image": image})
    assert str(refused.value) == (
        "the network answered NaN or infinity, which isn't used; verify the model, or ask its maker"
    )


def test_a_network_that_reads_a_file_is_refused() -> None:
    stolen = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[1])
    stolen.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "etc/hostname"), ("offset", "0"), ("length", "4")):
        stolen.external_data.add(key=key, value=value)
    data = hostile(helper.make_node("Add", ["image", "stolen"], ["pred"]), more=[stolen])
    with pytest.raises(VoxelVaultError, match="can't be loaded"):
        ConfinedSession(Network(ONNX, data), "onnxruntime")


def test_a_network_that_never_ends_is_ended() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    ever = helper.make_tensor("ever", TensorProto.BOOL, [], [True])
    data = hostile(helper.make_node("Loop", ["", "ever", "image"], ["pred"], body=body), more=[ever])
    session = ConfinedSession(Network(ONNX, data), "onnxruntime", bounds=Bounds(run_seconds=1.0))
    began = time.monotonic()
    with pytest.raises(ChildDied, match="longer"):
        session.run(IMAGE)
    assert time.monotonic() - began < 20
