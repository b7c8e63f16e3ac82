"""The app of plain Flower, as its own tutorial writes one; and a process that keeps its ClientApp warm.

`python -m benchmarks.federated_app PORT SECRET` answers for a SuperNode whose apps run in processes of
their own; Flower itself would start one a message.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from benchmarks.federated_parts import SITES, task_of
from voxelvault_fl.jobs.task import Task, Turn, Weights
from voxelvault_fl.processes.pace import Pace

LOOK, REST = 0.2, 0.3
"""Most seconds between two looks of a server, and of a warm process, that are as quick as ours."""

client, server = ClientApp(), ServerApp()


def _task(context: Context) -> Task:
    return task_of(str(context.run_config["task"]), str(context.node_config["site"]))


def _weights(message: Message, task: Task) -> Weights:
    arrays = message.content.array_records["arrays"].to_numpy_ndarrays()
    return dict(zip(task.init(0), arrays, strict=True))


@client.train()
def train(message: Message, context: Context) -> Message:
    """Train from the weights that came."""
    task = _task(context)
    number = message.content.config_records["config"]["server-round"]
    assert isinstance(number, int)
    made = task.train(_weights(message, task), Turn(number, 0))
    metrics = MetricRecord({**made.metrics, "num-examples": made.examples})
    arrays = ArrayRecord(numpy_ndarrays=list(made.weights.values()))
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the weights that came."""
    task = _task(context)
    found = task.evaluate(_weights(message, task))
    metrics = MetricRecord({**found.metrics, "num-examples": found.examples})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


class Timed(FedAvg):
    """FedAvg that notes when each round's updates were joined."""

    def __init__(self, told: Path) -> None:
        super().__init__(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3)
        self._told = told
        self.joined: Callable[[], None] = lambda: None

    def aggregate_train(self, server_round, replies):  # type: ignore[no-untyped-def]
        """Join them."""
        made = super().aggregate_train(server_round, replies)
        self.joined()
        with self._told.open("a") as file:
            file.write(f"{time.time()}\n")
        return made

    def aggregate_evaluate(self, server_round, replies):  # type: ignore[no-untyped-def]
        """Pool figures."""
        self.joined()
        return super().aggregate_evaluate(server_round, replies)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    settings = context.run_config
    told = Path(str(settings["told"]))
    strategy = Timed(told)
    if settings["quick"]:
        from flwr.superlink.grid import http_grid

        # Flower has no option for it, and rests 3 s.
        pace = Pace(LOOK)
        vars(http_grid)["time"] = SimpleNamespace(time=time.time, sleep=lambda wish: pace.rest())
        strategy.joined = pace.came
    first = ArrayRecord(numpy_ndarrays=list(task_of(str(settings["task"]), SITES[0]).init(0).values()))
    strategy.start(grid, first, num_rounds=int(settings["rounds"]), timeout=600)
    with told.open("a") as file:
        file.write("end\n")


def answer(port: str, secret: str) -> None:
    """Answer one message after the other."""
    from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

    from voxelvault_fl.processes.tasks import CLIENT_TASK, Runtime

    pace = Pace(REST)
    runtime = Runtime(f"127.0.0.1:{port}", Path(secret).read_bytes())
    while True:
        claimed = runtime.claim(CLIENT_TASK)
        if claimed is None:
            pace.rest()
            continue
        with runtime.working(claimed, "flwr-clientapp") as asking:
            message, context, _, _ = pull_task_input(asking)
            push_message(asking, client(message, context), context)
        pace.came()


if __name__ == "__main__":
    answer(*sys.argv[1:])
