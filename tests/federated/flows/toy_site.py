"""`federated site` with the executor of `toy_answering`: KIT STATE LEASE."""

from __future__ import annotations

import sys
from pathlib import Path

from voxelvault_fl.site.running import Settings, take_part

ANSWERING = Path(__file__).with_name("toy_answering.py")


def main(kit: Path, state: Path, lease: float) -> None:
    def executor(port: int) -> list[str]:
        return [sys.executable, str(ANSWERING), str(state), str(port), str(kit)]

    take_part(Settings(kit, state, executor, lease), print)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
