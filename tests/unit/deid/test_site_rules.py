"""A site's own rules, from TOML, CTP scripts and pydicom/deid recipes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from deid_support import context, image, reread
from voxelvault.deid.apply import rewrite
from voxelvault.deid.model import Action, Option
from voxelvault.deid.profile import profile
from voxelvault.deid.recipes_ctp import read_ctp
from voxelvault.deid.recipes_deid import read_deid
from voxelvault.deid.site_rules import SiteRules, read_toml
from voxelvault.errors import RulesRefused, UsageError

TOML = """
[[rule]]
tag = "PatientSex"
action = "keep"

[[rule]]
tag = "(0008,0080)"
action = "replace"
value = "a hospital"

[[rule]]
tag = "SeriesNumber"
action = "remove"

[[rule]]
tag = "00200010"
action = "hash"

[[rule]]
tag = "StudyDate"
action = "shift"

[[rule]]
tag = "(0011,xx01)"
creator = "OUR LAB"
action = "keep"

[[rule]]
tag = "(0018,91xx)"
action = "remove"
"""


def source() -> Dataset:
    dataset = image()
    dataset.PatientSex = "F"
    dataset.InstitutionName = "Secret"
    dataset.SeriesNumber = 3
    dataset.StudyID = "S1"
    dataset.StudyDate = "20200601"
    dataset.EchoTime = 5
    dataset.add_new(0x00189101, "CS", "YES")
    block = dataset.private_block(0x0011, "OUR LAB", create=True)
    block.add_new(1, "LO", "kept")
    block.add_new(2, "LO", "secret")
    return reread(dataset)


def applied(rules: SiteRules) -> Dataset:
    return rewrite(source(), context(profile("basic", site=rules))).dataset


def test_each_action_of_a_rule() -> None:
    out = applied(read_toml(TOML))
    assert out.PatientSex == "F"
    assert out.InstitutionName == "a hospital"
    assert "SeriesNumber" not in out
    assert out.StudyID.startswith("X")
    assert out.StudyDate == "20200222"
    assert out[0x00111001].value == "kept"
    assert out[0x00110010].value == "OUR LAB"
    assert 0x00111002 not in out
    assert 0x00189101 not in out
    assert out.EchoTime == 5


def test_a_rule_that_loosens_the_profile_takes_its_code_away() -> None:
    rules = read_toml('[[rule]]\ntag = "PatientSex"\naction = "keep"')
    assert "113100" not in rewrite(source(), context(profile("basic", site=rules))).applied
    assert "113100" not in rewrite(source(), context(profile("basic", site=read_ctp(CTP)))).applied
    assert "113100" in rewrite(image(), context(profile("basic", site=rules))).applied


def test_the_rest_goes_but_for_what_an_object_needs() -> None:
    out = applied(read_toml('rest = "remove"\n[[rule]]\ntag = "EchoTime"\naction = "keep"'))
    assert [element.keyword for element in out] == [
        "SpecificCharacterSet",
        "SOPClassUID",
        "SOPInstanceUID",
        "EchoTime",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('tag = "NoSuchWord"\naction = "keep"', "keyword"),
        ('tag = "PatientName"\naction = "scramble"', "action must be"),
        ('tag = "PatientName"\naction = "shift"', "only dates"),
        ('tag = "PatientName"\naction = "replace"', "needs a value"),
        ('tag = "StudyDate"\naction = "replace"\nvalue = "1st of May"', "no DA"),
        ('tag = "Rows"\naction = "hash"', "only text"),
        ('tag = "(0011,xx01)"\naction = "keep"', "creator"),
        ('tag = "(0011,xxx1)"\ncreator = "A"\naction = "keep"', "block"),
        ('tag = "PatientName"\naction = "keep"\ncolour = "red"', "only tag"),
        ('tag = "PatientSex"\naction = "keep"\n[[rule]]\ntag = "(0010,0040)"\naction = "remove"', "same"),
    ],
)
def test_rules_that_cannot_be_honoured(text: str, problem: str) -> None:
    with pytest.raises(RulesRefused, match=problem) as refused:
        read_toml(f"[[rule]]\n{text}")
    assert "\n" not in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(RulesRefused) as refused:
        read_toml('colour = 1\n[[rule]]\ntag = "A"\naction = "keep"\n[[rule]]\ntag = "B"\naction = "keep"')
    assert len(refused.value.problems) == 3
    with pytest.raises(UsageError, match="no TOML"):
        read_toml("[[rule]")


CTP = """<script>
<p t="SITE">a hospital</p>
<e en="T" t="00100040" n="PatientSex">@keep()</e>
<e en="T" t="00080080" n="InstitutionName">@param(@SITE)</e>
<e en="T" t="00200011" n="SeriesNumber">@remove()</e>
<e en="T" t="00200010" n="StudyID">@hash(this)</e>
<e en="T" t="00080020" n="StudyDate">@incrementdate(this,@DATEINC)</e>
<e en="F" t="00080090" n="ReferringPhysicianName">@if(this,exists){@keep()}{@remove()}</e>
<e en="T" t="0011[OUR LAB]01">@keep()</e>
<k en="T" t="0018">Keep group 18</k>
<r en="T" t="unspecifiedelements">Remove unspecified elements</r>
</script>"""


def test_a_ctp_script() -> None:
    out = applied(read_ctp(CTP))
    assert out.PatientSex == "F"
    assert out.InstitutionName == "a hospital"
    assert "SeriesNumber" not in out
    assert out.StudyDate == "20200222"
    assert out[0x00111001].value == "kept"
    assert out.EchoTime == 5


def test_ctp_lines_that_cannot_be_honoured_are_told_by_number() -> None:
    script = CTP.replace('en="F"', 'en="T"').replace("@hash(this)", "@lookup(this,id)")
    with pytest.raises(RulesRefused) as refused:
        read_ctp(script)
    assert [problem.split(":")[0] for problem in refused.value.problems] == ["line 6", "line 8"]


@pytest.mark.parametrize(
    "content",
    [
        "@param(@NOBODY)",
        "@hash(PatientID)",
        "@hash(@uppercase(this))",
        "@keep",
        "@contents(x)",
        "@quarantine()",
    ],
)
def test_ctp_functions_without_a_counterpart(content: str) -> None:
    with pytest.raises(RulesRefused, match="line 1"):
        read_ctp(f'<script><e en="T" t="00200010">{content}</e></script>')


def test_ctp_groups_and_broken_scripts() -> None:
    private = read_ctp('<script><r en="T" t="privategroups">Remove</r></script>')
    policy = profile("basic", [Option.RETAIN_SAFE_PRIVATE], private)
    decision = policy.decide(0x0019100C, "IS", "SIEMENS MR HEADER", "1.2", False)
    assert decision.action is Action.REMOVE
    assert decision.rule == "CTP script line 1"
    for text in ('<r en="T" t="everything">x</r>', '<k en="T" t="safeprivateelements">x</k>'):
        with pytest.raises(RulesRefused):
            read_ctp(f"<script>{text}</script>")
    with pytest.raises(UsageError, match="no XML at line 1"):
        read_ctp("<script>")
    with pytest.raises(UsageError, match="entities"):
        read_ctp('<!DOCTYPE s [<!ENTITY a "b">]><script>&a;</script>')


RECIPE = """FORMAT dicom
%header
# what we keep
ADD PatientIdentityRemoved YES
KEEP PatientSex
REPLACE InstitutionName a hospital
REMOVE SeriesNumber
JITTER StudyDate -31
REMOVE startswith:Echo
KEEP (0011,"OUR LAB",01)
"""


def test_a_deid_recipe() -> None:
    out = applied(read_deid(RECIPE))
    assert out.PatientSex == "F"
    assert out.InstitutionName == "a hospital"
    assert "SeriesNumber" not in out
    assert "EchoTime" not in out
    assert out.StudyDate == "20200222"
    assert out[0x00111001].value == "kept"


def test_in_a_recipe_a_field_named_goes_before_a_pattern() -> None:
    out = applied(read_deid("FORMAT dicom\n%header\nREMOVE startswith:Echo\nKEEP EchoTime"))
    assert out.EchoTime == 5
    assert "PatientSex" not in applied(read_deid("FORMAT dicom\n%header\nREMOVE ALL"))


def test_recipe_lines_that_cannot_be_honoured_are_told_by_number() -> None:
    recipe = RECIPE + "REPLACE PatientID var:id\nADD Modality CT\n%filter dirty\ncontains Modality CT\n"
    with pytest.raises(RulesRefused) as refused:
        read_deid(recipe)
    assert [problem.split(":")[0] for problem in refused.value.problems] == [
        "line 11",
        "line 12",
        "line 13",
        "line 14",
    ]
    for line in ("KEEP except:Patient", "KEEP startswith:Nothing", "KEEP contains:(", "REMOVE", "KEEP A b"):
        with pytest.raises(RulesRefused):
            read_deid(f"%header\n{line}")


def test_the_guide_s_rules_are_read() -> None:
    guide = Path(__file__).resolve().parents[3] / "docs" / "guide" / "deid-rules.md"
    block = re.search(r"```toml\n(.*?)```", guide.read_text(), re.DOTALL)
    assert block is not None
    assert len(read_toml(block[1]).rules) == 3
