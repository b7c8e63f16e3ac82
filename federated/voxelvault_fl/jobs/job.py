"""A job: everything that decides a training run, as data, signed by the consortium's lead."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from voxelvault_fl.errors import JobRefused
from voxelvault_fl.jobs.strict import canonical, made, plain, toml_of

Plain = Mapping[str, Any]

TASKS = ("numpy-logistic", "hemorrhage")
METRICS = ("loss", "auc")
"""What tasks measure."""
STRATEGIES = ("fedavg", "fedprox", "fedadam", "median", "krum")
ADAM: Mapping[str, float] = MappingProxyType({"rate": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3})
"""Numbers of fedadam that a job leaves out."""
PRIVACY = ("none", "dp-sgd")
COMPRESSION = ("none", "int8", "top-k")
LABELS = ("table", "SEG", "SR")
MAY_REVEAL = (
    "updates may reveal images: no differential privacy is asked for, "
    "and who sees single updates may reconstruct what they were trained on"
)
"""Said with every job that has none, and shown before it is approved."""

_DOMAIN = b"voxelvault federated job v1\n"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1e300


@dataclass(frozen=True, slots=True)
class Model:
    """Which task trains, and its configuration: numbers and words, never code."""

    task: str
    config: Plain = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Strategy:
    """How updates become the next model.

    Parameters
    ----------
    name : str
        One of `STRATEGIES`.
    weighting : str
        ``examples`` (counts of subjects, clamped to the registered cohort) or ``uniform``.
    numbers : mapping of str to float
        ``proximal`` of fedprox; ``rate``, ``beta1``, ``beta2``, ``tau`` of fedadam; ``byzantine`` and
        ``keep`` of krum.
    """

    name: str = "fedavg"
    weighting: str = "examples"
    numbers: Plain = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Privacy:
    """Terms of privacy.

    Parameters
    ----------
    mode : str
        One of `PRIVACY`.
    numbers : mapping of str to float
        ``epsilon``, ``delta``, ``clip``, ``noise`` as the mode needs.
    """

    mode: str = "none"
    numbers: Plain = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labels:
    """Where a site takes labels from.

    Parameters
    ----------
    source : str
        One of `LABELS`: a Parquet or CSV table of the site, or what the vault holds.
    column : str
        Of the table, or the coded name in reports; not for SEG.
    positive : tuple of str
        Segments of a SEG that make a series positive; any segment where there are none.
    """

    source: str
    column: str = ""
    positive: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides a run.

    Parameters
    ----------
    consortium, id : str
        Of whom, and which: an id is never used twice.
    expires : datetime
        UTC; no site answers after it.
    app_digest : str
        SHA-256 of the code that sites run, as `voxelvault_fl.jobs.app.app_digest` gives it.
    initial_weights : str
        Digest of the first weights (`weights_digest`).
    model, cohort, labels
        What is trained, on which series (a filter, see `voxelvault_fl.cohorts.filter`), with which truth.
    rounds : int
        At most this many.
    min_sites, max_sites : int
        A round with fewer updates than `min_sites` counts for nothing and is tried again.
    purpose, lawful_basis : str
        Why, and on which legal ground; sites have lists of those they let in.
    deid_profile : str
        The profile of the release that sites must train on, or ``vault`` for their own vault.
    strategy, privacy
        How updates are joined; what protects them.
    update_norm : float
        Largest Euclidean norm of an update; sites clip to it, the server refuses beyond it.
    compression : str
        One of `COMPRESSION`, of updates and of models on their way to sites.
    seed : int
        Of everything drawn.
    evaluate_every : int
        Rounds between evaluations; 0 for none.
    metric : str
        Which one chooses the best round; larger is better unless it is ``loss``.
    patience : int
        Evaluations without a better one after which the run stops; 0 for never.
    personalise : int
        Steps of fine-tuning at each site after the last round; the result stays there.
    """

    consortium: str
    id: str
    expires: datetime
    app_digest: str
    initial_weights: str
    model: Model
    cohort: Plain
    labels: Labels
    rounds: int
    min_sites: int
    max_sites: int
    purpose: str
    lawful_basis: str
    deid_profile: str = "vault"
    strategy: Strategy = Strategy()
    privacy: Privacy = Privacy()
    update_norm: float = 10.0
    compression: str = "none"
    seed: int = 0
    evaluate_every: int = 1
    metric: str = "auc"
    patience: int = 0
    personalise: int = 0

    def __post_init__(self) -> None:
        for rule, holds, advice in self._rules():
            if not holds:
                raise JobRefused(rule, advice)

    def evaluates(self, number: int) -> bool:
        """Tell whether a round is evaluated: every so many, and the last one."""
        every = self.evaluate_every
        return bool(every and number > 0 and (number % every == 0 or number == self.rounds))

    def _rules(self) -> tuple[tuple[str, bool, str], ...]:
        named = bool(_NAME.fullmatch(self.consortium) and _NAME.fullmatch(self.id))
        digests = bool(_SHA256.fullmatch(self.app_digest) and _SHA256.fullmatch(self.initial_weights))
        # An accountant knows nothing of figures and choices that private data made outside of it.
        quiet = not (self.evaluate_every or self.patience or self.personalise)
        return (
            ("malformed", named, "consortium and id are 2 to 64 small letters, digits, dots and dashes"),
            ("malformed", digests, "digests are SHA-256, 64 hexadecimal digits"),
            ("strategy", self.strategy.name in STRATEGIES, f"strategies are {', '.join(STRATEGIES)}"),
            ("strategy", self.strategy.weighting in ("examples", "uniform"), "weigh by examples or uniform"),
            ("malformed", self._numeric(), "the numbers of strategy and privacy are numbers, and finite"),
            ("strategy", self.strategy.name != "krum" or self._crowd() <= self.min_sites,
             "krum needs min_sites of twice `byzantine` and 3 more"),
            ("secagg", not self.privacy.mode.startswith("secagg"),
             "there is no secure aggregation, see docs/decisions/0021-no-secure-aggregation.md; take dp-sgd"),
            ("privacy", self.privacy.mode in PRIVACY, f"modes of privacy are {', '.join(PRIVACY)}"),
            ("privacy", self.privacy.mode != "dp-sgd" or quiet, "under dp-sgd set evaluate_every = 0"),
            ("strategy", self.strategy.name != "fedadam" or self._steady(),
             "fedadam needs betas from 0, below 1, and rate and tau above 0"),
            ("compression", self.compression in COMPRESSION, f"compress with {', '.join(COMPRESSION)}"),
            ("labels", self.labels.source in LABELS, f"labels come from {', '.join(LABELS)}"),
            ("rounds", 1 <= self.rounds <= 10_000, "rounds are 1 to 10000"),
            ("sites", 1 <= self.min_sites <= self.max_sites <= 1000, "give 1 <= min_sites <= max_sites"),
            ("update-norm", 0 < self.update_norm < 1e6, "update_norm is above 0 and below a million"),
            ("malformed", min(self.seed, self.evaluate_every, self.patience, self.personalise) >= 0, "no "
             "count is below 0"),
            ("purpose", bool(self.purpose and self.lawful_basis), "give a purpose and a lawful basis"),
            ("malformed", (self.purpose + self.lawful_basis).isprintable(),
             "purpose and lawful basis are lines of text"),
        )  # fmt: skip

    def _crowd(self) -> float:
        return 2 * float(self.strategy.numbers.get("byzantine", 0)) + 3 if self._numeric() else 0.0

    def _steady(self) -> bool:
        said = {**ADAM, **self.strategy.numbers} if self._numeric() else ADAM
        return 0 <= said["beta1"] < 1 and 0 <= said["beta2"] < 1 and min(said["rate"], said["tau"]) > 0

    def _numeric(self) -> bool:
        given = (*self.strategy.numbers.values(), *self.privacy.numbers.values())
        return all(type(one) in (int, float) and abs(one) < _LARGEST for one in given)

    @property
    def document(self) -> bytes:
        """Canonical JSON: what is signed."""
        return canonical(plain(self))

    @property
    def digest(self) -> str:
        """SHA-256 of the document, hexadecimal: names the job in every message and record."""
        return hashlib.sha256(self.document).hexdigest()

    @property
    def warning(self) -> str:
        """What must be said before anyone approves; empty where privacy is protected."""
        return MAY_REVEAL if self.privacy.mode == "none" else ""


@dataclass(frozen=True, slots=True)
class SignedJob:
    """A job with the lead's Ed25519 signature, 64 bytes."""

    job: Job
    signature: bytes

    def dumps(self) -> bytes:
        """Return the file of it: JSON."""
        return canonical({"job": plain(self.job), "signature": b64encode(self.signature).decode()})

    @classmethod
    def loads(cls, data: bytes, lead: Ed25519PublicKey) -> SignedJob:
        """Read such a file and check whose it is.

        Raises
        ------
        JobRefused
            It is malformed, or the lead didn't sign it.
        """
        try:
            said = json.loads(data)
            job, signature = said["job"], b64decode(said["signature"], validate=True)
        except (ValueError, KeyError, TypeError):
            raise JobRefused("malformed", "this is no signed job; `federated submit` makes one") from None
        # The signature is of the canonical form, so it is checked before anything is believed.
        try:
            lead.verify(signature, _DOMAIN + canonical(job))
        except InvalidSignature:
            raise JobRefused("signature", "the consortium's lead didn't sign this job") from None
        return cls(made(Job, job, "job"), signature)


def sign(job: Job, lead: Ed25519PrivateKey) -> SignedJob:
    """Sign a job as the consortium's lead."""
    return SignedJob(job, lead.sign(_DOMAIN + job.document))


def read_job(path: Path, fill: Callable[[Plain], Plain] = dict) -> Job:
    """Read a lead's job file, TOML.

    Parameters
    ----------
    path : Path
        The file.
    fill : callable
        Gives the keys that the file leaves out, such as digests; what the file says wins.

    Raises
    ------
    JobRefused
        It is no TOML, or no job.
    """
    try:
        said = toml_of(path.read_text("utf-8"), "malformed", "the job file")
    except UnicodeDecodeError:
        raise JobRefused("malformed", "the job file is no text in UTF-8; name the right file") from None
    return made(Job, {**fill(said), **said}, "job")


__all__ = [
    "ADAM", "COMPRESSION", "LABELS", "MAY_REVEAL", "PRIVACY", "STRATEGIES",
    "Job", "Labels", "Model", "Privacy", "SignedJob", "Strategy", "read_job", "sign",
]  # fmt: skip
