"""The guide on plug-ins shows the example package that the tests run, and nothing else."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import voxelvault
from voxelvault.testing.synthetic import ct_series
from voxelvault_triage.candidates import open_of
from voxelvault_triage.model import Study

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/guide/extending.md").read_text()
EXAMPLE = ROOT / "tests/plugin_example"
BLOCKS = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)


def bare(code: str) -> list[str]:
    """The statements of a module, without annotations, docstrings and imports that only those need."""
    found = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Expr):
            continue
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
            if isinstance(node.body[0], ast.Expr) and not node.name == "count":
                first: Any = node.body[0].value
                node.body = node.body[1:] if isinstance(first, ast.Constant) else node.body
        found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(("block", "name"), [(0, "codec"), (1, "source"), (2, "verb")])
def test_the_guide_shows_what_the_example_does(block: int, name: str) -> None:
    compile(BLOCKS[block], name, "exec")
    example = bare((EXAMPLE / "voxelvault_example" / f"{name}.py").read_text())
    assert [line for line in example if not line.startswith("__all__")] == bare(BLOCKS[block])


def test_its_entry_points_are_the_examples() -> None:
    (shown,) = re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL)
    example = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    assert tomllib.loads(shown)["project"] == example["project"]


def test_its_pipeline_finds_what_it_says(tmp_path: Path, configuration: Path) -> None:
    named: dict[str, Any] = {}
    exec(compile(BLOCKS[3], "pipeline", "exec"), named)
    pipeline = named["MetalCt"]()
    (tmp_path / "in").mkdir()
    for at, data in enumerate(ct_series(5, 16, 16)):
        (tmp_path / "in" / f"{at}.dcm").write_bytes(data)
    with voxelvault.create(tmp_path / "vault", key_file=tmp_path / "key") as vault:
        vault.ingest(tmp_path / "in", progress=False)
        (row,) = vault.sql("select study_id, subject_id, StudyInstanceUID from studies").fetchall()
        study = Study(*row, content="")
        gated = pipeline.gate(vault, study)
        assert not pipeline.gate(vault, Study("none", "none", "", "")).fit
        with open_of(vault, study, gated.SeriesInstanceUID, pipeline.name) as series:
            values, voxel_ml = pipeline.prepare(series, gated.stack)
    assert values.shape == (5, 16, 16)
    assert not pipeline.infer((values, voxel_ml), None).flagged
    values = values.astype(np.float32)
    values[:] = 3000
    found = pipeline.infer((values, voxel_ml), None)
    assert (found.mask.sum(), found.key_frame) == (5 * 256, 0)
    assert found.flagged
