"""`audit cosign` and `audit witness`: logs that others vouch for, and vouching for others' logs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxelvault.errors import IntegrityError, MissingExtra, UsageError
from voxelvault.interfaces.cli.command import PARTLY, Session, pass_session, read_text, verb
from voxelvault.interfaces.cli.output import emit, plain, say

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from voxelvault.audit.proof import VerifyReport
    from voxelvault.vault import Vault

_POLICY = click.option(
    "--policy", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A C2SP tlog-policy."
)


@verb("cosign", "voxelvault --vault ~/vault audit cosign --policy witnesses.txt")
@_POLICY
@pass_session
def cosign(session: Session, policy: Path, as_json: bool) -> None:
    """Have the log cosigned by witnesses; their cosignatures are kept beside it.

    The policy has a line `witness NAME KEY URL` for each, and one `quorum`. Exit code 3 where fewer
    answered than the quorum takes.
    """
    from voxelvault.audit.cosigning import Cosigning, over_http
    from voxelvault.audit.trust import TrustPolicy

    trusted = TrustPolicy.parse(read_text(policy))
    with session.open() as vault:
        log = vault.resources.log
        report = Cosigning(log, vault.resources.objects).gather(trusted, over_http)
    lines = [f"{name}: cosigned {one.size} entries" for name, one in report.attested.items()]
    lines += [f"{name}: {why}" for name, why in report.failed.items()]
    lines.append("the quorum is reached" if report.enough else "the quorum is not reached; ask again later")
    emit(plain(report), lines, as_json)
    if not report.enough:
        click.get_current_context().exit(PARTLY)


def proved_by_witnesses(vault: Vault, report: VerifyReport, policy: Path) -> VerifyReport:
    """Add to a report what the witnesses of a policy attest.

    Raises
    ------
    IntegrityError
        The quorum attests nothing of this log.
    """
    from voxelvault.audit.cosigning import Cosigning
    from voxelvault.audit.trust import TrustPolicy

    trusted = TrustPolicy.parse(read_text(policy))
    size, _ = Cosigning(vault.resources.log, vault.resources.objects).proved(trusted)
    if not size:
        raise IntegrityError("the policy's quorum attests nothing of this log; run `audit cosign` first")
    return replace(report, witnessed=size)


@verb(
    "witness",
    "voxelvault audit witness ~/witness --name hospital-b.example/witness --policy logs.txt --port 8460",
)
@click.argument("state", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The witness's name: a URL without scheme.")
@_POLICY
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8460, show_default=True)
def witness(state: Path, name: str, policy: Path, host: str, port: int, as_json: bool) -> None:
    """Cosign the logs of others (C2SP tlog-witness); Ctrl-C ends it.

    The folder STATE gets its key, and what it cosigned last of each log: never put back an older copy
    of that. The policy has a line `log KEY` for each log. Put a server with TLS before it.
    """
    from voxelvault.audit.cosignature import WitnessKey
    from voxelvault.audit.trust import TrustPolicy
    from voxelvault.audit.witness import Witness
    from voxelvault.storage.objects import LocalObjects

    try:
        import uvicorn

        from voxelvault.interfaces.witness_http import witness_app
    except ImportError:
        raise MissingExtra("a witness needs the web parts: pip install 'voxelvault[web]'") from None
    logs = TrustPolicy.parse(read_text(policy)).logs
    private = _private_key(state.expanduser())
    key = WitnessKey(name, private.public_key().public_bytes_raw())
    try:
        WitnessKey.parse(str(key))
    except IntegrityError:
        raise UsageError("a witness's name has no spaces and no plus; choose another") from None
    app = witness_app(Witness(key, private.sign, logs, LocalObjects(state.expanduser())))
    emit({"witness": str(key), "logs": len(logs)}, [f"witness NAME {key} URL", f"{len(logs)} logs"], as_json)
    say("cosigning")
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, ws="none", lifespan="off")


def _private_key(folder: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from voxelvault.files import write_new

    place = folder / "witness.key"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = Ed25519PrivateKey.generate()
        write_new(place, [made.private_bytes_raw()], private=True)
    data = place.read_bytes()
    if len(data) != 32:
        raise UsageError("witness.key holds no Ed25519 key; put it back from where it is kept")
    return Ed25519PrivateKey.from_private_bytes(data)
