"""Which rule decides, and why."""

import pytest

from voxelvault.deid.explain import explain, title
from voxelvault.deid.profile import profile
from voxelvault.deid.site_rules import read_toml
from voxelvault.errors import UsageError


def test_each_choice_of_options_that_matters_is_told() -> None:
    lines = [str(said) for said in explain("StudyDate")]
    assert lines == [
        "basic: emptied (E.1-1 (0008,0020) basic Z)",
        "research: moved by the patient's days (E.1-1 (0008,0020) retain_modified_dates C)",
        "basic+retain_full_dates: kept (E.1-1 (0008,0020) retain_full_dates K)",
        lines[1].replace("research", "basic+retain_modified_dates"),
    ]
    assert str(explain("PatientID")[0]).startswith("basic: replaced by a pseudonym (")
    assert title("StudyDate") == "(0008,0020) StudyDate"
    assert title("(0010,0012)") == "(0010,0012) NametoUse"
    assert title("0019,xx0C", "SIEMENS MR HEADER") == "(0019,xx0C) SIEMENS MR HEADER"
    assert title("(0019,100C)", "SIEMENS MR HEADER") == "(0019,xx0C) SIEMENS MR HEADER"
    assert title("60XX,0022") == "(60xx,0022)"


def test_private_elements_and_ones_in_no_list() -> None:
    lines = [str(said) for said in explain("(0019,xx0C)", "SIEMENS MR HEADER")]
    assert lines[-1] == "basic+retain_safe_private: cleaned (E.3.10-1 (0019,xx0C) of its creator C)"
    assert str(explain("00181FF6")[0]) == "basic: removed ((0018,1FF6) not in any list X)"


def test_ones_own_policy_goes_first() -> None:
    own = profile("basic", site=read_toml('[[rule]]\ntag = "StudyDate"\naction = "keep"'))
    assert str(explain("StudyDate", policies=[own])[0]) == "basic+site: kept (site rule 1)"
    with pytest.raises(UsageError, match="keyword"):
        explain("NoSuchWord")
    with pytest.raises(UsageError, match="keyword"):
        title("NoSuchWord")
