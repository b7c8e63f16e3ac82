"""What a bundle says of itself: intended input, threshold, calibration; and whether an input fits it.

From configs/metadata.json, MONAI's `network_data_format` for the tensors, and an object `voxelvault`
for what MONAI has no word for::

    "voxelvault": {"threshold": 0.5, "demonstration": true, "calibration": {"kind": "platt", …}}

References
----------
MONAI bundle specification, metadata.json (`network_data_format`, `spatial_shape`, `value_range`).
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voxelvault.errors import UsageError
from voxelvault_triage.models.bundle import CALIBRATION, Bundle
from voxelvault_triage.notice import DEMONSTRATION, FOREIGN
from voxelvault_triage.pipeline import Arrays

_WORD = re.compile(r"[^a-z0-9]+")
_LARGEST = 1024
"""Of a side of a tensor: what `n` in a spatial shape is tried up to."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input of a network.

    Parameters
    ----------
    name : str
        As the network knows it.
    channels : int or None
        Of axis 1; None where the bundle doesn't say.
    shape : tuple of str
        Of the axes behind it: a number, ``*``, or an expression in n and p such as ``16*n``; empty
        where the bundle doesn't say.
    low, high : float or None
        Range of values.
    """

    name: str
    channels: int | None
    shape: tuple[str, ...]
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """What is shown of a bundle, and goes into each result.

    Parameters
    ----------
    name : str
        Small letters, digits and dashes.
    version, title, summary, intended_use : str
        In the maker's words.
    inputs : tuple of Tensor
        What it takes.
    outputs : tuple of str
        What it gives, by name; empty where the bundle doesn't say.
    threshold : float
        At and above which a study is flagged, of the calibrated probability.
    calibration : mapping or None
        As `calibration.from_json` takes it.
    demonstration : bool
        Not for patients.
    pixels : int or None
        How many most suspicious pixels make up the evidence of a plane, where its pipeline asks.
    """

    name: str
    version: str
    title: str
    summary: str
    intended_use: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    threshold: float
    calibration: Mapping[str, Any] | None
    demonstration: bool
    pixels: int | None = None

    def as_mapping(self) -> dict[str, Any]:
        """Return it as `Model.card` has it."""
        return {
            **{name: getattr(self, name) for name in ("name", "version", "title", "summary", "intended_use")},
            "inputs": [{name: getattr(one, name) for name in Tensor.__slots__} for one in self.inputs],
            "outputs": list(self.outputs),
            "threshold": self.threshold,
            "calibration": self.calibration,
            "demonstration": self.demonstration,
            "pixels": self.pixels,
            "notice": DEMONSTRATION if self.demonstration else FOREIGN,
        }


def card_of(bundle: Bundle) -> Card:
    """Return what a bundle says of itself.

    Raises
    ------
    UsageError
        Its metadata lacks a name, or says something that can't be.
    """
    said = bundle.metadata
    own = _object(said.get("voxelvault", {}))
    calibrated = bundle.json(CALIBRATION) if CALIBRATION in bundle.files else {}
    formats = _object(said.get("network_data_format", {}))
    title = _text(said.get("name"))
    name = _WORD.sub("-", title.lower()).strip("-")[:32].strip("-")
    if not name:
        raise UsageError("the bundle's metadata has no name; ask its maker for a whole one")
    return Card(
        name=name,
        version=_text(said.get("version")),
        title=title,
        summary=_text(said.get("description")),
        intended_use=_text(said.get("intended_use")),
        inputs=tuple(_tensor(name, _object(one)) for name, one in _object(formats.get("inputs", {})).items()),
        outputs=tuple(map(str, _object(formats.get("outputs", {})))),
        threshold=_threshold(calibrated.get("threshold", own.get("threshold", 0.5))),
        calibration=calibrated.get("calibration", own.get("calibration")),
        demonstration=bool(own.get("demonstration", False)),
        pixels=_pixels(own.get("pixels")),
    )


def check_inputs(tensors: Sequence[Tensor], inputs: Arrays) -> None:
    """Refuse what a network wasn't made for.

    Parameters
    ----------
    tensors : sequence of Tensor
        What it takes.
    inputs : mapping of str to ndarray
        float32, (batch, channel, …).

    Raises
    ------
    UsageError
        Another number of channels, another shape, values out of range or no numbers.
    """
    missing = [tensor.name for tensor in tensors if tensor.name not in inputs]
    if missing or len(inputs) > len(tensors) > 0:
        raise UsageError(
            f"the model takes {_listed(tensor.name for tensor in tensors)}; this is {_listed(inputs)}"
        )
    for tensor in tensors:
        _check(tensor, inputs[tensor.name])


def _check(tensor: Tensor, values: np.typing.NDArray[np.float32]) -> None:
    what = f"the model's input {tensor.name}"
    if values.dtype != np.float32 or values.ndim < 2:
        raise UsageError(f"{what} is float32 with axes (batch, channel, …); prepare it so")
    if tensor.channels is not None and values.shape[1] != tensor.channels:
        raise UsageError(f"{what} has {tensor.channels} channels, and {values.shape[1]} were given")
    if tensor.shape and not shape_fits(tensor.shape, values.shape[2:]):
        wanted, given = " x ".join(tensor.shape), " x ".join(map(str, values.shape[2:]))
        raise UsageError(f"{what} has the shape {wanted}, and {given} was given")
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UsageError(f"{what} holds something that is no number; mask padding before it")
    if tensor.low is None or tensor.high is None:
        return
    slack = 1e-3 * (tensor.high - tensor.low)
    if low < tensor.low - slack or high > tensor.high + slack:
        raise UsageError(
            f"{what} has values from {tensor.low:g} to {tensor.high:g}, and {low:g} to {high:g} were given;"
            " the bundle's units differ from those of this pipeline"
        )


def shape_fits(pattern: Sequence[str], shape: Sequence[int]) -> bool:
    """Tell whether sides are what a bundle's `spatial_shape` allows; `n` and `p` are one for all sides.

    Raises
    ------
    UsageError
        The pattern is none.
    """
    if len(pattern) != len(shape):
        return False
    if not any(re.search("[np]", side) for side in pattern):
        return _sides(pattern, shape, 1, 1)
    powers = range(12) if any("p" in side for side in pattern) else (0,)
    return any(_sides(pattern, shape, n, p) for p in powers for n in range(1, _LARGEST + 1))


def _sides(pattern: Sequence[str], shape: Sequence[int], n: int, p: int) -> bool:
    return all(
        side == "*" or _value(side, n, p) == length for side, length in zip(pattern, shape, strict=True)
    )


_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Pow: operator.pow}


def _value(text: str, n: int, p: int) -> int:
    try:
        return _evaluated(ast.parse(text[:40], mode="eval").body, {"n": n, "p": p})
    except (SyntaxError, ValueError, KeyError):
        raise UsageError("the bundle's spatial_shape isn't one; ask its maker for another copy") from None


def _evaluated(node: ast.expr, names: Mapping[str, int]) -> int:
    """Work out sums, products and small powers of n and p; anything else is refused."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and 0 <= node.value <= 1 << 16:
        return node.value
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _evaluated(node.left, names), _evaluated(node.right, names)
        if isinstance(node.op, ast.Pow) and not (abs(left) <= 16 and 0 <= right <= 12):
            raise ValueError
        return int(_OPERATORS[type(node.op)](left, right))
    raise ValueError


def _tensor(name: str, said: Mapping[str, Any]) -> Tensor:
    channels, shape, limits = said.get("num_channels"), said.get("spatial_shape"), said.get("value_range")
    low, high = (
        map(float, limits)
        if isinstance(limits, list)
        and len(limits) == 2
        and all(isinstance(one, int | float) for one in limits)
        else (None, None)
    )
    return Tensor(
        str(name)[:64],
        channels if isinstance(channels, int) else None,
        tuple(str(side) for side in shape) if isinstance(shape, list) else (),
        low,
        high,
    )


def _pixels(value: object) -> int | None:
    if value is None or (isinstance(value, int) and 1 <= value <= 10_000):
        return value
    raise UsageError("the bundle's pixels are no number from 1 to 10000; ask its maker for another copy")


def _threshold(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError("the bundle's threshold is no number from 0 to 1; ask its maker for another copy")
    return float(value)


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError("the bundle's metadata isn't formed as MONAI's; ask its maker for another copy")
    return value


def _text(value: object) -> str:
    """Return one harmless line of a stranger's words."""
    text = value if isinstance(value, str) else ""
    return "".join(one if one.isprintable() else " " for one in text)[:2000].strip()


def _listed(names: Any) -> str:
    return ", ".join(names) or "nothing"


__all__ = ["Card", "Tensor", "card_of", "check_inputs", "shape_fits"]
