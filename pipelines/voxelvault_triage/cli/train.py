"""`triage train`: make the demonstration model, or one's own variant of it, from synthetic data."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.errors import MissingExtra
from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit
from voxelvault_triage.amounts import Amount
from voxelvault_triage.notice import DEMONSTRATION

_FOLDER = click.Path(path_type=Path, file_okay=False)


@verb(
    "train",
    "voxelvault triage train --templates ../shared/data/templates --cache studies --out run",
    "voxelvault triage train --cache studies --out small --studies 20 --validation 10 --steps 50",
)
@click.option("--cache", type=_FOLDER, required=True, help="Where synthetic studies are kept; made once.")
@click.option(
    "--out", type=_FOLDER, required=True, help="For checkpoint and bundle; goes on if one is there."
)
@click.option("--templates", type=_FOLDER, help="Averaged anatomy (NIfTI); the analytic head without.")
@click.option("--set", "number", type=click.IntRange(1), default=1, show_default=True, help="Which studies.")
@click.option("--studies", type=click.IntRange(4), default=240, show_default=True, help="To train on.")
@click.option("--validation", type=click.IntRange(4), default=80, show_default=True, help="To calibrate on.")
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True, help="Of the optimiser.")
@click.option("--planes", type=click.IntRange(2), default=12, show_default=True, help="In a step.")
@click.option("--rate", type=Amount(0, min_open=True), default=2e-3, show_default=True, help="Highest.")
@click.option(
    "--pixels", type=click.IntRange(1, 10_000), default=40, show_default=True, help="That make up evidence."
)
@click.option("--start", type=_FOLDER, help="Begin with the weights of a bundle, or of a run: its --out.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same gives the same.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of the processor.")
@click.option("--tensorboard", is_flag=True, help="Write losses for TensorBoard too.")
def command(
    as_json: bool,
    cache: Path,
    out: Path,
    templates: Path | None,
    number: int,
    studies: int,
    validation: int,
    steps: int,
    planes: int,
    rate: float,
    pixels: int,
    start: Path | None,
    seed: int,
    threads: int,
    tensorboard: bool,
) -> None:
    """Train a demonstration model on synthetic head CTs and write it as a MONAI bundle.

    It is trained on synthetic data and is not a medical device. A run that was stopped goes on when the
    same command is given again.
    """
    try:
        import torch

        from voxelvault_triage.training.making import Order, make
        from voxelvault_triage.training.train import Settings
    except ImportError:
        raise MissingExtra("training needs PyTorch and MONAI: pip install 'voxelvault[triage]'") from None
    torch.set_num_threads(threads)
    asked = f"--studies {studies} --validation {validation} --steps {steps} --planes {planes} --seed {seed}"
    asked += f" --rate {rate:g}" + (" --start first" if start else "")
    asked += f" --set {number}" if number > 1 else ""
    asked += f" --pixels {pixels}" if pixels != 40 else ""
    head = " --templates ../shared/data/templates" if templates else ""
    settings = Settings(steps=steps, planes=planes, rate=rate, seed=seed)
    said = f"voxelvault triage train{head} --cache studies --out run {asked}"
    made = make(
        Order(cache, out, templates, studies, validation, settings, start, tensorboard, said, number, pixels)
    )
    own = made.metadata["voxelvault"]
    seen = own["training"]["validation"]
    document = {"bundle": str(made.bundle), "threshold": own["threshold"], "validation": seen}
    lines = [
        DEMONSTRATION,
        f"validation AUC {seen['auc']['value']:.3f} (brightness rule {seen['brightness_auc']['value']:.3f}),"
        f" threshold {own['threshold']:.3f}",
        f"bundle: {made.bundle}",
    ]
    emit(document, lines, as_json)
