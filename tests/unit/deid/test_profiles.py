"""Presets, options, and what decides over an element."""

from __future__ import annotations

import pytest

from deid_support import CT
from voxelvault.deid.model import Action, Option
from voxelvault.deid.profile import profile
from voxelvault.deid.recipes_ctp import read_ctp
from voxelvault.deid.site_rules import read_toml
from voxelvault.errors import UsageError

SR = "1.2.840.10008.5.1.4.1.1.88.33"


def action(tag: int, vr: str, *options: Option, preset: str = "basic", **where: object) -> Action:
    creator, sop_class = where.get("creator"), where.get("sop_class", CT)
    return profile(preset, options).decide(tag, vr, creator, sop_class, False).action  # type: ignore[arg-type]


def test_presets_stand_for_codes() -> None:
    assert profile("basic").codes == ("113100",)
    assert profile().codes == profile("research").codes == ("113100", "113105", "113107")
    assert profile("basic", [Option.RETAIN_UIDS]).name == "basic+retain_uids"


def test_options_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="exclude"):
        profile("basic", [Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES])
    with pytest.raises(UsageError, match="exclude"):
        profile("research", [Option.RETAIN_FULL_DATES])
    with pytest.raises(UsageError, match="basic, research"):
        profile("none")


def test_all_others_combine() -> None:
    for dates in (Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES):
        others = set(Option) - {Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES}
        assert profile("basic", [*others, dates]).options == others | {dates}


def test_the_type_of_an_attribute_decides_where_the_table_leaves_a_choice() -> None:
    content_date = 0x00080023  # Z/D: type 2 or 3 in CT, type 1 in structured reports
    assert action(content_date, "DA") is Action.ZERO
    assert action(content_date, "DA", sop_class=SR) is Action.DUMMY
    assert action(0x00181000, "LO") is Action.REMOVE  # X/Z/D, type 3
    assert action(0x00181000, "LO", sop_class="1.2.840.10008.5.1.4.1.1.2.1") is Action.DUMMY  # type 1
    assert action(content_date, "DA", sop_class="1.2.3.4") is Action.DUMMY  # nobody knows the class


@pytest.mark.parametrize("tag", [0x00181FF6, 0x00181FFE, 0x00991001, 0x00010010, 0x0018FFFF, 0x00180000])
def test_what_is_in_no_list_goes(tag: int) -> None:
    for vr in ("LO", "US", "SQ", "UI", "PN"):
        assert action(tag, vr, *(set(Option) - {Option.RETAIN_FULL_DATES})) is Action.REMOVE


def test_safe_private_is_by_group_element_and_creator() -> None:
    safe = Option.RETAIN_SAFE_PRIVATE
    assert action(0x0019100C, "IS", safe, creator="SIEMENS MR HEADER") is Action.CLEAN
    assert action(0x0019200C, "IS", safe, creator="SIEMENS MR HEADER") is Action.CLEAN
    assert action(0x0019100C, "IS", creator="SIEMENS MR HEADER") is Action.REMOVE
    assert action(0x0019100F, "IS", safe, creator="SIEMENS MR HEADER") is Action.REMOVE
    assert action(0x0019100C, "IS", safe, creator="SIEMENS CSA HEADER") is Action.REMOVE
    assert action(0x0019100C, "IS", safe) is Action.REMOVE


def test_dates_of_devices_move_with_all_other_dates() -> None:
    calibrated = 0x00181200
    assert action(calibrated, "DA", Option.RETAIN_DEVICE) is Action.KEEP
    assert action(calibrated, "DA", Option.RETAIN_DEVICE, Option.RETAIN_MODIFIED_DATES) is Action.SHIFT


def test_the_digest_is_of_all_rules_in_force() -> None:
    rules = read_toml('[[rule]]\ntag = "PatientSex"\naction = "keep"')
    digests = {
        profile("basic").digest,
        profile("research").digest,
        profile("basic", site=rules).digest,
    }
    assert len(digests) == 3
    assert profile("basic").digest == profile("basic").digest


def test_decisions_name_the_row() -> None:
    decision = profile().decide(0x0008103E, "LO", None, CT, False)
    assert decision.rule == "E.1-1 (0008,103E) clean_descriptors C"
    assert profile("basic").edition == "2026d"


def test_overlays_are_cleaned_with_graphics_unless_a_site_says_otherwise() -> None:
    assert action(0x60003000, "OW", Option.CLEAN_GRAPHICS) is Action.CLEAN
    assert action(0x60023000, "OW") is Action.REMOVE
    assert action(0x50003000, "OW", Option.CLEAN_GRAPHICS) is Action.REMOVE
    rules = read_ctp('<script><r en="T" t="overlays">Remove overlays</r></script>')
    policy = profile("basic", [Option.CLEAN_GRAPHICS], rules)
    assert policy.decide(0x60003000, "OW", None, CT, False).action is Action.REMOVE
