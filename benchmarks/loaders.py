"""What a training loop gets out of a sealed vault, against TorchIO, MONAI, pydicom and nibabel.

Both sides sit in a PyTorch `DataLoader` with the same number of workers and deliver the same float32
tensors in batches. They take turns; each counts from its second epoch on, when workers run and files
are in the page cache.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import mkdtemp
from time import perf_counter
from typing import Any

import nibabel
import numpy as np
import pydicom
import torch

import voxelvault as vv
from benchmarks.measure import Measured, Place, seconds

PATCH = 96
BATCH = 4
ROUNDS = 16
"""Times that every volume is drawn from in an epoch."""
WORKERS = (0, 2, 4)
SMALL = 64
SMALL_MILLISECONDS = 5.0
FIRST_BATCH_SECONDS = 10.0
VOLUME_GOAL = 3.0
SLICE_GOALS = {"HTJ2K frames": 0.6, "`fast` copies": 1.5}


@dataclass(frozen=True, slots=True)
class Material:
    """The same head CT sealed, and as plain files."""

    folder: Path
    cohort: Any
    bricks: Any
    nifti: Sequence[Path]
    dicom: Sequence[Path]
    original: Sequence[Path]


def measure(place: Place) -> list[Measured]:
    """At one core patches, slices and volumes by themselves; at two, patches by number of workers."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with _material(place) as material:
        if place.cores == 1:
            return [_small(place, material), *_slices(place, material), *_volumes(place, material)]
        found = [row for workers in WORKERS for row in _patches(place, material, workers)]
        return [*found, *_volumes(place, material), _first_batch(material)]


@contextmanager
def _material(place: Place) -> Iterator[Material]:
    folder = Path(mkdtemp(dir=place.folder))
    try:
        with vv.create(folder / "vault") as vault:
            vault.ingest(place.heads.folder, progress=False)
            cohort = vault.select("Modality = 'CT'").freeze("heads")
            bricks = cohort.cache(spacing=(1, 1, 1), orientation="RAS", dtype="int16", progress=False)
            nifti = [folder / f"{number}.nii.gz" for number in range(len(cohort))]
            original = [folder / f"{number}-original.nii.gz" for number in range(len(cohort))]
            with cohort.dataset(cache=bricks) as samples:
                for path, sample in zip(nifti, samples, strict=True):
                    _save(path, sample["image"][0], sample["affine_ras"])
            for path, series in zip(original, cohort, strict=True):
                _save(path, series.load().T, series.affine_ras)
            yield Material(folder / "vault", cohort, bricks, nifti, place.heads.files, original)
    finally:
        rmtree(folder)


def _save(path: Path, values: Any, affine: Any) -> None:
    nibabel.save(nibabel.Nifti1Image(np.rint(values).astype(np.int16), affine), path)


def _patches(place: Place, material: Material, workers: int) -> list[Measured]:
    """Random 96³ patches a second."""
    ours = material.cohort.loader(
        BATCH,
        workers,
        kind="patches",
        cache=material.bricks,
        patch_size=(PATCH,) * 3,
        patches_per_volume=ROUNDS,
        shuffle=True,
    )
    try:
        own = _rates(ours, place.repeats)
        found = []
        for name, goal, peer in (
            ("TorchIO queue on .nii.gz", 20.0, partial(_torchio, material, workers)),
            ("MONAI CacheDataset on .nii.gz, all in memory", 0.7, partial(_monai, material, workers)),
        ):
            theirs = _rates(peer(), place.repeats if goal < 1 else 1)
            own = _rates(ours, place.repeats, own)
            found.append(
                Measured(
                    f"{PATCH}³ patches, {workers} workers / {name}",
                    median(own) / median(theirs),
                    goal,
                    f"{median(own):.0f}/s",
                    f"{median(theirs):.3g}/s",
                )
            )
        return found
    finally:
        ours.close()


def _rates(loader: Iterable[Any], repeats: int, earlier: Sequence[float] = ()) -> list[float]:
    """Return samples a second of each epoch after the first."""
    found = list(earlier)
    for epoch in range(repeats + (not earlier)):
        start, count = perf_counter(), 0
        for batch in loader:
            count += len(batch["image"]["data"] if isinstance(batch["image"], dict) else batch["image"])
        if epoch or earlier:
            found.append(count / (perf_counter() - start))
    return found


def _torchio(material: Material, workers: int) -> Iterable[Any]:
    """Return a queue that draws one patch of each volume it reads, as independent as ours are."""
    import torchio

    subjects = [torchio.Subject(image=torchio.ScalarImage(path)) for path in material.nifti] * 2
    queue = torchio.Queue(
        torchio.SubjectsDataset(subjects),
        max_length=len(subjects),
        samples_per_volume=1,
        sampler=torchio.UniformSampler(PATCH),
        num_workers=workers,
        verbose=False,
    )
    batches: Iterable[Any] = torchio.SubjectsLoader(queue, batch_size=BATCH, num_workers=0)
    return batches


def _monai(material: Material, workers: int) -> Iterable[Any]:
    """Return what crops from volumes that were decoded once into memory."""
    from monai.data.dataloader import DataLoader
    from monai.data.dataset import CacheDataset
    from monai.transforms.compose import Compose
    from monai.transforms.croppad.dictionary import RandSpatialCropd
    from monai.transforms.io.dictionary import LoadImaged
    from monai.transforms.utility.dictionary import EnsureChannelFirstd

    crop = RandSpatialCropd("image", (PATCH,) * 3, random_size=False)
    transform = Compose([LoadImaged("image", image_only=True), EnsureChannelFirstd("image"), crop])
    items = [{"image": str(path)} for path in material.nifti] * ROUNDS
    dataset = CacheDataset(items, transform, cache_rate=1.0, progress=False)
    persistent = workers > 0
    return DataLoader(
        dataset, batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=persistent
    )


def _small(place: Place, material: Material) -> Measured:
    """One 64³ patch, warm, at one core."""
    with material.cohort.dataset(
        "patches", cache=material.bricks, patch_size=(SMALL,) * 3, patches_per_volume=100
    ) as samples:
        for index in range(20):
            samples[index]
        times = [seconds(partial(samples.__getitem__, index)) for index in range(20, 20 + 30 * place.repeats)]
    own = 1e3 * median(times)
    return Measured(
        f"one {SMALL}³ patch, float32, warm, milliseconds", own, SMALL_MILLISECONDS, f"{own:.2f} ms", "", True
    )


def _slices(place: Place, material: Material) -> list[Measured]:
    """Shuffled slices a second, float32 HU: the frames as ingested, then copies in `fast`."""
    theirs = torch.utils.data.DataLoader(_Files(material.dicom), batch_size=BATCH, shuffle=True)
    found = []
    for name, goal in SLICE_GOALS.items():
        if name.startswith("`fast`"):
            material.cohort.cache_frames(codec="fast", progress=False)
        ours = material.cohort.loader(BATCH, kind="slices", shuffle=True)
        try:
            own, other = _in_turn(ours, theirs, place.repeats)
        finally:
            ours.close()
        found.append(
            Measured(
                f"shuffled slices, {name} / pydicom, a file a slice",
                own / other,
                goal,
                f"{own:.0f}/s",
                f"{other:.0f}/s",
            )
        )
    return found


class _Files(torch.utils.data.Dataset[Any]):
    """Slices as plain DICOM files, rescaled to HU."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        dataset = pydicom.dcmread(self._paths[index])
        values = dataset.pixel_array * np.float32(dataset.RescaleSlope)
        return {"image": torch.from_numpy((values + np.float32(dataset.RescaleIntercept))[None])}


def _volumes(place: Place, material: Material) -> list[Measured]:
    """Whole volumes a second, read and turned into float32 HU: by `Series.load`, and by a data set."""
    material.cohort.cache_frames(codec="fast", progress=False)
    count = len(material.cohort)
    with material.cohort.dataset("volumes") as samples:
        ways = {
            "HTJ2K frames": lambda: [series.load() for series in material.cohort],
            "`fast` copies": lambda: list(samples),
        }
        return [_volume_rate(place, material, name, work, count) for name, work in ways.items()]


def _volume_rate(
    place: Place, material: Material, name: str, ours: Callable[[], object], count: int
) -> Measured:
    def theirs() -> None:
        for path in material.original:
            image: Any = nibabel.load(path)
            image.get_fdata(dtype=np.float32)

    pairs = [(seconds(ours), seconds(theirs)) for _ in range(place.repeats + 1)][1:]
    own, other = median(a for a, _ in pairs), median(b for _, b in pairs)
    return Measured(
        f"whole volumes, load + HU, {name} / nibabel on .nii.gz",
        other / own,
        VOLUME_GOAL,
        f"{count / own:.2f}/s",
        f"{count / other:.2f}/s",
    )


_FRESH = """
import sys
from time import perf_counter
import torch
start = perf_counter()
import voxelvault as vv
with vv.open(sys.argv[1]) as vault:
    loader = vault.cohort("heads").loader(2, 2, kind="volumes")
    next(iter(loader))
    print(perf_counter() - start)
    loader.close()
"""


def _first_batch(material: Material) -> Measured:
    """From `import voxelvault` in a fresh process to the first batch of two workers; torch was imported."""
    line = [sys.executable, "-c", _FRESH, str(material.folder)]
    own = float(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return Measured("import to first batch, seconds", own, FIRST_BATCH_SECONDS, f"{own:.1f} s", "", True)


def _in_turn(ours: Iterable[Any], theirs: Iterable[Any], repeats: int) -> tuple[float, float]:
    own: list[float] = []
    other: list[float] = []
    for _ in range(repeats):
        own = _rates(ours, 1, own)
        other = _rates(theirs, 1, other)
    return median(own), median(other)
