"""The merchants of the fault suite, a process of its own: they answer by path and attempt, and write down what came.

Shares no code with notifier; signatures are checked by an implementation of others. First line on stdout: the port.
Then a line of JSON per request, written before it is answered: `id` (webhook-id), `attempt`, `moment` (Unix
milliseconds, when line and headers had come), `key` (from the body, what the producer called it), `fault` (what is
wrong with the signature, or null), `beside` (requests to the same merchant, with the same attempt, that were being
answered, this one included). SIGUSR1 makes the merchants of `/hang` let go of what they hold.

    merchants.py SECRET
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter

import standardwebhooks
from aiohttp import web

#: Seconds until the answer.
SLOW, HANG = 0.15, 8.0
#: An address at which they listen as well, and which the service under test is not allowed to call.
FORBIDDEN = "127.0.0.2"


class Merchants:
    """Paths are `/KIND/MERCHANT`. `prompt` acknowledges at once, `slow` after a while, `flaky` at its second attempt,
    `hang` after long.
    """

    def __init__(self, secret: str) -> None:
        self._verifier = standardwebhooks.Webhook(secret)
        self._let_go = asyncio.Event()
        self._running: Counter[tuple[str, int]] = Counter()

    def let_go(self) -> None:
        """Those who hang answer now."""
        self._let_go.set()
        self._let_go = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Write it down, then answer as this merchant does."""
        moment = time.time() * 1000
        body = await request.read()
        attempt = int(request.headers["notifier-attempt"])
        kind, merchant = request.path.strip("/").split("/")
        lane = merchant, attempt
        self._running[lane] += 1
        line = {
            "id": request.headers["webhook-id"],
            "attempt": attempt,
            "moment": moment,
            "key": json.loads(body)["key"],
            "fault": self._fault(request, body),
            "beside": self._running[lane],
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        try:
            return await self._answer(kind, attempt)
        finally:
            self._running[lane] -= 1

    async def _answer(self, kind: str, attempt: int) -> web.Response:
        if kind == "slow":
            await asyncio.sleep(SLOW)
        elif kind == "hang":
            await asyncio.wait([asyncio.create_task(self._let_go.wait())], timeout=HANG)
        return web.Response(status=500 if kind == "flaky" and attempt == 1 else 200)

    def _fault(self, request: web.BaseRequest, body: bytes) -> str | None:
        try:
            self._verifier.verify(body, {name.lower(): value for name, value in request.headers.items()})
        except standardwebhooks.WebhookVerificationError as error:
            return str(error)
        return None


async def _serve(secret: str) -> None:
    merchants = Merchants(secret)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, merchants.let_go)
    runner = web.ServerRunner(web.Server(merchants.handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    await web.TCPSite(runner, FORBIDDEN, runner.addresses[0][1]).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
