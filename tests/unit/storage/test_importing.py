"""An import of zarr that is interrupted can be made again in the same process."""

from __future__ import annotations

import subprocess
import sys

INTERRUPTED = """
import sys
from importlib.machinery import SourceFileLoader

real, left = SourceFileLoader.exec_module, 0

def counted(self, module):
    global left
    if module.__name__.startswith("zarr"):
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
    return real(self, module)

SourceFileLoader.exec_module = counted
stopped = 0
for left in (2, 15, 40, 60, -1):
    try:
        import voxelvault.storage.zarr_store
    except KeyboardInterrupt:
        stopped += 1
        assert not [name for name in sys.modules if name.startswith("zarr")]
import numpy, zarr
made = zarr.create_array({}, data=numpy.arange(4))
assert int(made[3]) == 3 and stopped == 4
"""


def test_zarr_is_imported_whole_or_not_at_all() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
