from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from voxelvault_fl.processes.environment import quiet
from voxelvault_fl.processes.outgoing import is_loopback

TRIES = """
import socket, sys
from pathlib import Path
from voxelvault_fl.processes.outgoing import CalledElsewhere, stay_here
stay_here(Path(sys.argv[1]), [("192.0.2.7", 8443)])
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname()).close()
def refused(call):
    try:
        call()
    except CalledElsewhere:
        return True
    except OSError:
        return False
    return False
link = socket.socket()
link.settimeout(0.01)
print(refused(lambda: socket.getaddrinfo("telemetry.example.org", 443)))
print(refused(lambda: link.connect(("192.0.2.1", 443))))
print(refused(lambda: socket.socket().connect_ex(("192.0.2.1", 80))))
print(refused(lambda: link.connect(("192.0.2.7", 8443))))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(refused(lambda: datagrams.sendto(b"x", ("192.0.2.1", 53))))
print(refused(lambda: datagrams.sendmsg([b"x"], [], 0, ("192.0.2.1", 54))))
print(refused(lambda: socket.gethostbyname("telemetry.example.org")))
print(refused(lambda: socket.gethostbyaddr("192.0.2.1")))
print(refused(lambda: datagrams.sendto(b"x", listener.getsockname())))
"""


def test_what_leaves_the_machine_is_refused_and_written_down(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRIES, str(tmp_path / "calls")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True"] * 3 + ["False"] + ["True"] * 4 + ["False"]
    assert (tmp_path / "calls").read_text().splitlines() == [
        "socket.getaddrinfo port 443",
        "socket.connect port 443",
        "socket.connect port 80",
        "socket.sendto port 53",
        "socket.sendmsg port 54",
        "socket.gethostbyname port none",
        "socket.gethostbyaddr port none",
    ]


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        (b"127.0.0.2", True),
        (None, True),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("0.0.0.0", False),
    ],
)
def test_loopback_is_known(host: str | bytes | None, here: bool) -> None:
    assert is_loopback(host) is here


def test_the_environment_has_no_way_home_and_no_proxy(tmp_path: Path) -> None:
    given = {"PATH": "/bin", "HTTPS_PROXY": "http://p", "all_proxy": "x", "FLWR_TELEMETRY_ENABLED": "1"}
    made = quiet(tmp_path, given)
    assert made["PATH"] == "/bin"
    assert (made["FLWR_TELEMETRY_ENABLED"], made["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")
    assert made["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not {"HTTPS_PROXY", "all_proxy"} & set(made)
