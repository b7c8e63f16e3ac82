from __future__ import annotations

import socket

import pytest

from voxelvault_fl.errors import ProcessFailed
from voxelvault_fl.processes.ports import LOOPBACK, free_port, require_free


def test_a_port_at_which_somebody_listens_is_said_to_be_taken() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ProcessFailed, match=f"port {port} is taken"):
            require_free(LOOPBACK, port, patience=0)
    require_free(LOOPBACK, port, patience=0)


def test_an_address_of_another_machine_is_none_to_listen_at() -> None:
    with pytest.raises(ProcessFailed, match="nobody can listen"):
        require_free("203.0.113.1", free_port(), patience=0)
