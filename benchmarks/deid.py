"""De-identifiers on one planted corpus: what leaks, what is kept, how fast; `make bench-deid`."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import deid_burned
from benchmarks.deid_corpus import Case, Score, judge, make, quietly
from benchmarks.deid_tools import SUBJECT, TOOLS
from voxelvault.deid.pseudonym import ProjectPseudonyms

PACKAGES = {
    "voxelvault": "voxelvault",
    "voxelvault, basic": "voxelvault",
    "dicognito": "dicognito",
    "pydicom deid": "deid",
    "dicom-anonymizer": "dicom-anonymizer",
}


def main() -> None:
    """Make the corpus, run every tool over it, and print the table."""
    parser = argparse.ArgumentParser("benchmarks.deid", description=__doc__)
    parser.add_argument("--every", type=int, default=4, help="take every so-manieth real file")
    parser.add_argument("--frames", type=int, default=10, help="frames of each kind with burned-in text")
    options = parser.parse_args()
    quietly()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    with tempfile.TemporaryDirectory(prefix="voxelvault-bench-") as folder:
        root = Path(folder)
        cases = make(root / "in", options.every)
        print(f"{len(cases)} files, {sum(len(case.planted) for case in cases):,} values", file=sys.stderr)
        rows = [_row(name, cases, root) for name in TOOLS]
        versions = {name: version(package) for name, package in PACKAGES.items()}
        burned = deid_burned.table(root, options.frames, versions)
    head = "| tool | values left | leaking places | actions of its profile right | references whole |"
    print(f"{head} unlisted public elements kept | files/s, one core | refused |\n|{'---|' * 8}")
    print("\n".join([*rows, "", burned]))


def _row(name: str, cases: list[Case], root: Path) -> str:
    out = root / re.sub(r"\W+", "-", name)
    out.mkdir()
    line = [sys.executable, "-m", "benchmarks.deid_tools", name, str(root / "in"), str(out)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    found = re.search(r"SECONDS ([\d.]+)", done.stdout)
    moved = ProjectPseudonyms(bytes(32), "benchmark").days(SUBJECT) if name == "voxelvault" else 0
    options = ("retain_long_modified_dates", "clean_desc") if moved else ()
    score = judge(cases, out, moved, options)
    rate = f"{score.files / float(found[1]):.0f}" if found else "failed"
    return f"| {name} {version(PACKAGES[name])} | {_cells(score)} | {rate} | {score.failed} |"


def _cells(score: Score) -> str:
    def share(part: int, whole: int) -> str:
        return f"{100 * part / whole:.1f} %" if whole else "-"

    return " | ".join(
        (
            f"{score.left:,} of {score.planted:,} ({share(score.left, score.planted)})",
            str(len(score.places)),
            share(score.right, score.actions),
            f"{score.whole} of {score.references}",
            share(score.kept, score.unlisted),
        )
    )


if __name__ == "__main__":
    main()
