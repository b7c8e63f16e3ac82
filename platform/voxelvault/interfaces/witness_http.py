"""A witness's two calls over HTTP.

References
----------
C2SP tlog-witness: https://c2sp.org/tlog-witness
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from voxelvault.audit.witness import BODY_LIMIT, Answer, Witness

_TOO_LONG = Answer(413, "the request is too long\n")


def witness_app(witness: Witness) -> Starlette:
    """Return an ASGI application: `POST /add-checkpoint` and `GET /<origin hash>/checkpoint`.

    Parameters
    ----------
    witness : Witness
        What decides; the submission and the monitoring prefix are one.
    """

    async def add(request: Request) -> Response:
        body = await _bounded(request)
        if body is None:
            return _response(_TOO_LONG)
        return _response(await run_in_threadpool(witness.add_checkpoint, body))

    async def newest(request: Request) -> Response:
        return _response(await run_in_threadpool(witness.checkpoint, request.path_params["origin"]))

    return Starlette(
        routes=[
            Route("/add-checkpoint", add, methods=["POST"]),
            Route("/{origin}/checkpoint", newest, methods=["GET"]),
        ]
    )


async def _bounded(request: Request) -> bytes | None:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            return None
    return bytes(body)


def _response(answer: Answer) -> Response:
    # Starlette adds a charset of its own to text/*; the specification's type has none.
    return Response(answer.body.encode(), answer.status, {"Content-Type": answer.kind})


__all__ = ["witness_app"]
