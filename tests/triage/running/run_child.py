"""A runner of its own process: says that it is ready, waits for a word, analyses, tells what it did."""

from __future__ import annotations

import json
import sys

from mean_hu import MeanHU

import voxelvault as vv
from voxelvault import plugins
from voxelvault_triage.analysing import analyse
from voxelvault_triage.running.session import HERE, Hands


def main(path: str) -> None:
    plugins.load = lambda _group, _name: lambda: MeanHU(pause=0.5)  # type: ignore[assignment]
    with vv.open(path) as vault:
        print("ready", flush=True)
        sys.stdin.readline()
        found = analyse(vault, MeanHU().name, hands=Hands(HERE))
        print(json.dumps([found.scheduled, found.report.studies, found.elsewhere]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
