"""What HAProxy is told, at the server and at a site.

A connection passes two steps at the server. The first, per connection, ends TLS 1.3: the certificate must be
from the consortium's authority, not on the list of the revoked, and its SHA-256 must stand in the map of the
admitted. The second, per request, is a front end of each site's own: the header with the SuperNode's public
key must be that site's, byte for byte, the path one of the fleet API, and the body no larger than an object
of Flower's. So a certificate, a node key and a site's name are one thing, and no rule can be mixed up between
sites. SuperLink itself checks that the node key signed the request.

References
----------
HAProxy 2.6 configuration manual, 4.2 (tcp-request, http-request), 5.1 (bind) and 7.3.4 (ssl_c_der).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from voxelvault_fl.processes.contact import CONNECTOR_LOG
from voxelvault_fl.provisioning.roster import Party

FLEET_CALLS = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
"""Calls of `/v1/fleet/` that a registered SuperNode makes; registering is the server's own affair."""

LARGEST_BODY = 8 * 1024 * 1024
"""Bytes: Flower cuts arrays into objects of 5 MiB, however large the model."""

FROM_ONE_ADDRESS = 64
"""Connections: a stranger without a certificate must not take all of them by never shaking hands."""

_COMMON = """\
global
    log stdout format raw local0
    maxconn 512
    hard-stop-after 5s
    ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
    tune.ssl.cachesize 0
    ssl-default-server-options ssl-min-ver TLSv1.3
    tune.bufsize 32768
{extra}
defaults
    log global
    option dontlognull
    timeout connect 5s
    timeout client 90s
    timeout server 90s
    timeout http-request 30s
    timeout http-keep-alive 90s
    timeout client-fin 10s
    timeout server-fin 10s
"""


@dataclass(frozen=True)
class Gate:
    """Files and addresses of a server's gate.

    Parameters
    ----------
    folder : Path
        Its configuration and map.
    sockets : Path
        Folder of its Unix sockets: a short path, for theirs may have 97 bytes.
    kit : Path
        The server's kit: `tls.pem`, `tls.key`, `ca.pem`, `crl.pem`.
    host, port
        Where it listens.
    superlink : int
        Port of the SuperLink on loopback.
    local_authority : Path
        The certificate that vouches for the SuperLink's.
    """

    folder: Path
    sockets: Path
    kit: Path
    host: str
    port: int
    superlink: int
    local_authority: Path

    @property
    def control(self) -> Path:
        """The runtime socket."""
        return self.sockets / "control"

    @property
    def admitted(self) -> Path:
        """The map of certificates to sites."""
        return self.folder / "admitted.map"

    @property
    def revoked(self) -> Path:
        """The list of revoked certificates that HAProxy has loaded."""
        return self.folder / "crl.pem"


def map_lines(sites: Iterable[Party]) -> list[tuple[str, str]]:
    """Return which certificate, as HAProxy writes its SHA-256, is which site's."""
    return [(one.upper(), site.name) for site in sites for one in site.certificates]


def gate_configuration(gate: Gate, sites: Iterable[Party]) -> str:
    """Return the configuration of the server's gate."""
    sites = list(sites)
    extra = f"    stats socket {gate.control} mode 600 level admin\n    stats timeout 10s"
    parts = [_COMMON.format(extra=extra), _entrance(gate)]
    for site in sites:
        parts += [_inside(gate, site), _door(gate, site)]
    parts.append(_superlink(gate))
    return "\n".join(parts)


def connector_configuration(kit: Path, folder: Path, host: str, port: int, local: Path, listens: int) -> str:
    """Return the configuration of a site's connector: loopback in, mutual TLS to one address out.

    It doesn't start where the server's name can't be resolved: it looks once, and would serve nobody ever.

    Parameters
    ----------
    kit : Path
        The site's kit.
    folder : Path
        Where certificate and key stand in one file.
    host, port
        The server's gate.
    local : Path
        Certificate and key for loopback, in one file.
    listens : int
        Port of loopback at which the SuperNode finds it.
    """
    return f"""{_COMMON.format(extra="")}
frontend supernode
    mode tcp
    log-format "{CONNECTOR_LOG}"
    bind 127.0.0.1:{listens} ssl crt {local}
    default_backend gate

backend gate
    mode tcp
    server gate {host}:{port} ssl crt {folder / "client.pem"} ca-file {kit / "ca.pem"} \
crl-file {kit / "crl.pem"} verify required verifyhost server sni str(server) init-addr libc
"""


def _entrance(gate: Gate) -> str:
    admitted = f"ssl_c_der,sha2(256),hex,map({gate.admitted})"
    return f"""
frontend entrance
    mode tcp
    bind {gate.host}:{gate.port} ssl crt {gate.folder / "server.pem"} ca-file {gate.kit / "ca.pem"} \
verify required crl-file {gate.revoked}
    log-format "entrance site=%[var(sess.site)] bytes=%U/%B ended=%ts"
    stick-table type ipv6 size 10k expire 2m store conn_cur
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_cur gt {FROM_ONE_ADDRESS} }}
    tcp-request session set-var(sess.site) {admitted}
    tcp-request session reject unless {{ var(sess.site) -m found }}
    use_backend inside-%[var(sess.site)]
"""


def _inside(gate: Gate, site: Party) -> str:
    return f"""
backend inside-{site.name}
    mode tcp
    server door unix@{gate.sockets / site.name}
"""


def _door(gate: Gate, site: Party) -> str:
    key = b64encode(site.node_key.encode()).decode()
    calls = " ".join(f"/v1/fleet/{one}" for one in FLEET_CALLS)
    return f"""
frontend door-{site.name}
    mode http
    maxconn 64
    bind unix@{gate.sockets / site.name} mode 600
    log-format "door site={site.name} status=%ST call=%HP bytes=%U/%B ended=%ts"
    acl key req.hdr(flwr-public-key) -m str {key}
    acl one_key req.hdr_cnt(flwr-public-key) eq 1
    acl call path -m str {calls}
    acl bounded req.hdr_val(content-length) le {LARGEST_BODY}
    http-response set-log-level silent if {{ status 200 }}
    http-request deny status 405 unless METH_POST
    http-request deny status 404 unless call
    http-request deny status 403 unless one_key key
    http-request deny status 411 unless {{ req.hdr_cnt(content-length) eq 1 }}
    http-request deny status 413 unless bounded
    default_backend superlink
"""


def _superlink(gate: Gate) -> str:
    return f"""
backend superlink
    mode http
    server superlink 127.0.0.1:{gate.superlink} ssl ca-file {gate.local_authority} verify required \
verifyhost localhost sni str(localhost)
"""


__all__ = [
    "FLEET_CALLS",
    "FROM_ONE_ADDRESS",
    "LARGEST_BODY",
    "Gate",
    "connector_configuration",
    "gate_configuration",
    "map_lines",
]
