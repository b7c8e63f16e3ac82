"""The root of the command: options before the verb, exit codes, and errors in one line."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from voxelvault.errors import UsageError, VoxelVaultError
from voxelvault.interfaces.cli.added_verbs import Root
from voxelvault.interfaces.cli.audit import audit
from voxelvault.interfaces.cli.command import Session
from voxelvault.interfaces.cli.compact import compact
from voxelvault.interfaces.cli.deidentify import deidentify
from voxelvault.interfaces.cli.demo import demo
from voxelvault.interfaces.cli.export import export
from voxelvault.interfaces.cli.info import info
from voxelvault.interfaces.cli.ingest import ingest
from voxelvault.interfaces.cli.init import init
from voxelvault.interfaces.cli.keys import keys
from voxelvault.interfaces.cli.lab import lab
from voxelvault.interfaces.cli.quarantine import quarantine
from voxelvault.interfaces.cli.show import show
from voxelvault.interfaces.cli.sql import sql
from voxelvault.interfaces.cli.verify import verify

NAME = "voxelvault"
FAILED, WRONG_USAGE = 1, 2


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from voxelvault import __version__

        click.echo(f"{NAME} {__version__}")
        ctx.exit()


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--vault", metavar="PATH", help="The vault; by default $VOXELVAULT, or the configuration's.")
@click.option("--purpose", metavar="CODE", help="Why, such as a study's number: stands in the audit log.")
@click.option("--key-file", metavar="FILE", help="Private key file; by default the user configuration's.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Its first line is the passphrase; also $VOXELVAULT_PASSPHRASE, or asked for at a terminal.",
)
@click.option("--fingerprint", metavar="TEXT", help="Whose vault it must be: for one that was handed over.")
@click.option(
    "--checkpoint",
    "checkpoint_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A checkpoint kept elsewhere that the audit log must extend.",
)
@click.option("--accept-restore", is_flag=True, help="Take an older copy that was put back; it is logged.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print it."
)
@click.pass_context
def cli(ctx: click.Context, /, **options: object) -> None:
    """Keep medical images sealed, catalogued and audited; not a medical device.

    \b
    Exit codes: 0 all done, 1 failed, 2 wrong usage,
    3 done in part (the report says what is left).
    """  # noqa: D301
    ctx.obj = Session(**options)  # type: ignore[arg-type]


_VERBS = (
    init,
    ingest,
    sql,
    show,
    export,
    deidentify,
    verify,
    compact,
    quarantine,
    info,
    audit,
    keys,
    lab,
    demo,
)
for _verb in _VERBS:
    cli.add_command(_verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; by default the process's own.

    Returns
    -------
    int
        0 all done, 1 failed, 2 wrong usage, 3 done in part.
    """
    meta: dict[str, bool] = {}
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with cli.make_context(NAME, words) as ctx:
            ctx.meta.update(meta)
            meta = ctx.meta
            return _code(cli.invoke(ctx))
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG_USAGE
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; what is stored stays stored", FAILED, "Interrupted", meta)
    except click.ClickException as error:
        return _fail(_usage(error), WRONG_USAGE, "UsageError", meta)
    except VoxelVaultError as error:
        code = WRONG_USAGE if isinstance(error, UsageError) else FAILED
        return _fail(str(error), code, type(error).__name__, meta)
    except BrokenPipeError:
        # Whoever read our output has seen enough; stdout must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return _fail(_advice(error), WRONG_USAGE, type(error).__name__, meta)
    except OSError as error:
        return _fail(_advice(error), FAILED, type(error).__name__, meta)


def _code(result: object) -> int:
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int, kind: str, meta: dict[str, bool]) -> int:
    line = " ".join(message.split())
    click.echo(f"{NAME}: {line}", err=True)
    if meta.get("json"):
        click.echo(json.dumps({"error": kind, "message": line, "exit_code": code}))
    return code


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    ctx = getattr(error, "ctx", None)
    return f"{message}; see `{ctx.command_path if ctx else NAME} --help`"


def _advice(error: OSError) -> str:
    what = os.strerror(error.errno) if error.errno else str(error)
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; free some space and run it again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{what}{where}; change the permissions or choose another place"
    return f"{what}{where}; check the path and run it again"
