"""Our SuperLink on loopback: its sites are registered, its options are tried out, its runs are ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from flwr.common.constant import Status
from flwr.common.serde import run_from_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.supernode.fleet_http_client import FleetHttpClient

from voxelvault_fl.errors import StrangeSuperLink
from voxelvault_fl.processes.bundle import bundle
from voxelvault_fl.processes.tasks import SERVER_TASK, Claimed, Runtime
from voxelvault_fl.provisioning.keys import node_key_of, node_text
from voxelvault_fl.provisioning.roster import Party

_COMPONENT = "flwr-serverapp"


@dataclass(frozen=True)
class Node:
    """A SuperNode as the SuperLink knows it: its number, and whether its lease runs."""

    id: int
    online: bool


class SuperLink:
    """What our server does with its SuperLink.

    Parameters
    ----------
    runtime : Runtime
        Address, secret and certificate of the SuperLink on loopback.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._control = ControlHttpClient.from_server_address(
            runtime.address, False, runtime.authority, [RuntimeVersionHttpInterceptor(component_name="flwr")]
        )

    def close(self) -> None:
        """Close its connections."""
        self._control.close()
        self._runtime.close()

    def check(self) -> None:
        """Try what must not work; see that it doesn't.

        Raises
        ------
        StrangeSuperLink
            It registers strangers, or gives tasks to processes that don't share the secret.
        """
        stranger = RegisterNodeFleetRequest(public_key=b"no key")
        with FleetHttpClient.from_server_address(
            self._runtime.address, False, self._runtime.authority, []
        ) as fleet:
            self._must_refuse(lambda: fleet.RegisterNode(stranger), "--enable-supernode-auth")
        with RuntimeHttpClient.from_server_address(
            self._runtime.address,
            False,
            self._runtime.authority,
            [RuntimeVersionHttpInterceptor(component_name="SuperExec")],
        ) as other:
            anything = AcquireTaskRequest(supported_task_types=[SERVER_TASK])
            self._must_refuse(lambda: other.AcquireTask(anything), "--superexec-auth-secret-file")

    def nodes(self) -> dict[str, Node]:
        """Return the registered SuperNodes by their public key, PEM."""
        listed = self._control.ListNodes(ListNodesRequest()).nodes_info
        present = [one for one in listed if one.status != "unregistered"]
        return {one.public_key.decode(): Node(one.node_id, one.status == "online") for one in present}

    def register(self, sites: tuple[Party, ...]) -> None:
        """Register the SuperNodes of the admitted sites, and unregister all others."""
        known = self.nodes()
        wanted = {node_text(node_key_of(site.node_key)): site.name for site in sites}
        for key in wanted.keys() - known.keys():
            self._control.RegisterNode(RegisterNodeRequest(public_key=key.encode(), name=wanted[key]))
        for key in known.keys() - wanted.keys():
            self._control.UnregisterNode(UnregisterNodeRequest(node_id=known[key].id))

    def end_runs(self) -> None:
        """End the runs that a killed process left: what it didn't finish sending is waited for by nobody."""
        for number, run in self._control.ListRuns(ListRunsRequest()).run_dict.items():
            if run.status.status != Status.FINISHED:
                self._control.StopRun(StopRunRequest(run_id=number))

    @contextmanager
    def run(self, patience: float = 30.0) -> Iterator[HttpGrid]:
        """Start a run of ours and give Flower's grid for it; the run ends with the block.

        Raises
        ------
        StrangeSuperLink
            The SuperLink does not give the run's task to this process.
        """
        ours = bundle()
        started = self._control.StartRun(StartRunRequest(fab=Fab(hash_str=ours.digest, content=ours.content)))
        claimed = self._claim(started.run_id, patience)
        with self._runtime.working(claimed, _COMPONENT) as client:
            given = client.PullTaskInput(PullTaskInputRequest())
            TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, given.run.run_id
            TaskIdentity.node_id = given.context.node_id
            grid = HttpGrid(self._runtime.address, False, self._runtime.authority, token=claimed.token)
            grid.set_run(run_from_proto(given.run))
            try:
                yield grid
            except BaseException:
                self._control.StopRun(StopRunRequest(run_id=started.run_id))
                raise
            finally:
                grid.close()

    def _claim(self, run: int, patience: float) -> Claimed:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            claimed = self._runtime.claim(SERVER_TASK)
            if claimed is not None and claimed.run == run:
                return claimed
            if claimed is not None:
                # Somebody on this machine started an app of his own: it is not run.
                self._runtime.refuse(claimed, _COMPONENT)
            else:
                time.sleep(0.1)
        raise StrangeSuperLink(
            "the SuperLink gives the run to another process; start it with `federated serve`"
        )

    @staticmethod
    def _must_refuse(call: object, option: str) -> None:
        try:
            call()  # type: ignore[operator]
        except httpx.HTTPStatusError:
            return
        raise StrangeSuperLink(f"the SuperLink runs without {option}; start it with `federated serve`")


__all__ = ["Node", "SuperLink"]
