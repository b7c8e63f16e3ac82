"""A gate's files before it starts, and what it is told while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from voxelvault_fl.errors import ProcessFailed
from voxelvault_fl.gate.configuration import Gate, connector_configuration, gate_configuration, map_lines
from voxelvault_fl.gate.haproxy import tell
from voxelvault_fl.provisioning.files import private_folder, write
from voxelvault_fl.provisioning.kit import Kit
from voxelvault_fl.provisioning.roster import Party


def write_gate(gate: Gate, sites: Iterable[Party]) -> Path:
    """Write what the gate of a server reads at its start, and return its configuration file."""
    sites = list(sites)
    private_folder(gate.folder)
    private_folder(gate.sockets)
    _together(gate.kit, gate.folder / "server.pem")
    write(gate.revoked, (gate.kit / "crl.pem").read_bytes())
    write(gate.admitted, "".join(f"{one} {name}\n" for one, name in map_lines(sites)).encode())
    made = gate.folder / "haproxy.cfg"
    write(made, gate_configuration(gate, sites).encode())
    return made


def write_connector(kit: Kit, folder: Path, local: Path, listens: int) -> Path:
    """Write what a site's connector reads at its start, and return its configuration file."""
    private_folder(folder)
    _together(kit.path, folder / "client.pem")
    server = kit.consortium.server
    made = folder / "haproxy.cfg"
    said = connector_configuration(kit.path, folder, server.host, server.port, local, listens)
    write(made, said.encode())
    return made


def shut_out(gate: Gate, certificate: str, site: str) -> None:
    """Close the gate to a certificate at once: no new connection, and the open ones end.

    Parameters
    ----------
    gate : Gate
        A running gate.
    certificate : str
        SHA-256 of the certificate (DER), hex.
    site : str
        Whose it is; its other connections end too, and come back if they may.

    Raises
    ------
    ProcessFailed
        The gate does not answer, which lets nobody in either, or doesn't do it: it must start again.
    """
    _do(gate, f"del map {gate.admitted} {certificate.upper()}")
    _do(gate, f"shutdown sessions server inside-{site}/door")


def let_in(gate: Gate, certificate: str, site: str) -> None:
    """Let a renewed certificate of a site in that the gate knows already.

    Raises
    ------
    ProcessFailed
        The gate does not answer, or doesn't do it.
    """
    _do(gate, f"add map {gate.admitted} {certificate.upper()} {site}")


def replace_revoked(gate: Gate, listed: bytes) -> None:
    """Have a running gate refuse the certificates of a new list already in the handshake.

    Raises
    ------
    ProcessFailed
        The gate does not take the list.
    """
    text = "\n".join(line for line in listed.decode().splitlines() if line)
    tell(gate.control, f"set ssl crl-file {gate.revoked} <<\n{text}\n")
    answer = tell(gate.control, f"commit ssl crl-file {gate.revoked}")
    if "Success" not in answer:
        raise ProcessFailed("the gate does not take the list of the revoked; see log/gate.log")
    write(gate.revoked, listed)


def connections(gate: Gate, site: str) -> int:
    """Return how many connections a site has open at the gate.

    Raises
    ------
    ProcessFailed
        The gate does not answer.
    """
    lines = tell(gate.control, "show stat").splitlines()
    columns = lines[0].removeprefix("# ").split(",")
    rows = [dict(zip(columns, line.split(","), strict=False)) for line in lines[1:]]
    mine = [row for row in rows if (row["pxname"], row["svname"]) == (f"inside-{site}", "BACKEND")]
    return int(mine[0]["scur"]) if mine else 0


def _do(gate: Gate, said: str) -> None:
    """Tell the gate to do something of which it says nothing when it is done."""
    if tell(gate.control, said):
        raise ProcessFailed("the gate does not do what it is told; see log/gate.log")


def _together(kit: Path, made: Path) -> None:
    write(made, (kit / "tls.pem").read_bytes() + (kit / "tls.key").read_bytes(), private=True)


__all__ = ["connections", "let_in", "replace_revoked", "shut_out", "write_connector", "write_gate"]
