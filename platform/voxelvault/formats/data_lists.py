"""Labels in a JSON list of training cases: the Medical Segmentation Decathlon's and MONAI's form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from voxelvault.errors import UsageError
from voxelvault.model import UID

PARTS = ("training", "validation", "test", "testing")

_OPAQUE = re.compile(r"(?P<key>[0-9a-f]{32})(?:_stack-\d+)?")
_ENDINGS = (".nii.gz", ".nii", ".ome.zarr", ".zarr", ".dcm", ".nrrd", ".mha")


def data_list(text: str) -> tuple[pa.Table, str]:
    """Read the cases of a ``dataset.json``.

    An image is known by its file name: a `series_id`, as an export out of a vault has it, or a
    SeriesInstanceUID. Paths of masks are no labels: masks come from SEG and RTSTRUCT in the vault.

    Parameters
    ----------
    text : str
        ``{"training": [{"image": …, "label": 1, "fold": 0}, …], "test": […]}``, or a list of cases.

    Returns
    -------
    tuple
        Table with the key, `part` (which list) and every number, word or truth value of the cases;
        and the key's name.

    Raises
    ------
    UsageError
        It is no such list, or a file name is neither of the two.
    """
    cases = list(_cases(_document(text)))
    if not cases:
        raise UsageError("there is no list of cases under training, validation or test")
    kinds = {kind for _, kind, _, _ in cases}
    if len(kinds) > 1:
        raise UsageError("some images are named by series_id and some by UID; use one of the two")
    kind = kinds.pop()
    columns = dict.fromkeys(name for _, _, _, labels in cases for name in labels)
    if not columns and len({part for part, _, _, _ in cases}) == 1:
        raise UsageError("the cases have no label but paths; masks come from SEG or RTSTRUCT in the vault")
    found: dict[str, list[Any]] = {kind: [key for _, _, key, _ in cases]}
    found["part"] = [part for part, _, _, _ in cases]
    for name in columns:
        found[name] = [labels.get(name) for _, _, _, labels in cases]
    try:
        return pa.table(found), kind
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise UsageError("a label is a number in one case and a word in another; make them alike") from None


def _document(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        raise UsageError("this looks like JSON and isn't; check the file") from None
    if isinstance(document, list):
        return {"training": document}
    return document if isinstance(document, dict) else {}


def _cases(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield part, kind of key, key and labels of each case."""
    for part in PARTS:
        entries = document.get(part)
        for entry in entries if isinstance(entries, list) else ():
            case = entry if isinstance(entry, dict) else {"image": entry}
            kind, key = _named(case.get("image"))
            name = "test" if part == "testing" else part
            yield name, kind, key, {field: value for field, value in case.items() if _is_label(field, value)}


def _named(image: Any) -> tuple[str, str]:
    image = image[0] if isinstance(image, list) and image else image
    name = PurePosixPath(image.replace("\\", "/")).name if isinstance(image, str) else ""
    stem = next((name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)), name)
    if found := _OPAQUE.fullmatch(stem):
        return "series_id", found["key"]
    if UID.fullmatch(stem):
        return "SeriesInstanceUID", stem
    raise UsageError(
        "an image's file name is neither a series_id nor a SeriesInstanceUID; make a CSV with a key column"
    )


def _is_label(field: str, value: Any) -> bool:
    if field in ("image", "part") or not isinstance(value, bool | int | float | str):
        return False
    return not (isinstance(value, str) and ("/" in value or value.endswith(_ENDINGS)))
