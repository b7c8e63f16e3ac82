"""What every verb has: examples in its help, `--json`, and the session that opens the vault."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from voxelvault.errors import UsageError

if TYPE_CHECKING:
    from voxelvault.vault import Vault

PASSPHRASE = "VOXELVAULT_PASSPHRASE"  # noqa: S105 - the name of a variable
PARTLY = 3
"""Exit code: done in part, and the report says what is left."""

F = TypeVar("F", bound=Callable[..., Any])


class Verb(click.Command):
    """A command whose help ends in examples."""

    examples: tuple[str, ...] = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are typed."""
        with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
            for example in self.examples:
                formatter.write(f"  {example}\n")


def verb(name: str, *examples: str) -> Callable[[Callable[..., Any]], Verb]:
    """Make a verb: a command with `--json` and examples.

    Parameters
    ----------
    name : str
        As typed.
    *examples : str
        Whole command lines.
    """

    def make(function: Callable[..., Any]) -> Verb:
        found = click.command(name, cls=Verb)(_json_option(function))
        found.examples = examples
        return found

    return make


def _json_option(function: F) -> F:
    def note(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
        # Kept at the root, so that a failure becomes JSON too.
        ctx.find_root().meta["json"] = value
        return value

    return click.option(
        "--json", "as_json", is_flag=True, callback=note, is_eager=True, help="One JSON document on stdout."
    )(function)


def destructive(function: F) -> F:
    """Give a verb `--dry-run` and `--yes`."""
    yes = click.option("--yes", is_flag=True, help="Do it: the plan was read.")
    dry = click.option("--dry-run", is_flag=True, help="Print the plan, change nothing.")
    return dry(yes(function))


def scheduling(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb `--scheduler` and `--unsafe-spill`; it gets `cluster`, as `Vault` takes both."""

    @wraps(function)
    def with_cluster(*given: object, scheduler: str | None, unsafe_spill: bool, **more: object) -> Any:
        return function(*given, cluster={"client": scheduler, "unsafe_spill": unsafe_spill}, **more)

    where = click.option(
        "--scheduler", metavar="ADDRESS", help="Workers of a Dask cluster, tls://HOST:PORT; or local."
    )
    unsafe = click.option(
        "--unsafe-spill", is_flag=True, help="Also where workers may write to their disks: logged."
    )
    return where(unsafe(with_cluster))


@dataclass(frozen=True, slots=True)
class Session:
    """What stands before the verb: which vault, which keys, why.

    Parameters
    ----------
    vault, purpose, key_file, fingerprint : str, optional
        As `voxelvault.open` takes them.
    passphrase_file, checkpoint_file : Path, optional
        Files that hold a passphrase, a signed checkpoint.
    accept_restore : bool
        Take an older copy that was put back.
    """

    vault: str | None = None
    purpose: str | None = None
    key_file: str | None = None
    passphrase_file: Path | None = None
    fingerprint: str | None = None
    checkpoint_file: Path | None = None
    accept_restore: bool = False

    @property
    def place(self) -> Path | str:
        """Where the vault is: a folder, or a URL.

        Raises
        ------
        UsageError
            None was named, or it is no place for a vault.
        """
        from voxelvault.config import default_vault
        from voxelvault.storage.places import place_of

        where = self.vault or default_vault()
        if where is None:
            raise UsageError("no vault was named; put --vault PATH before the verb, or set VOXELVAULT")
        return place_of(where)

    def passphrase(self) -> str | None:
        """Return the passphrase of the file or of the environment, if there is one."""
        if self.passphrase_file is not None:
            return read_line(self.passphrase_file)
        return os.environ.get(PASSPHRASE) or None

    def checkpoint(self) -> str | None:
        """Return the signed checkpoint that the log must extend, if one was given."""
        return None if self.checkpoint_file is None else read_text(self.checkpoint_file)

    def open(self, **ways: str | None) -> Vault:
        """Open the vault; at a terminal, and only there, it asks for a passphrase."""
        import voxelvault
        from voxelvault.access import MissingCodec

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingCodec)  # said below, in one line
            vault = voxelvault.open(
                self.place,
                purpose=self.purpose,
                key_file=self.key_file,
                fingerprint=self.fingerprint,
                checkpoint=self.checkpoint(),
                accept_restore=self.accept_restore,
                **{"passphrase": self.passphrase(), **ways},
            )
        for warning in vault.warnings:
            click.echo(f"warning: {warning}", err=True)
        return vault


def read_text(path: Path) -> str:
    """Return the text of a small file that the user named.

    Raises
    ------
    UsageError
        It is no text.
    """
    try:
        return path.expanduser().read_text("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path.name} holds no text; name the right file") from None


def read_line(path: Path) -> str:
    """Return the first line of a file, without its end."""
    return (read_text(path).splitlines() or [""])[0]


pass_session = click.make_pass_decorator(Session)
