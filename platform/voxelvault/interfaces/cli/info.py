"""`info`: what the vault is, or what a UID is, without naming anybody."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from voxelvault.errors import UnknownUID
from voxelvault.interfaces.cli.command import Session, pass_session, verb
from voxelvault.interfaces.cli.output import emit, facts, size, table

if TYPE_CHECKING:
    from voxelvault.plugins import Plugin
    from voxelvault.vault import Vault

_SERIES_OF = (
    "select s.series_id, s.study_id, coalesce(s.Modality, '') as Modality, i.TransferSyntaxUID, i.pixels,"
    " count(*) as instances, sum(i.length)::BIGINT as bytes,"
    " count(*) filter (where i.superseded) as superseded"
    " from instances i join series s using (series_id) where {}"
    " group by all order by s.series_id, i.TransferSyntaxUID, i.pixels"
)
"""The UID is a parameter: it is not part of the text that the log keeps."""

_LEVELS = {
    "study": "i.study_id in (select study_id from studies where StudyInstanceUID = $uid)",
    "series": "i.series_id in (select series_id from series where SeriesInstanceUID = $uid)",
    "instance": "i.SOPInstanceUID = $uid",
}


@verb(
    "info",
    "voxelvault --vault ~/vault info",
    "voxelvault --vault ~/vault info 1.2.840.113619.2.1",
)
@click.argument("uid", required=False)
@pass_session
def info(session: Session, uid: str | None, as_json: bool) -> None:
    """Print what the vault is, or what a UID is.

    Without UID: counts, keys, fingerprint, sizes. UID is that of a study, a series or an instance.
    Nothing printed names anybody.
    """
    with session.open() as vault:
        if uid is None:
            found = _of_vault(session, vault)
            emit(found, _lines(found), as_json)
        else:
            found = _of_uid(vault, uid)
            emit(found, _series_lines(found), as_json)


def _of_vault(session: Session, vault: Vault) -> dict[str, Any]:
    from voxelvault.upkeep.keys import key_file_warnings, list_slots

    resources = vault.resources
    vault_id = resources.settings.vault_id
    return {
        "vault": str(session.place),
        "vault_id": vault_id,
        "fingerprint": resources.keys.fingerprint,
        "log_public_key": str(resources.log.key),
        "codec": resources.settings.codec,
        "residency": resources.settings.residency,
        **vault.summary(),
        "caches": [asdict(cache) for cache in vault.caches()],
        "bytes_at_rest": sum(info.length for info in resources.objects.list("")),
        "audit_entries": len(vault.audit),
        "key_generation": resources.keys.generation,
        "decoder_sandbox": resources.pool.sandbox(),
        "slots": list_slots(resources),
        "plugins": [str(plugin) for plugin in _plugins()],
        "warnings": key_file_warnings(session.place, session.key_file, vault_id),
    }


def _plugins() -> list[Plugin]:
    """Return what other packages add, whatever may be wrong with it; nothing is loaded."""
    from voxelvault import plugins
    from voxelvault.crypto.providers import own_kinds
    from voxelvault.dicom.added_sources import OWN
    from voxelvault.interfaces.cli.app import cli
    from voxelvault.storage.codecs import own_names

    ours: dict[str, Collection[str]] = {
        plugins.CODECS: own_names(),
        plugins.INGEST_SOURCES: OWN,
        plugins.KEY_PROVIDERS: own_kinds(),
        plugins.VERBS: frozenset(cli.commands),
        plugins.PIPELINES: frozenset(),
    }
    found = [plugin for group, names in ours.items() for plugin in plugins.listed(group, names)]
    return [plugin for plugin in found if not plugin.ours]


def _cache(cache: Mapping[str, Any]) -> str:
    stale = f", {cache['stale']} stale" if cache["stale"] else ""
    return f"{cache['series']} series ({cache['recipe']}), {size(cache['bytes'])}{stale}"


def _lines(found: Mapping[str, Any]) -> list[str]:
    about = {name.replace("_", " "): value for name, value in found.items() if value != ""}
    about["bytes"], about["bytes at rest"] = size(found["bytes"]), size(found["bytes_at_rest"])
    about["caches"] = "; ".join(_cache(cache) for cache in found["caches"]) or "none"
    about["plugins"] = "; ".join(found["plugins"]) or "none"
    about["slots"] = ", ".join(slot.provider for slot in found["slots"])
    warnings = about.pop("warnings")
    return facts(about) + [f"warning: {warning}" for warning in warnings]


def _of_uid(vault: Vault, uid: str) -> dict[str, Any]:
    """Return what has that UID: its level, and its series with counts."""
    for level, condition in _LEVELS.items():
        rows = vault.sql(_SERIES_OF.format(condition), {"uid": uid})
        if len(rows):
            series = [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]
            return {
                "level": level,
                "instances": sum(row["instances"] for row in series),
                "bytes": sum(row["bytes"] for row in series),
                "series": series,
            }
    raise UnknownUID("nothing in this vault has that UID; `sql` on `studies` or `series` lists what there is")


def _series_lines(found: Mapping[str, Any]) -> list[str]:
    head = f"{found['level']}: {found['instances']} instances, {size(found['bytes'])}"
    rows = found["series"]
    return [head, "", *table(list(rows[0]), [list(row.values()) for row in rows])]
