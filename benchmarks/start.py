"""How long `import voxelvault` and `voxelvault --help` take, the interpreter's own start included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.measure import Measured, Place, seconds

GOAL = 0.5


def measure(place: Place) -> list[Measured]:
    """Both in fresh processes, against an interpreter that does nothing."""
    command = Path(sys.executable).with_name("voxelvault")
    nothing = [sys.executable, "-c", "pass"]
    ways = {
        "import voxelvault": [sys.executable, "-c", "import voxelvault"],
        "voxelvault --help": [str(command), "--help"],
    }
    found = []
    for name, line in ways.items():
        _run(line)
        times = [(_run(line), _run(nothing)) for _ in range(place.repeats)]
        own, bare = median(a for a, _ in times), median(b for _, b in times)
        found.append(
            Measured(
                f"{name}, seconds", own, GOAL, f"{own:.2f} s", f"bare interpreter {bare:.2f} s", at_most=True
            )
        )
    return found


def _run(line: list[str]) -> float:
    return seconds(lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL))
