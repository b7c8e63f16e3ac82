"""Measure every claim at one core and at two, each in a process of its own, and print one table.

Nothing here fails by time: a goal that isn't reached is printed as missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.heads import Heads, make_heads
from benchmarks.measure import Measured, Place, pin

CLAIMS = ("ingest", "load", "sealing", "size", "frame", "start", "loaders", "deid_headers", "deid_chain")
TEAM = ("cluster", "orthanc", "object_store", "catalog", "writers", "memory", "log")
"""What a team asks about; a million rows and ten thousand files take their time."""
TRIAGE = ("triage", "triage_workers", "triage_arrival")
"""What a radiology AI team asks about; they draw their own studies."""
FEDERATED = ("federated",)
"""What a consortium asks about: beside plain Flower."""
EVERY = CLAIMS + TEAM + TRIAGE + FEDERATED
AT_ONE_CORE_ONLY = ("size", "start", "deid_headers", "deid_chain")
AT_TWO_CORES_ONLY = {*TEAM, *TRIAGE[1:], *FEDERATED} - {"orthanc"}


def main() -> None:
    options = _options()
    if options.child:
        _child(options)
        return
    with tempfile.TemporaryDirectory(prefix="voxelvault-bench-", dir=options.tmp) as folder:
        root = Path(folder)
        claims = options.only or _asked(options)
        if set(claims) - {*TRIAGE, *FEDERATED}:
            heads = make_heads(root / "heads", options.slices)
            make_heads(root / "long", options.long, series=1)
            print(_about(heads, options), file=sys.stderr)
        rows: dict[str, dict[int, Measured]] = {}
        for claim in claims:
            for cores in _cores(claim):
                for found in _measure(claim, cores, root, options):
                    rows.setdefault(found.claim, {})[cores] = found
    print(table(rows))


def _asked(options: argparse.Namespace) -> tuple[str, ...]:
    if options.federated:
        return FEDERATED
    return TRIAGE if options.triage else TEAM if options.team else CLAIMS


def _cores(claim: str) -> tuple[int, ...]:
    if claim in AT_TWO_CORES_ONLY:
        return (2,)
    return (1,) if claim in AT_ONE_CORE_ONLY else (1, 2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    parser.add_argument("--slices", type=int, default=168, help="of each of two series")
    parser.add_argument("--long", type=int, default=1000, help="slices of the long series")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=EVERY)
    parser.add_argument("--team", action="store_true", help="what a team asks about instead")
    parser.add_argument("--triage", action="store_true", help="what a radiology AI team asks about instead")
    parser.add_argument("--federated", action="store_true", help="what a consortium asks about instead")
    parser.add_argument("--tmp", type=Path, help="folder for files and vaults; needs 1.5 GB")
    parser.add_argument("--child", choices=EVERY, help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(claim: str, cores: int, root: Path, options: argparse.Namespace) -> list[Measured]:
    """Measure a claim in a fresh process: pinned before any library makes its threads."""
    if cores > len(os.sched_getaffinity(0)):
        return []
    work = root / "work"
    work.mkdir(exist_ok=True)
    line = [sys.executable, "-m", "benchmarks", "--child", claim, "--cores", str(cores), "--root", str(root)]
    environment = {**os.environ, "VOXELVAULT_CONFIG_HOME": str(root / "config")}
    done = subprocess.run(
        [*line, "--repeats", str(options.repeats)], stdout=subprocess.PIPE, env=environment, check=False
    )
    if done.returncode:
        print(f"{claim} at {cores}: failed, see above", file=sys.stderr)
        return []
    found = [Measured(**one) for one in json.loads(done.stdout)]
    for one in found:
        print(f"{one.claim}, {cores}: {_cell(one)}", file=sys.stderr)
    return found


def _child(options: argparse.Namespace) -> None:
    pin(options.cores)
    root = options.root
    heads, long = (Heads(root / name, real=True) for name in ("heads", "long"))
    place = Place(heads, long, root / "work", options.cores, options.repeats)
    found: list[Measured] = import_module(f"benchmarks.{options.child}").measure(place)
    print(json.dumps([asdict(one) for one in found]))


def table(rows: dict[str, dict[int, Measured]]) -> str:
    """Return the table as Markdown, which is what README quotes."""
    lines = ["| claim | goal | 1 core | 2 cores | |", "|---|---|---|---|---|"]
    for claim, by_cores in rows.items():
        first = next(iter(by_cores.values()))
        goal = "" if first.goal is None else f"{'≤' if first.at_most else '≥'} {first.goal:.2f}"
        cells = [_cell(by_cores[cores]) if cores in by_cores else "" for cores in (1, 2)]
        met = all(found.met for found in by_cores.values())
        verdict = "" if first.goal is None else "met" if met else "**missed**"
        lines.append(f"| {claim} | {goal} | {cells[0]} | {cells[1]} | {verdict} |")
    return "\n".join(lines)


def _cell(found: Measured) -> str:
    figures = f"{found.ours} : {found.theirs}" if found.theirs else found.ours
    return f"{found.ratio:.2f} ({figures})" if found.goal is not None else figures


def _about(heads: Heads, options: argparse.Namespace) -> str:
    kind = "real head CT, slices shifted and mirrored" if heads.real else "synthetic head CT"
    return f"{len(heads.files)} files, {heads.size / 1e6:.0f} MB: {kind}; medians of {options.repeats}"


if __name__ == "__main__":
    main()
