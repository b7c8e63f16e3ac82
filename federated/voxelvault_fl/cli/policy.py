"""`federated policy`: what a site's policy may begin with."""

from __future__ import annotations

import json
from pathlib import Path

import click

from voxelvault.interfaces.cli.command import verb
from voxelvault.interfaces.cli.output import emit

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@verb("policy", "voxelvault federated policy --kit kit > policy.toml")
@click.option("--kit", required=True, type=_FOLDER, metavar="DIR", help="This site's.")
def command(kit: Path, as_json: bool) -> None:
    """Print a policy to begin with: the code installed here, and what the consortium's terms allow.

    Read it before you use it: it is the site's own, and may be as strict as the site likes.
    """
    from voxelvault_fl.jobs.app import app_digest
    from voxelvault_fl.provisioning.kit import read_kit

    consortium = read_kit(kit).consortium
    terms = consortium.terms
    made = {
        "consortium": consortium.id,
        "app_digests": [app_digest()],
        "purposes": list(terms.purposes),
        "lawful_bases": list(terms.lawful_bases),
        "min_cohort": terms.minimum_cohort,
        "privacy": ["dp-sgd"],
    }
    # Words, numbers and lists of words are written alike in JSON and in TOML.
    lines = [f"{key} = {json.dumps(one, ensure_ascii=False)}{_SAID[key]}" for key, one in made.items()]
    emit(made, lines, as_json)


_SAID = {
    "consortium": "",
    "app_digests": "  # of the version installed here; no other code may run",
    "purposes": "  # a job gives one of them; none named lets no job in",
    "lawful_bases": "  # likewise",
    "min_cohort": "  # people with labels",
    "privacy": '  # with "none" also jobs whose updates may reveal images',
}
