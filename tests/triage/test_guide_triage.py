"""The guide to triage says what the code says, and what it tells one to type works."""

from __future__ import annotations

import io
import random
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from voxelvault.testing.practice import practice_studies
from voxelvault.testing.synthetic_series import ct_series
from voxelvault_triage import hemorrhage
from voxelvault_triage.model import Study
from voxelvault_triage.models import site_labels
from voxelvault_triage.monitoring.alerts import Limits

PAGE = (Path(__file__).resolve().parents[2] / "docs/guide/triage.md").read_text("utf-8")


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]


def commands(text: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.+?)```", text, re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def test_simulations_run(run: Callable[..., Any], tmp_path: Path) -> None:
    days = [f"2026-03-{day:02d}T{hour:02d}:15" for day in range(1, 9) for hour in range(24)]
    (tmp_path / "arrivals.csv").write_text("\n".join(["arrived", *days]))
    told = commands(section("Is it worth it?"))
    assert len(told) == 4
    for words in told:
        # The same, but quickly: the first --repeats is overridden by the last.
        here = [str(tmp_path / word) if word.endswith((".csv", ".svg")) else word for word in words[1:]]
        found = run(*here, "--repeats", "2")
        assert found.code == 0, found.err


def test_limits_are_those_of_the_code() -> None:
    told = dict(re.findall(r"`(\w+)=([\d.]+)`", section("Is it still doing what it did?")))
    assert {name: float(value) for name, value in told.items() if name != "p95_seconds"} == {
        one.name: one.default for one in fields(Limits) if one.name != "p95_seconds"
    }
    assert Limits().p95_seconds == float(told["p95_seconds"])


def test_a_maker_signs_and_a_site_installs_and_removes(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(hemorrhage.__file__).parent / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle/docs/README.md").write_text("of another maker")
    maker = Ed25519PrivateKey.generate()
    (tmp_path / "maker.key").write_bytes(
        maker.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "maker.pem").write_bytes(
        maker.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    text = section("Install a model")
    (typed,) = re.findall(r"```bash\n(.+?)```", text, re.DOTALL)
    told = subprocess.run(["bash", "-ec", typed], capture_output=True, text=True, check=True).stdout
    digest = told.split()[0]
    assert run("init", tmp_path / "vault").code == 0
    signed, pinned, listed, shown, verified, removed = commands(text)

    def typed_in(words: list[str]) -> Any:
        names = {"45026496…": digest, "45026496": digest[:8], "small-test-network": "head-ct-hemorrhage"}
        return run(*(names.get(word, word) for word in words[1:]))

    assert f"digest {digest}, signed" in typed_in(signed).out
    assert "removed" in typed_in(removed).out
    assert f"digest {digest}, pinned" in typed_in(pinned).out
    assert typed_in(listed).out.count("head-ct-hemorrhage") == 2
    assert digest in typed_in(shown).out
    assert typed_in(verified).out.count("whole") == 2
    assert "removed" in typed_in(removed).out
    assert digest not in typed_in(shown).out


def test_a_site_calibrates_on_its_own_labels(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the guide has it, but for the network: what it says of twenty heads takes minutes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dicom").mkdir()
    lines = ["StudyInstanceUID,hemorrhage"]
    for number in range(24):
        (made,) = ct_series(1, 8, 8, seed=number)
        (tmp_path / "dicom" / f"{number}.dcm").write_bytes(made)
        lines.append(f"{pydicom.dcmread(io.BytesIO(made)).StudyInstanceUID},{number % 2}")
    (tmp_path / "outcomes.csv").write_text("\n".join(lines))
    bleeds = {line.split(",")[0]: line.endswith("1") for line in lines}

    def scorer(*_: object) -> Callable[[Study], float]:
        chance = random.Random(1)
        return lambda study: chance.gauss(0.65 if bleeds[study.StudyInstanceUID] else 0.35, 0.1)

    assert run("init", tmp_path / "vault").code == 0
    assert run("--vault", tmp_path / "vault", "ingest", tmp_path / "dicom").code == 0
    tried, done = commands(section("Calibrate it on your own labels"))
    # Whose studies the gate takes none of is told what keeps them out.
    assert "here are 0 and 0; left out: 24 " in run(*tried[1:]).err
    monkeypatch.setattr(site_labels, "scorer", scorer)
    listed = ("--vault", tmp_path / "vault", "triage", "models", "list", "--json")
    before = run(*listed).json
    found = run(*tried[1:])
    assert "12 positive, 12 negative" in found.out, found.err
    assert "nothing was kept" in found.out
    assert run(*listed).json == before
    assert run(*done[1:]).code == 0
    made, shipped = run(*listed).json
    assert made["based_on"] == shipped["digest"]
    assert made["demonstration"]


@pytest.mark.long
def test_from_a_vault_to_the_report(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that is typed behind `--vault ~/vault`, on studies of nobody."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    table = practice_studies(tmp_path / "dicom", 2, 16, 64)
    (tmp_path / "outcomes.csv").write_text(table.read_text())
    assert run("init", tmp_path / "vault").code == 0
    assert run("--vault", tmp_path / "vault", "ingest", tmp_path / "dicom").code in (0, 3)
    uid = table.read_text().splitlines()[1].split(",")[0]
    titles = ("Run it, or let it watch", "The list", "What a result is", "Is it still doing what it did?")
    told = [words for title in titles for words in commands(section(title))]
    assert len(told) == 11
    for words in told:
        here = [re.sub(r"^~", str(tmp_path), word).replace("1.2.840.113619.2.1", uid) for word in words[1:]]
        found = run(*here)
        # 4: `report` has something to tell.
        assert found.code == 0 or ("report" in here and found.code == 4), (here, found.err)
    assert (tmp_path / "report.html").is_file()
    assert list((tmp_path / "out").iterdir())
