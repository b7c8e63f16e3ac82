"""Flower's runtime API on loopback: our process takes the tasks that Flower would start an app for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushTaskOutputRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient

SERVER_TASK, CLIENT_TASK = TaskType.SERVER_APP, TaskType.CLIENT_APP
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_MOMENT = 10.0


@dataclass(frozen=True)
class Claimed:
    """A task that is ours: its run, and the token with which it is worked on."""

    run: int
    token: str


class _Client(RuntimeHttpClient):
    def PullMessages(self, request: PullAppMessagesRequest) -> PullAppMessagesResponse:
        """Return the message of a task: the task is there a moment before it."""
        until = time.monotonic() + _MOMENT
        while not (given := super().PullMessages(request)).messages_list and time.monotonic() < until:
            time.sleep(0.05)
        return given


@dataclass(frozen=True)
class Runtime:
    """A runtime API of loopback.

    Parameters
    ----------
    address : str
        Host and port.
    secret : bytes
        Shared with the process that serves it: no other process of the machine gets a task.
    authority : bytes, optional
        PEM, where it is served with TLS.
    """

    address: str
    secret: bytes
    authority: bytes | None = None

    @cached_property
    def _asking(self) -> RuntimeHttpClient:
        signed = SuperExecAuthHttpInterceptor(master_secret=self.secret, protected_methods=[_ACQUIRE])
        return self._client("SuperExec", signed)

    def claim(self, kind: str) -> Claimed | None:
        """Take the oldest task of a kind, if there is one."""
        given = self._asking.AcquireTask(AcquireTaskRequest(supported_task_types=[kind]))
        return Claimed(given.task.run_id, given.token) if given.HasField("task") and given.token else None

    @contextmanager
    def working(self, claimed: Claimed, component: str) -> Iterator[RuntimeHttpClient]:
        """Work on a task: it is kept alive meanwhile, and finished at the end.

        One that broke off is left to expire: only then does a SuperNode make an answer of its own. Told that
        the task failed, version 1.41 waits on for an answer that nobody gives, and asks for nothing else.
        """
        with self._client(component, RuntimeTokenHttpInterceptor(claimed.token)) as client:
            beating = HeartbeatSender(make_task_heartbeat_fn_http(client))
            beating.start()
            try:
                yield client
            finally:
                beating.stop()
            client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.COMPLETED, details=""))

    def refuse(self, claimed: Claimed, component: str) -> None:
        """Finish a task that isn't ours, without looking at what it would run."""
        with self._client(component, RuntimeTokenHttpInterceptor(claimed.token)) as client:
            client.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.FAILED, details="refused"))

    def close(self) -> None:
        """Close the connection over which tasks are asked for."""
        if "_asking" in vars(self):
            self._asking.close()
            del vars(self)["_asking"]

    def _client(
        self, component: str, asking: SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor
    ) -> RuntimeHttpClient:
        return _Client.from_server_address(
            self.address,
            self.authority is None,
            self.authority,
            [RuntimeVersionHttpInterceptor(component_name=component), asking],
        )


__all__ = ["CLIENT_TASK", "SERVER_TASK", "Claimed", "Runtime"]
