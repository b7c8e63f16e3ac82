"""The card: Markdown that holds the facts, JSON-LD with what Croissant demands, and no surprises."""

from __future__ import annotations

import json
from dataclasses import replace

from voxelvault.deid.card import LIMITS, Facts, croissant, markdown
from voxelvault.deid.k_anonymity import KAnonymity
from voxelvault.deid.receipt import Terms

ANONYMITY = KAnonymity(["Modality"])
for person in ("P1", "P2"):
    ANONYMITY.add(person, {"Modality": "CT"})
FACTS = Facts(
    name="Heads v1",
    terms=Terms("0" * 32, "research", "ab" * 32, "2026d", ("113100", "113105"), "0.1.0"),
    counts={"patients": 2, "studies": 3, "series": 4, "files": 400, "refused": 1},
    modalities={"MR": 1, "CT": 3},
    classes={"CT Image Storage": 399, "MR Image Storage": 1},
    body_parts={"HEAD": 4},
    anonymity=ANONYMITY.report(),
    faces="keep",
)


def test_people_read_counts_profile_limits_and_classes() -> None:
    text = markdown(FACTS)
    for told in ("# Heads v1", "| files | 400 |", "`research`", "2026d", "113100, 113105", "| CT | 3 |"):
        assert told in text
    for told in ("HEAD", "recognised", "| one series | 2 | 0 | 0 |", "Faces in head scans were kept"):
        assert told in text
    assert all(limit in text for limit in LIMITS)
    assert text.index("| CT | 3 |") < text.index("| MR | 1 |")


def test_a_value_breaks_no_table_and_no_heading() -> None:
    text = markdown(replace(FACTS, name="a\n# b", body_parts={"x | y\n| z": 1}, limits=("<script>",)))
    assert "\n# b" not in text
    assert "x \\| y \\| z" in text
    assert "<script>" not in text


def test_programs_read_croissant() -> None:
    body = json.loads(croissant(FACTS))
    assert body["@type"] == "sc:Dataset"
    assert body["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert body["@context"]["cr"] == "http://mlcommons.org/croissant/"
    receipts, images = body["distribution"]
    # The receipts sign for the card, so the card can't have their digest.
    assert (receipts["@type"], receipts["includes"]) == ("cr:FileSet", "receipts.jsonl")
    assert (images["@type"], images["includes"]) == ("cr:FileSet", "**/*.dcm")
    assert "CT" in body["keywords"]
    assert "license" not in body
    ids = [one["@id"] for one in body["distribution"]]
    assert len(ids) == len(set(ids))


def test_what_only_the_publisher_knows_is_told_where_it_is_known() -> None:
    full = replace(
        FACTS, licence="CC-BY-4.0", url="https://example.org", creators=["A"], published="2031-01-01"
    )
    body = json.loads(croissant(full))
    assert body["license"] == "CC-BY-4.0"
    assert body["creator"] == [{"@type": "sc:Organization", "name": "A"}]
    assert "CC-BY-4.0" in markdown(full)


def test_a_release_that_is_a_vault_has_no_set_of_files() -> None:
    assert len(json.loads(croissant(replace(FACTS, pattern="")))["distribution"]) == 1


def test_dates_that_stayed_are_a_limit() -> None:
    dated = replace(FACTS, terms=replace(FACTS.terms, options=("113100", "113107")))
    assert "Times of day" in markdown(dated)
    assert "Times of day" not in markdown(FACTS)
