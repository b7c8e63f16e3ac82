"""The PyTorch loader: the same batches with any number of workers, and no process left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import voxelvault as vv
from voxelvault.errors import ForkedProcess, UsageError, WorkerDied
from voxelvault.training.dataset import Dataset

torch = pytest.importorskip("torch")

from voxelvault.training.loader import Loader, _lost, worker_context  # noqa: E402 - needs torch
from voxelvault.training.workers import WorkerContext  # noqa: E402 - with it

Make = Callable[..., Dataset]
PATCHES = {"kind": "patches", "patch_size": (2, 6, 5), "patches_per_volume": 3}


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    """One fork server for all tests: what it imports first, it has for the rest of the session."""
    worker_context(None, "monai")


@pytest.fixture
def loader(dataset: Make) -> Iterator[Callable[..., Loader]]:
    made: list[Loader] = []

    def make(
        *, batch_size: int | None = 2, num_workers: int = 0, options: Any = None, **wished: Any
    ) -> Loader:
        samples = dataset(**({"arrays": "torch"} | wished))
        made.append(Loader(samples, batch_size, num_workers=num_workers, **(options or {})))
        return made[-1]

    yield make
    for one in made:
        one.close()


def epoch(batches: Loader) -> list[tuple[list[str], bytes]]:
    return [(batch["id"], batch["image"].numpy().tobytes()) for batch in batches]


def test_batches_are_the_same_with_and_without_workers(loader: Callable[..., Loader]) -> None:
    options = {"shuffle": True}
    alone, worked = loader(**PATCHES, options=options), loader(**PATCHES, num_workers=2, options=options)
    assert len(alone) == len(worked) == 6
    assert repr(alone).endswith(">, batches of 2, no workers>")
    assert repr(worked).endswith(">, batches of 2, 2 workers>")
    first, second = epoch(alone), epoch(alone)
    assert first != second
    assert [epoch(worked), epoch(worked)] == [first, second]
    pids = {process.pid for process in worked._iterator._workers}
    worked.set_epoch(0)
    assert epoch(worked) == first
    assert {process.pid for process in worked._iterator._workers} == pids


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_transform_without_return_is_told(loader: Callable[..., Loader], num_workers: int) -> None:
    with pytest.raises(UsageError, match=r"^the transform returned None: end it with `return sample`$"):
        next(iter(loader(transform=lambda sample: sample.pop("id") and None, num_workers=num_workers)))


def test_a_batch_holds_tensors_ids_and_affines(loader: Callable[..., Loader]) -> None:
    labels = {"labels": lambda *_: {"grade": 2.5, "kind": "a", "seen": True, "count": 3}}
    for workers in (0, 1):
        batch = next(iter(loader(**labels, num_workers=workers)))
        assert (batch["image"].shape, batch["image"].dtype) == ((2, 1, 6, 24, 20), torch.float32)
        assert (batch["affine_ras"].shape, batch["affine_ras"].dtype) == ((2, 4, 4), torch.float64)
        assert [type(value) for value in batch["id"]] == [str, str]
        assert batch["label"]["grade"].dtype == torch.float32
        assert batch["label"]["count"].tolist() == [3, 3]
        assert batch["label"]["seen"].dtype == torch.bool
        assert batch["label"]["kind"] == ["a", "a"]


def test_single_samples(loader: Callable[..., Loader]) -> None:
    sample = next(iter(loader(batch_size=None)))
    assert tuple(sample["image"].shape) == (1, 6, 24, 20)


def test_a_lambda_and_its_chance_reach_workers(loader: Callable[..., Loader]) -> None:
    offset = 7.0

    def changed(sample: dict[str, Any]) -> dict[str, Any]:
        noise = float(torch.rand(1)) + np.random.rand() + float(__import__("random").random())
        return {"image": sample["image"] + offset, "noise": noise, "pid": os.getpid()}

    batches = {workers: list(loader(transform=changed, num_workers=workers)) for workers in (0, 2)}
    plain = list(loader())
    for alone, worked, before in zip(batches[0], batches[2], plain, strict=True):
        assert torch.equal(worked["image"], before["image"] + offset)
        assert torch.equal(alone["noise"], worked["noise"])
        assert os.getpid() not in worked["pid"]
    assert len({float(value) for batch in batches[0] for value in batch["noise"]}) == 4


def test_torch_s_own_generator_goes_on_undisturbed(loader: Callable[..., Loader]) -> None:
    torch.manual_seed(3)
    expected = [float(torch.rand(1)) for _ in range(2)]
    torch.manual_seed(3)
    found = [float(torch.rand(1)) for _, _ in zip(range(2), loader(transform=lambda s: s), strict=False)]
    # torch's own iterator takes one number for the seeds of workers.
    assert found == expected or len(set(found)) == 2


def test_monai_transforms_get_metatensors(loader: Callable[..., Loader]) -> None:
    monai = pytest.importorskip("monai.transforms")
    transform = monai.Compose(
        [
            monai.ScaleIntensityRanged("image", -1000, 1000, 0, 1),
            monai.RandFlipd("image", prob=0.5, spatial_axis=1),
            monai.RandSpatialCropd("image", (4, 8, 8), random_size=False),
            monai.RandGaussianNoised("image", prob=1.0),
        ]
    )
    found = {}
    for workers in (0, 2):
        batches = list(loader(transform=transform, arrays=None, num_workers=workers))
        found[workers] = torch.cat([batch["image"].as_tensor() for batch in batches])
        image = batches[0]["image"]
        assert type(image).__name__ == "MetaTensor"
        assert (tuple(image.shape), tuple(image.affine.shape)) == ((2, 1, 4, 8, 8), (2, 4, 4))
        assert image.meta["filename_or_obj"] == batches[0]["id"]
    assert torch.equal(found[0], found[2])


def test_metatensors_carry_the_affine_of_the_sample(dataset: Make) -> None:
    monai = pytest.importorskip("monai.transforms")
    sample = dataset(transform=monai.Compose([monai.Spacingd("image", (2.0, 1.6, 1.2))]))[0]
    plain = dataset()[0]
    assert np.allclose(np.asarray(sample["image"].affine), plain["affine_ras"] @ np.diag([1, 2, 2, 1]))
    several = dataset(kind="slices", transform=monai.Compose([monai.Resized("image", (12, 10))]))
    assert tuple(several[0]["image"].shape) == (1, 12, 10)


def test_transforms_that_cut_several_crops_fill_the_batch(loader: Callable[..., Loader]) -> None:
    monai = pytest.importorskip("monai.transforms")
    crops = monai.RandSpatialCropSamplesd("image", (2, 4, 4), num_samples=3, random_size=False)
    batch = next(iter(loader(transform=monai.Compose([crops]), arrays=None)))
    assert tuple(batch["image"].shape) == (6, 1, 2, 4, 4)


def test_shapes_that_do_not_stack_say_what_to_do(loader: Callable[..., Loader], rows: Any) -> None:
    groups = [(row["series_id"], {"image": row["series_id"]}) for row in rows if row["Modality"] != "SEG"]
    for workers in (0, 1):
        with pytest.raises(UsageError, match=r"^'image' has several shapes.*crops or pads"):
            list(loader(groups=groups, num_workers=workers))


def test_samplers_of_one_s_own(loader: Callable[..., Loader]) -> None:
    class Backwards(torch.utils.data.Sampler):  # type: ignore[misc,name-defined]
        epochs: list[int] = []  # noqa: RUF012

        def __iter__(self) -> Iterator[int]:
            return iter([3, 1])

        def __len__(self) -> int:
            return 2

        def set_epoch(self, number: int) -> None:
            self.epochs.append(number)

    order = [sample["id"] for sample in loader(batch_size=None)]
    own = loader(options={"sampler": Backwards()})
    assert [batch["id"] for batch in own] == [[order[3], order[1]]]
    list(own)
    assert Backwards.epochs == [0, 1]
    by_batch = loader(options={"batch_sampler": [[0, 2], [1]]}, batch_size=1)
    assert [batch["id"] for batch in by_batch] == [[order[0], order[2]], [order[1]]]


def test_spawned_workers(loader: Callable[..., Loader]) -> None:
    spawned = loader(**PATCHES, num_workers=1, options={"multiprocessing_context": "spawn"})
    assert epoch(spawned) == epoch(loader(**PATCHES))


def test_fork_is_refused(loader: Callable[..., Loader], dataset: Make) -> None:
    with pytest.raises(UsageError, match="multiprocessing_context"):
        loader(num_workers=1, options={"multiprocessing_context": "fork"})
    plain = torch.utils.data.DataLoader(dataset(), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(ForkedProcess, match="forkserver"):
        next(iter(plain))


def test_a_loader_of_one_s_own(dataset: Make) -> None:
    samples = dataset()
    plain = torch.utils.data.DataLoader(
        samples, batch_size=2, num_workers=2, multiprocessing_context="forkserver"
    )
    batches = list(plain)
    assert torch.equal(batches[1]["image"][1], torch.from_numpy(samples[3]["image"]))


def test_a_killed_worker_is_an_error_and_the_next_epoch_works(loader: Callable[..., Loader]) -> None:
    batches = loader(num_workers=2, kind="slices", batch_size=1, options={"prefetch_factor": 1})
    moving = iter(batches)
    next(moving)
    os.kill(batches._iterator._workers[1].pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(WorkerDied, match="killed"):
        list(moving)
    assert time.monotonic() - began < 15
    assert len(epoch(batches)) == 24


@pytest.mark.parametrize("context", [WorkerContext(), multiprocessing.get_context("spawn")])
def test_a_connection_that_breaks_first_is_a_killed_worker_too(context: Any) -> None:
    process = context.Process(target=time.sleep, args=(60,))
    process.start()
    batches = SimpleNamespace(_workers=[process])
    assert not _lost(batches, ValueError())
    process.kill()
    assert _lost(batches, ConnectionResetError())


def test_workers_are_started_anew_before_their_loan_ends(
    loader: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = loader(num_workers=1)
    first = epoch(batches)
    pid = batches._iterator._workers[0].pid
    later = time.time() + 5 * 86_400
    monkeypatch.setattr("voxelvault.training.supply.time.time", lambda: later)
    assert epoch(batches) == first
    assert batches._iterator._workers[0].pid != pid


def test_errors_of_workers_are_one_line(loader: Callable[..., Loader]) -> None:
    def fail(_: Any) -> Any:
        raise UsageError("no such thing")

    with pytest.raises(UsageError, match=r"^no such thing$"):
        list(loader(transform=fail, num_workers=1))


def test_nothing_decrypted_reaches_a_disk(
    loader: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vault: vv.Vault
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    written: set[str] = set()
    shared = set(Path("/dev/shm").glob("torch_*"))
    batches = loader(kind="slices", num_workers=2, batch_size=4)
    for _ in batches:
        written |= {entry.name for entry in tmp_path.rglob("*") if entry.is_file() and entry.stat().st_size}
    assert not written
    # Shared memory is unlinked as soon as it is made.
    assert not set(Path("/dev/shm").glob("torch_*")) - shared


SCRIPT = """
import os, signal, sys, time
# A shell's job in the background is started deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
import voxelvault as vv
from voxelvault.training.loader import Loader
from voxelvault.training.making import Request, make_dataset
from voxelvault.training.plan import Wish

vault = vv.open(sys.argv[1])
query = "select series_id from series where Modality = 'CT'"
ids = [row["series_id"] for row in vault.resources.catalog.query(query).to_pylist()]
request = Request([(one, {"image": one}) for one in ids], lambda *_: {})
secret = "of this script"

class Slow:
    def __call__(self, sample):
        time.sleep(0.05)
        return sample | {"note": secret}

dataset = make_dataset(vault.resources, Wish(kind="slices"), request, Slow(), "torch")
loader = Loader(dataset, 2, num_workers=2)
for batch in loader:
    assert batch["note"][0] == secret
    if loader._epochs.epoch == 1 and "pids" not in globals():
        pids = [process.pid for process in loader._iterator._workers]
        print("ready", *pids, flush=True)
    if len(sys.argv) > 2:
        time.sleep(60)
while len(sys.argv) < 3:
    for batch in loader:
        pass
"""


def started(vault: vv.Vault, *more: str) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a script without a main guard that trains until it is told to stop."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(vault.resources.objects.root), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    words = process.stdout.readline().split()
    assert words, process.stderr.read() if process.stderr else ""
    return process, [int(word) for word in words[1:]]


def alive(pids: list[int], seconds: float) -> list[int]:
    """Return those that still run after so long, at most."""
    end = time.monotonic() + seconds
    while True:
        found = [pid for pid in pids if running(pid)]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def group(process: subprocess.Popen[str]) -> list[int]:
    """Return all processes of a session."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "-s", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in found.stdout.split()]


@pytest.mark.parametrize("more", [(), ("asleep",)], ids=["reading", "in the caller's code"])
def test_ctrl_c_ends_all_processes_without_a_storm(vault: vv.Vault, more: tuple[str, ...]) -> None:
    process, pids = started(vault, *more)
    time.sleep(0.3)
    everyone = group(process)
    assert set(pids) <= set(everyone)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode in (-signal.SIGINT, 1, 130)
    assert said.count("Traceback") == 1
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert alive(everyone, 10) == []


def test_a_killed_trainer_leaves_no_process(vault: vv.Vault) -> None:
    process, pids = started(vault)
    everyone = group(process)
    process.kill()
    process.communicate(timeout=30)
    assert alive([*everyone, *pids], 20) == []
