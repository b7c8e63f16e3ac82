"""A watcher of its own process, to be killed. It ends when a file STOP lies beside the vault."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from mean_hu import MeanHU, Threshold

import voxelvault as vv
from voxelvault_triage.ready import Patience
from voxelvault_triage.running.runner import Limits, Runner
from voxelvault_triage.running.session import Hands, work_through
from voxelvault_triage.watching import Watcher


def main(path: Path) -> None:
    pipeline, model = MeanHU(pause=0.5), Threshold(10)
    with vv.open(path) as vault:
        # Whom the test kills is not the study's fault: tries enough for all of them.
        runner = Runner(vault, pipeline, model, Limits(30.0, tries=20))
        stop = (path.parent / "STOP").exists
        patience = Patience(timedelta(), timedelta())
        watcher = Watcher(vault, pipeline.name, pipeline.version, model.digest, None, patience, 0.2, stop)
        work_through(vault, runner, Hands(workers=2, pause=0.2), watcher.tick)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
