"""A site's own rules from a file, whatever wrote it."""

from __future__ import annotations

from pathlib import Path

from voxelvault.deid.recipes_ctp import read_ctp
from voxelvault.deid.recipes_deid import read_deid
from voxelvault.deid.site_rules import SiteRules, read_toml
from voxelvault.errors import UsageError


def site_rules(path: Path) -> SiteRules:
    """Read a site's rules: TOML by its name, a CTP script or a deid recipe by its text.

    Raises
    ------
    UsageError
        There is no such file, or some lines can't be honoured; the message lists each.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError("the file of rules can't be read as text; check its path") from None
    if path.suffix == ".toml":
        return read_toml(text)
    return read_ctp(text) if text.lstrip().startswith("<") else read_deid(text)


__all__ = ["site_rules"]
