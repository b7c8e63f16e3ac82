"""Codes that people copy."""

from __future__ import annotations

import os

import pytest

from voxelvault.crypto.text_code import from_groups, from_line, to_groups, to_line

SECRET = bytes(range(20))


def test_groups_are_fixed() -> None:
    """A golden value: if this changes, printed recovery codes open nothing any more."""
    assert to_groups(SECRET) == "000G-40R4-0M30-E209-185G-R38E-1W81-24GK-6NPX"


def test_groups_invert() -> None:
    for _ in range(50):
        secret = os.urandom(20)
        assert from_groups(to_groups(secret), 20) == secret


def test_groups_forgive_case_blanks_and_misread_symbols() -> None:
    code = to_groups(SECRET)
    typed = f"  {code.lower().replace('-', ' ')}\n".replace("0", "o").replace("1", "l")
    assert typed.strip() != code
    assert from_groups(typed, 20) == SECRET


def test_every_single_typing_error_is_found() -> None:
    code = to_groups(SECRET)
    for at, symbol in enumerate(code):
        for other in "29AZ":
            if symbol not in (other, "-"):
                with pytest.raises(ValueError, match="checksum"):
                    from_groups(code[:at] + other + code[at + 1 :], 20)


@pytest.mark.parametrize("code", ["", "ABCD", "U" * 36, "é" * 36, "0" * 37])
def test_other_texts_are_refused(code: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        from_groups(code, 20)


def test_odd_lengths_make_no_groups() -> None:
    with pytest.raises(ValueError, match="multiple"):
        to_groups(b"1234")


@pytest.mark.parametrize("length", [0, 1, 31, 32, 1216])
def test_lines_invert_and_forgive_wrapping(length: int) -> None:
    data = os.urandom(length)
    line = to_line("a:", data)
    assert from_line("a:", "\n ".join([line[:5], line[5:] + "\n"])) == data


@pytest.mark.parametrize("damage", ["b", "a:", "a:!!!!", "a:AAAA", "a:" + "A" * 9])
def test_other_lines_are_refused(damage: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        from_line("a:", damage)


def test_a_line_has_one_spelling() -> None:
    line = to_line("a:", b"12345")
    with pytest.raises(ValueError, match="checksum"):
        from_line("a:", line[:-1] + ("R" if line[-1] != "R" else "S"))
    with pytest.raises(ValueError):  # noqa: PT011
        from_line("a:", line + "=")
