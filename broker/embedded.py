"""The embedded broker: amqtt, run in an event loop of its own; nothing else has to be installed.

`serve` runs it in this process. `python -m broker.embedded ADDRESS PORT` is the child process
that `broker.start` makes of it.
"""

# amqtt tells no types.
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType

from broker.address import Address, port_taken
from broker.mended import LISTENER, MendedBroker
from config import logs
from config.failures import ExitCode, Failure

# Connections that may wait to be accepted when a whole fleet comes back at once.
_BACKLOG = 1024
_SHUTDOWN_S = 3.0


async def serve(address: Address, ready: Callable[[], None]) -> signal.Signals:
    """Serve until SIGTERM or SIGINT and return which; `ready` is called once it listens.

    Raises Failure(PORT_TAKEN) if the address is taken, Failure(CONFIG) if it is not ours.
    """
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[signal.Signals] = loop.create_future()

    def end(number: signal.Signals) -> None:
        if not ending.done():
            ending.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    broker = MendedBroker(configuration(address))
    await broker.start()
    try:
        server = await asyncio.start_server(
            broker.serve_stream, address.host, address.port, backlog=_BACKLOG, reuse_address=True
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise port_taken(address) from error
        raise Failure(ExitCode.CONFIG, f"broker: cannot listen on {address} ({error})") from error
    ready()
    try:
        return await ending
    finally:
        server.close()
        with suppress(TimeoutError):  # what has not ended by then ends with the loop
            async with asyncio.timeout(_SHUTDOWN_S):
                await broker.end_connections()
                await broker.shutdown()


def configuration(address: Address) -> BrokerConfig:
    """amqtt's configuration: anonymous access, no statistics, connections given to it by us."""
    listener = ListenerConfig(type=ListenerType.EXTERNAL, bind=str(address))
    return BrokerConfig(
        listeners={LISTENER: listener},
        plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    )


def main(argv: Sequence[str]) -> int:
    """Serve on the address and port that are given, as a child process; stderr is the log."""
    logs.configure("broker", "info")
    quiet_amqtt()
    host, port = argv
    try:
        asyncio.run(serve(Address(host, int(port)), lambda: None))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.code
    return ExitCode.OK


def quiet_amqtt() -> None:
    """Let amqtt tell only of errors: it warns of every client that comes back."""
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("transitions").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
