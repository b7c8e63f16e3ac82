from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from voxelvault_fl.consortium import consortium_of, read_consortium
from voxelvault_fl.errors import ConsortiumRefused

SAID = """\
id: heads
name: Heads of three hospitals
lead: lead
server: {host: federation.example.org, port: 8443}
sites: [north, south, {name: west}]
terms:
  purposes: [research]
  lawful_bases: [GDPR 9(2)(j)]
  minimum_sites: 2
  minimum_cohort: 20
  maximum_rounds: 50
  site_metrics: false
"""


def test_a_file_becomes_a_value_and_its_plain_form_the_same_value(tmp_path: Path) -> None:
    (tmp_path / "consortium.yaml").write_text(SAID)
    made = read_consortium(tmp_path / "consortium.yaml")
    assert [site.name for site in made.sites] == ["north", "south", "west"]
    assert made.terms.minimum_cohort == 20
    assert not made.terms.site_metrics
    assert consortium_of(made.as_dict()) == made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "Heads!"}, "small letters"),
        ({"sites": []}, "has sites"),
        ({"sites": ["north", "north"]}, "name of its own"),
        ({"sites": ["north", "server"]}, "name of its own"),
        ({"sites": "north"}, "is a list"),
        ({"server": {"host": "a b"}}, "DNS name"),
        ({"server": {"host": "localhost", "port": 0}}, "from 1 to 65535"),
        ({"terms": {"minimum_sites": 9}}, "more than there are sites"),
        ({"terms": {"minimum_cohort": True}}, "whole number"),
        ({"terms": {"unknown": 1}}, "means nothing"),
        ({"terms": {"site_metrics": "yes"}}, "true or false"),
        ({"surprise": 1}, "the key 'surprise', which means nothing"),
        ({"terms": {"purposes": "IRB-1"}}, "purposes is a list: put it in brackets"),
        ({"terms": {"lawful_bases": None}}, "is a list"),
        ({"terms": {"purposes": [1]}}, "a purpose has to stand in quotes"),
        ({"id": False}, "id has to stand in quotes"),
        ({"sites": ["north", False]}, "a site has to stand in quotes"),
        ({"name": "two\nlines"}, "line of text"),
    ],
)
def test_what_cannot_be_is_refused_by_the_rule_it_breaks(change: dict[str, Any], said: str) -> None:
    good = {"id": "heads", "name": "Heads", "server": {"host": "localhost"}, "sites": ["north", "south"]}
    consortium_of(good)
    with pytest.raises(ConsortiumRefused, match=said):
        consortium_of({**good, **change})


def test_what_is_not_yaml_is_refused_without_its_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: [unclosed secret")
    with pytest.raises(ConsortiumRefused) as caught:
        read_consortium(tmp_path / "c.yaml")
    assert "secret" not in str(caught.value)
    assert "at line 1" in str(caught.value)
