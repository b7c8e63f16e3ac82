"""From nothing to a bundle: data, training, calibration, export. What `voxelvault triage train` does."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from voxelvault.display.progress import Progress
from voxelvault_triage.hemorrhage.scoring import TOP
from voxelvault_triage.notice import DEMONSTRATION
from voxelvault_triage.phantom.bleeds import KINDS
from voxelvault_triage.training import evaluate
from voxelvault_triage.training.dataset import Plan, Sample, atlases, generate, load, plans
from voxelvault_triage.training.export import metadata, runner, to_onnx, to_weights, write_bundle
from voxelvault_triage.training.train import Settings, bundle_of, train


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made.

    Parameters
    ----------
    cache, out : Path
        Where synthetic studies are kept; where checkpoint and bundle go.
    templates : Path, optional
        Folder of the averaged anatomy; the analytic head without.
    studies, validation : int
        How many of each.
    settings : Settings
        Of the training.
    start : Path, optional
        Folder of an earlier run or of a bundle, whose weights it starts with.
    tensorboard : bool
        Also write losses for TensorBoard, into the folder of the checkpoint.
    command : str
        The command line, for the card.
    number : int
        Which studies are drawn: to go on with others than those that the first weights were trained on.
    pixels : int
        As `evidence` takes it.
    """

    cache: Path
    out: Path
    templates: Path | None = None
    studies: int = 240
    validation: int = 80
    settings: Settings = field(default_factory=Settings)
    start: Path | None = None
    tensorboard: bool = False
    command: str = ""
    number: int = 1
    pixels: int = TOP


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What came of it: the bundle's folder, its metadata."""

    bundle: Path
    metadata: dict[str, Any]


def make(order: Order) -> Made:
    """Make data where it isn't there yet, train or go on training, calibrate, and write the bundle."""
    *training, validation, _ = plans(order.studies, order.validation, 0, order.number)
    samples = [one for plan in training for one in studies(plan, order.cache, order.templates)]
    with Progress("training", order.settings.steps, unit="step") as bar, _Board(order) as board:

        def told(step: int, losses: dict[str, float]) -> None:
            bar.advance(step - bar.count)
            for name, value in losses.items():
                board(f"loss/{name}", value, step)

        net, seconds = train(samples, order.settings, order.out, told, order.start)
    graph = to_onnx(net)
    scored = evaluate.score(studies(validation, order.cache, order.templates), runner(graph), order.pixels)
    operating = evaluate.choose(scored, pixels=order.pixels)
    found = evaluate.report(scored, operating)
    said = metadata(
        operating.threshold,
        operating.calibration,
        order.pixels,
        {
            "command": order.command,
            "began_with": _commands_of(order.start),
            "seconds": round(seconds),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "studies": order.studies,
            "templates": order.templates is not None,
            "settings": asdict(order.settings),
            "validation": {
                "studies": order.validation,
                "auc": found["auc"],
                "sensitivity": found["sensitivity"],
                "specificity": found["specificity"],
                "brightness_auc": found["brightness_rule"]["auc"],
                "brightness_threshold_ml": operating.bright,
            },
        },
    )
    bundle = order.out / "bundle"
    write_bundle(bundle, graph, to_weights(net), said, card(said))
    return Made(bundle, said)


def _commands_of(start: Path | None) -> list[str]:
    """Return the commands that made the weights it starts with, the last first; none where there are none."""
    if start is None:
        return []
    said = json.loads((bundle_of(start) / "configs/metadata.json").read_bytes())
    made = said["voxelvault"]["training"]
    return [f"{made['command']} (version {said['version']})", *made.get("began_with", [])]


def studies(plan: Plan, cache: Path, templates: Path | None) -> Iterator[Sample]:
    """Yield the studies of a plan, made where they aren't there yet."""
    heads = atlases(templates)
    with Progress(f"{plan.name} studies", plan.studies, unit="study") as bar:
        for path in generate(plan, cache, templates, heads):
            bar.advance()
            yield load(path)


class _Board:
    """Losses for TensorBoard where they are asked for; else nowhere."""

    def __init__(self, order: Order) -> None:
        self.writer: Any = None
        if order.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(order.out / "tensorboard"))

    def __enter__(self) -> Callable[[str, float, int], None]:
        return self.writer.add_scalar if self.writer else lambda *_: None

    def __exit__(self, *_: object) -> None:
        if self.writer:
            self.writer.close()


def note_figures(bundle: Path, lines: Sequence[str]) -> None:
    """Write what was found on the shifted set into a bundle's card; its digest changes with it."""
    said = json.loads((bundle / "configs/metadata.json").read_bytes())
    figures = ["```text", *lines, "```"]
    (bundle / "docs/README.md").write_text(card(said, figures), encoding="utf-8")


def card(said: dict[str, Any], tested: Iterable[str] = ()) -> str:
    """Return the card, Markdown."""
    own = said["voxelvault"]
    made, seen = own["training"], own["training"]["validation"]
    used = made["settings"]
    first = "".join(f"which began with what this made:\n\n    {one}\n\n" for one in made["began_with"])
    figures = "\n".join(tested) or "Not evaluated yet: `voxelvault triage evaluate`."
    return f"""# {said["name"]} {said["version"]}

**{DEMONSTRATION}**

## What it is
A 2.5D U-Net (one plane of 192 x 160 mm at 1 mm with its two neighbours, a wide window and its mirror image)
that marks blood of five types. It shows the way from a scan to the reading list, end to end, with a network
that really runs.

## What it isn't
It has never seen a patient. All it learned from are synthetic heads: averaged anatomy and an analytic head,
bent at random, with drawn bleeds, mimics and scanner. Figures on synthetic studies say nothing of patients,
and on real scans networks lose several points more than between two synthetic sets. Not for diagnosis, not
for ordering a list that anybody relies on. It doesn't know children, contrast, surgery, or anything but
fresh blood. A site that wants the real thing installs its own bundle.

## Input and output
`image` (plane, 5, 192, 160) float32 from `voxelvault_triage.hemorrhage.preprocess.channels`; `logits`
(plane, 6, 192, 160): any blood, then {", ".join(KINDS)}.
A study's score is the evidence of its most suspicious {own["pixels"]} square millimetres in one plane and the
next, calibrated (Platt) to a probability; flagged at {own["threshold"]:.3f} and above, fixed on the
validation set.

## How it was made
    {made["command"]}

{first}{made["studies"]} studies, a fifth of one tidy department and the others of many,
{used["steps"]} steps of {used["planes"]} planes, seed {used["seed"]},
{made["seconds"] / 60:.0f} minutes of training in all on {made["threads"]} thread(s) of a shared machine.
Validation ({seen["studies"]} synthetic studies of a department that was not trained on):
AUC {seen["auc"]["value"]:.3f},
sensitivity {seen["sensitivity"]["value"]:.3f}, specificity {seen["specificity"]["value"]:.3f};
the brightness rule AUC {seen["brightness_auc"]["value"]:.3f}.

## What it reaches on a shifted set
Other kernels and pixels, and another mix of lesions and mimics than in training or validation; its thickness,
noise, tilt and heads lie mostly within the wide ranges that were trained on. This set was looked at once; 20
studies of an earlier one were studied while this version was made. The real head has trained nothing, but how
bright its cortex is beside bone was measured, and taught what training had to draw: it is no blind test.

{figures}
"""
