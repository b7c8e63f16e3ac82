"""`triage simulate` as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voxelvault.testing.synthetic import ct_series
from voxelvault_triage.cli.simulate import _interval
from voxelvault_triage.simulation.compare import Estimate

SHORT = ("triage", "simulate", "--days", "2", "--repeats", "3")


def test_it_prints_both_orders_with_intervals_and_what_was_assumed(run: Any) -> None:
    found = run(*SHORT, "--seed", "4")
    assert found.code == 0, found.err
    for words in (
        "144 studies a day, 1 reader busy 80% of the time",
        "On the list after 1 min; 0% not analysed; a level more urgent after 120 min.",
        "positive",
        "negative",
        " to ",
        "not a measurement",
    ):
        assert words in found.out
    assert run(*SHORT, "--seed", "4").out == found.out


def test_json_says_what_was_assumed(run: Any) -> None:
    found = run(
        *SHORT, "--auc", "0.93", "--specificity", "0.8", "--shift", "8-18", "--shift", "9-19", "--json"
    ).json
    assert found["assumed"]["load"] == pytest.approx(144 * 8 / 1200)
    assert found["assumed"]["model"]["sensitivity"] == pytest.approx(0.894, abs=0.001)
    assert found["assumed"]["seed"] == 0
    assert set(found["minutes"]["positive"]["after"]["mean"]) == {"mean", "low", "high"}


def test_a_list_that_grows_without_end_is_told(run: Any) -> None:
    told = run(*SHORT, "--reading", "12,4").out
    assert "NO STEADY STATE: reading takes 1" in told
    assert "the list grows without end" in told
    assert run(*SHORT, "--reading", "12,4", "--json").json["assumed"]["steady_state"] is False


def test_nothing_saved_has_no_sign(run: Any) -> None:
    found = run("triage", "simulate", "--days", "3", "--repeats", "5", "--per-hour", "20").out
    assert "0.0 (" in found
    assert "-0.0" not in found


def test_arrivals_of_a_file(run: Any, tmp_path: Path) -> None:
    record = tmp_path / "arrivals.csv"
    lines = [
        f"x,2026-03-{day:02d}T{hour:02d}:{hour:02d}+01:00" for day in range(1, 7) for hour in range(7, 19)
    ]
    record.write_text("\n".join(["ward,arrived", *lines]))
    found = run(*SHORT, "--arrivals", record, "--json")
    assert found.json["assumed"]["studies_per_day"] == 12
    assert "Arrivals are those of 4 days" in run(*SHORT, "--arrivals", record).out


def test_what_one_repeat_alone_has_gets_no_interval() -> None:
    nan = float("nan")
    assert _interval(Estimate(28.8, nan, nan)) == "28.8 (one repeat)"
    assert _interval(Estimate(nan, nan, nan)) == "-"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("arrived\nyesterday\n", "line 2"),
        ("arrived\n2026-03-01\n", "line 2"),
        ("a,b\n1,2\n", "several columns"),
        ("arrived\n", "no arrival"),
    ],
)
def test_a_wrong_file_is_told(run: Any, tmp_path: Path, text: str, words: str) -> None:
    record = tmp_path / "arrivals.csv"
    record.write_text(text)
    found = run(*SHORT, "--arrivals", record)
    assert found.code == 2
    assert words in found.err
    assert "yesterday" not in found.err


def test_arrivals_of_a_vault(run: Any, tmp_path: Path) -> None:
    incoming, vault = tmp_path / "incoming", tmp_path / "vault"
    incoming.mkdir()
    for number, data in enumerate(ct_series(3)):
        (incoming / f"{number}.dcm").write_bytes(data)
    assert run("init", vault).code == 0
    assert run("--vault", vault, "ingest", incoming).code == 0
    for which in ("received", "acquired"):
        found = run("--vault", vault, *SHORT, "--arrivals", which, "--json")
        assert found.code == 0, found.err
        assert found.json["assumed"]["studies_per_day"] == 1


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_plot(run: Any, tmp_path: Path, kind: str) -> None:
    first, second = tmp_path / f"new/folder/1.{kind}", tmp_path / f"2.{kind}"
    for path in (first, second):
        assert run(*SHORT, "--plot", path).code == 0
    assert first.read_bytes() == second.read_bytes()
    assert (b"<svg" if kind == "svg" else b"PNG") in first.read_bytes()[:600]
    assert run(*SHORT, "--plot", first).code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--auc", "0.9", "--sensitivity", "0.9"), "choose one"),
        (("--plot", "x.pdf"), ".svg or .png"),
        (("--per-hour", "a"), "--per-hour takes numbers"),
        (("--per-hour", "1,2"), "24 hours"),
        (("--per-hour", "1e9"), "an hour"),
        (("--per-hour", "nan"), "24 hours"),
        (("--per-hour", "0"), "above 0"),
        (("--reading", "1,2,3"), "1 to 2 numbers"),
        (("--shift", "day"), "8-18"),
    ],
)
def test_wrong_options_are_told(run: Any, words: tuple[str, ...], told: str) -> None:
    found = run(*SHORT, *words)
    assert found.code == 2
    assert told in found.err


def test_without_positives_there_is_nothing_of_them(run: Any, tmp_path: Path) -> None:
    found = run(*SHORT, "--prevalence", "0", "--not-analysed", "0.2", "--plot", tmp_path / "a.svg", "--json")
    assert found.code == 0, found.err
    assert set(found.json["minutes"]) == {"negative", "flagged", "not flagged", "not analysed", "all"}
