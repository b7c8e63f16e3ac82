"""What a site tries before it takes part, but for its vault, which the executor opens: see `Health`."""

from __future__ import annotations

from pathlib import Path

from voxelvault.cohorts.key_names import SPELLINGS, named_key
from voxelvault.cohorts.tables import to_table
from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.app import app_digest
from voxelvault_fl.jobs.policy import read_policy


def policy_warnings(policy: Path, consortium: str) -> tuple[str, ...]:
    """Read a site's policy, and return what to warn of.

    Parameters
    ----------
    policy : Path
        Its file.
    consortium : str
        Id of the consortium of the site's kit.

    Raises
    ------
    JobRefused
        It can't be read, or is of another consortium.
    """
    own = read_policy(policy)
    if own.consortium != consortium:
        raise JobRefused(
            "policy", f"the policy is of {own.consortium!r}, the kit of {consortium}; name the right one"
        )
    if app_digest() in own.app_digests:
        return ()
    return (f"the policy's app_digests lack the code that is installed here, {app_digest()}: no job can run",)


def require_labels(labels: Path, on: str) -> None:
    """Read the table of labels.

    Raises
    ------
    UsageError
        It can't be read, or has no such key column.
    """
    named_key(to_table(labels, SPELLINGS), on, None)


__all__ = ["policy_warnings", "require_labels"]
