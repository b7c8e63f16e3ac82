"""The warm executor of a site: takes the tasks of `flwr-clientapp` and answers messages itself.

Flower would install the bundle that the server sent and load its ClientApp in a fresh process. Ours is there
already, has its model and data loaded, hands the bytes of a message to the rules of the site and runs nothing
that came over the wire. What goes out is the answer of those rules, or one fixed word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

from voxelvault_fl.processes.envelope import fault_reply, unwrap, wrap
from voxelvault_fl.processes.pace import Pace
from voxelvault_fl.processes.tasks import CLIENT_TASK, Runtime

_COMPONENT = "flwr-clientapp"


@dataclass(frozen=True)
class Executor:
    """Answers what a SuperNode pulled.

    Parameters
    ----------
    runtime : Runtime
        The SuperNode's runtime API.
    allowed : frozenset of str
        SHA-256 of bundles under which runs may come; they are compared and never opened.
    answer : callable
        The site's rules: bytes of a message in, bytes of the answer out.
    log : callable
        The site's own log; the only place where an exception's text goes.
    """

    runtime: Runtime
    allowed: frozenset[str]
    answer: Callable[[bytes], bytes]
    log: Callable[[BaseException], None]

    def serve(self, going_on: Callable[[], bool], pause: float = 0.3) -> None:
        """Answer one message after the other for as long as `going_on` says.

        Parameters
        ----------
        going_on : callable
            Tells whether to.
        pause : float
            Most seconds between two looks for a message.
        """
        pace = Pace(pause)
        while going_on():
            try:
                busy = self.once()
            except (httpx.HTTPError, OSError, ObjectPullError) as error:
                # The SuperNode is down or starts again, or the message never came whole; what is loaded
                # here stays loaded.
                self.log(error)
                busy = False
            if busy:
                pace.came()
            else:
                pace.rest()

    def once(self) -> bool:
        """Answer one message; tell whether there was one."""
        claimed = self.runtime.claim(CLIENT_TASK)
        if claimed is None:
            return False
        with self.runtime.working(claimed, _COMPONENT) as client:
            message, context, _, bundle = pull_task_input(client)
            push_message(client, self._reply(message, bundle.content), context)
        return True

    def _reply(self, message: Message, bundle: bytes) -> Message:
        if hashlib.sha256(bundle).hexdigest() not in self.allowed:
            return fault_reply("app-not-allowed", message)
        try:
            return Message(wrap(self.answer(unwrap(message.content))), reply_to=message)
        except Exception as error:
            self.log(error)
            return fault_reply(getattr(error, "rule", "failed"), message)


__all__ = ["Executor"]
