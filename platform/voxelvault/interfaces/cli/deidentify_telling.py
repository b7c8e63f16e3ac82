"""What `deidentify` prints of a release: what became of it, and whether it is as signed for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxelvault.interfaces.cli.output import emit, shown

SHOWN = 20
"""Files that are listed."""


def _why(reason: str, *, resampled: bool) -> str:
    from voxelvault.deid.model import REASONS
    from voxelvault.releasing.made_place import NO_VOLUME
    from voxelvault.releasing.originals import LINK_OUTSIDE

    if reason == LINK_OUTSIDE:
        return f"{reason}: a link that leads out of the folder; --follow-links takes in what it names"
    if reason == NO_VOLUME and resampled:
        return f"{reason}: the series fits the format not even resampled; release it as dicom"
    return f"{reason}: {REASONS[reason]}" if reason in REASONS else reason


def tell_release(
    made: Any, map_file: Path | None, review: Path | None, as_json: bool, *, resampled: bool
) -> None:
    """Print what became of a release, and of each file that isn't in it."""
    from voxelvault.storage.layout import VAULT_TOML

    end = "not signed for, and no release yet" if made.interrupted else f"signed by {made.signer}"
    lines = [str(made), f"in {made.path}; {end}"]
    if made.recovery_code:
        lines.append(f"recovery code of the release, shown once: {made.recovery_code}")
    elif (made.path / VAULT_TOML).exists():
        lines.append(
            "its recovery code was shown by the run that began it, or lost with that run:"
            " `voxelvault --vault RELEASE keys add recovery` makes a new one"
        )
    if made.one_time:
        lines.append("the pseudonyms' key was for this run alone: name a --project to make the same again")
    if map_file is not None:
        lines.append("the map re-identifies everybody in the release: keep it apart, or delete it")
    if review is not None:
        lines.append("the page of pictures shows patients' own values: look at it, then delete it")
    places = sorted(made.report.places)  # they come in no order that tells anything
    for place, reason in places[:SHOWN]:
        lines.append(f"  left out: {shown(place)}: {_why(reason, resampled=resampled)}")
    if len(places) > SHOWN:
        lines.append(f"  and {len(places) - SHOWN} more")
    document = {
        "path": made.path,
        "files": made.report.found,
        "released": made.report.released,
        "blanked": made.report.blanked,
        "refused": dict(made.report.refused),
        "left_out": [{"file": place, "reason": reason} for place, reason in places],
        "signer": made.signer,
        "recovery_code": made.recovery_code,
        "complete": made.complete,
        "interrupted": made.interrupted,
        "one_patient_id": made.one_id,
    }
    emit(document, lines, as_json)


def tell_verified(found: Any, as_json: bool, *, asked: bool) -> None:
    """Print what a check found; `asked` where it was said who must have signed."""
    from voxelvault.deid.card import counted

    lines = [
        f"{counted(found.files, 'file')} as signed for{_made(found.made)}; {_out(found.refused)};"
        f" profile {found.terms.profile}"
        if found.ok
        else "NOT as signed for",
        f"signed by {found.signer.hex()}"
        + ("" if asked else ": compare it with what its custodian told you"),
    ]
    for name in ("changed", "missing", "extra", "reordered"):
        lines += [f"  {name}: {shown(path)}" for path in getattr(found, name)[:SHOWN]]
    names = ("files", "refused", "made", "changed", "missing", "extra", "reordered")
    plain = {name: getattr(found, name) for name in names}
    told = {"ok": found.ok, **plain, "signer": found.signer.hex(), "profile": found.terms.profile}
    emit(told, lines, as_json)


def _made(count: int) -> str:
    """Return how many files stand for many instances, such as DICOMDIR, card and volumes."""
    return f", and {count} that sum others up (card, DICOMDIR, volumes)" if count else ""


def _out(count: int) -> str:
    """Return how many originals are not in the release; its receipts say why."""
    if not count:
        return "no original was left out"
    return "1 original was left out" if count == 1 else f"{count} originals were left out"


__all__ = ["tell_release", "tell_verified"]
