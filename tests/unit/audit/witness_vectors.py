"""A log of the C2SP witness litewitness's own tests: its key, roots, proofs and signatures."""

from __future__ import annotations

from voxelvault.audit.checkpoint import NoteKey

ORIGIN = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
KEY = NoteKey(ORIGIN, bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f"))


LEAVES = ["Kg" + pair + "A" * 39 + "=" for pair in ("AA", "EA", "IA", "MA", "QA")]
ROOTS = {
    1: LEAVES[0],
    3: "RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=",
    5: "QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=",
}
SIGNATURES = {
    1: "UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=",
    3: "UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=",
    5: "UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=",
}
PROOFS = {
    (1, 3): (LEAVES[1], LEAVES[2]),
    (1, 5): (LEAVES[1], "+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=", LEAVES[4]),
    (3, 5): (LEAVES[2], LEAVES[3], "wgiIFdZfYNv6WU1OllBKsWnLYIS/DBMqt8Uh/S4OukE=", LEAVES[4]),
}


def note(size: int) -> str:
    return f"{ORIGIN}\n{size}\n{ROOTS[size]}\n\n— {ORIGIN} {SIGNATURES[size]}\n"


def request(old: int, size: int, proof: tuple[str, ...] | None = None) -> bytes:
    lines = PROOFS.get((old, size), ()) if proof is None else proof
    return (f"old {old}\n" + "".join(f"{line}\n" for line in lines) + "\n" + note(size)).encode()
