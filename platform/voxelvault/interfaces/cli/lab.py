"""`lab`: JupyterLab on the notebooks."""

from __future__ import annotations

from pathlib import Path

import click

from voxelvault.errors import MissingExtra, UsageError
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, say


@verb(
    "lab",
    "voxelvault --vault ~/vault lab",
    "voxelvault lab --folder my-notebooks --no-browser",
)
@click.option("--folder", type=click.Path(path_type=Path), metavar="DIR", help="Instead of the project's.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
@click.option("--dry-run", is_flag=True, help="Print what would be started.")
@pass_session
def lab(session: Session, folder: Path | None, no_browser: bool, dry_run: bool, as_json: bool) -> int:
    """Start JupyterLab on the notebooks.

    $VOXELVAULT names the vault there.
    """
    import importlib.util
    import subprocess
    import sys

    if importlib.util.find_spec("jupyterlab") is None:
        raise MissingExtra("JupyterLab is not installed: pip install 'voxelvault[notebook]'")
    place = folder or notebooks()
    if not place.is_dir():
        raise UsageError(f"{place} is no folder; name the notebooks' with --folder")
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={place.absolute()}"]
    command += ["--no-browser"] if no_browser else []
    emit({"folder": place, "command": command}, f"JupyterLab on {place}", as_json)
    if dry_run:
        return 0
    say("Ctrl-C ends it")
    return 1 if subprocess.call(command, env=_environment(session), stdout=sys.stderr.fileno()) else 0  # noqa: S603


def _environment(session: Session) -> dict[str, str]:
    """Return the environment with whole paths: a notebook runs in another folder."""
    import os

    found = dict(os.environ)
    if session.vault:
        found["VOXELVAULT"] = session.vault
    for name in ("VOXELVAULT", "VOXELVAULT_CONFIG_HOME"):
        if found.get(name):
            found[name] = str(Path(found[name]).expanduser().absolute())
    return found


def notebooks() -> Path:
    """Return the project's notebooks where this is a checkout, else the current folder."""
    import voxelvault

    beside = Path(voxelvault.__file__).resolve().parents[2] / "notebooks"
    return beside if any(beside.glob("*.ipynb")) else Path.cwd()
