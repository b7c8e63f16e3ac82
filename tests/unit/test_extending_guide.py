"""The guide on plug-ins shows the example package that the tests run, and nothing else."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

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
