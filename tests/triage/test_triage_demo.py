"""The tour of triage that `make demo` ends with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_list_is_reordered_and_the_result_shown(run: Any, tmp_path: Path, configuration: Path) -> None:
    found = run("triage", "demo", "--out", tmp_path / "out", "--workers", 1, "--json")
    assert found.code == 0, found.err
    told = found.json
    assert sorted(told["worklist"]) == sorted(told["arrived"])
    assert told["worklist"] != told["arrived"]
    assert told["result"]["verdict"] == "positive"
    with Image.open(told["result"]["picture"]) as picture:
        assert min(picture.size) > 100
    for words in ("not a medical device", "SEG", "SR", "triage worklist"):
        assert words in found.err
    # Nothing of the tour reaches the user's own configuration.
    assert not configuration.exists()
    assert os.environ["VOXELVAULT_CONFIG_HOME"] == str(configuration)
