"""The page needs no network and no trust; Prometheus' own parser reads the text."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from prometheus_client.parser import text_string_to_metric_families
from triage_rows import NOW, row, weeks

from voxelvault_triage.monitoring.alerts import Limits
from voxelvault_triage.monitoring.page import page
from voxelvault_triage.monitoring.plots import pictures
from voxelvault_triage.monitoring.prometheus import exposition
from voxelvault_triage.monitoring.report import Report, make
from voxelvault_triage.monitoring.summary import periods

REFERENCE, PERIOD = periods(NOW, 7, 56)
HOSTILE = 'B <script src="https://x.example/a.js"></script> "quoted" \\ back\nslash'


@pytest.fixture(scope="module")
def report() -> Report:
    rows = [*weeks(), *weeks(1, scanner=HOSTILE, a_day=4), row(NOW - timedelta(hours=2), None)]
    return make(rows, None, REFERENCE, PERIOD, Limits(stability=0.001))


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_holds_all_it_shows(report: Report) -> None:
    text = page(report).decode()
    tags = Tags()
    tags.feed(text)
    names = {tag for tag, _ in tags.found}
    assert not names & {"script", "link", "iframe", "object", "form"}
    sources = [attributes["src"] or "" for tag, attributes in tags.found if tag == "img"]
    assert len(sources) == 5
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    policy = next(attributes["content"] for tag, attributes in tags.found if "http-equiv" in attributes)
    assert policy is not None
    assert "default-src 'none'" in policy
    for words in ("Not a medical device", "synthetic data", "thickness", "PPV at 10%", "What", "Alerts"):
        assert words.lower() in text.lower()


def test_pictures_are_whole_and_the_same_again(report: Report) -> None:
    first, again = pictures(report), pictures(report)
    assert first == again
    for picture in first.values():
        tree = ElementTree.fromstring(picture)
        links = [
            value for node in tree.iter() for name, value in node.attrib.items() if name.endswith("href")
        ]
        assert all(link.startswith("#") for link in links)


@pytest.mark.parametrize("known", [False, True])
def test_a_page_of_almost_nothing(known: bool) -> None:
    rows = [replace(row(NOW - timedelta(hours=1), 0.9), label=known or None)]
    text = page(make(rows, None, REFERENCE, PERIOD, Limits())).decode()
    assert ("Against what is known" in text) is known
    nothing = page(
        make([row(NOW - timedelta(days=20), None, seconds=None)], None, REFERENCE, PERIOD, Limits())
    )
    assert b"silent" in nothing


def test_prometheus_reads_it(report: Report) -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition(report))}
    assert all(family.type == "gauge" and family.documentation for family in families.values())
    studies = {
        sample.labels["scanner"]: sample.value for sample in families["voxelvault_triage_studies"].samples
    }
    assert studies == {"all scanners": 169.0, "A": 141.0, HOSTILE: 28.0}
    quantiles = {
        sample.labels["quantile"] for sample in families["voxelvault_triage_latency_seconds"].samples
    }
    assert quantiles == {"0.5", "0.95"}
    assert families["voxelvault_triage_report_seconds"].samples[0].value == pytest.approx(1772323200)
    alerts = families["voxelvault_triage_alerts"].samples
    assert sum(sample.value for sample in alerts) == len(report.alerts) > 0
    assert not re.search(r"\bnan\b", exposition(report), re.IGNORECASE)
