"""Documentation that must keep up with the code, and README code that must run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from voxelvault.catalog.schema import TABLES
from voxelvault.intake.quarantine import Reason

ROOT = Path(__file__).resolve().parents[2]


def test_every_quarantine_reason_is_documented() -> None:
    page = (ROOT / "docs/reference/quarantine.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", page, re.MULTILINE))
    assert rows == {reason.code: reason.sentence for reason in Reason}


def test_every_table_is_documented() -> None:
    page = (ROOT / "docs/guide/sql.md").read_text()
    # Releases are made by a verb that comes later.
    for table in TABLES.keys() - {"releases"}:
        assert f"`{table}`" in page, table


def test_links_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_readme_code_runs(
    tmp_path: Path, wheel_dicom: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOXELVAULT_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    code = block[1].replace('"/data/dicom"', repr(str(wheel_dicom)))
    names: dict[str, object] = {}
    exec(compile(code + "\nvault.close()\n", "README.md", "exec"), names)
    assert "entries" in capsys.readouterr().out
    assert (tmp_path / "out" / "MANIFEST.csv").is_file()
    assert names["x"].dtype == "float32"  # type: ignore[attr-defined]
