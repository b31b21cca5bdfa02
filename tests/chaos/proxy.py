"""
What is between a node and PostgreSQL, and can be cut, paused, slowed down and closed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any


class Network:
    """The thread in which all proxies are."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Do something there, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


class Proxy:
    """
    A TCP port that leads to a Unix socket.  All methods may be called from any thread.

    @ivar port: where it listens, on the loopback.
    @ivar delay: how long each piece of data is kept, in either direction, s.
    """

    def __init__(self, network: Network, target: Path) -> None:
        self.delay = 0.0
        self._network = network
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server = network.run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    def _soon(self, action: Callable[[], object]) -> None:
        self._network.loop.call_soon_threadsafe(action)

    def cut(self) -> None:
        """End all connections; new ones can be made."""
        self._soon(self._abort)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def pause(self) -> None:
        """Let nothing through, and lose nothing: what is sent comes later."""
        self._soon(self._open.clear)

    def goOn(self) -> None:
        """Let everything through again, and let everybody in."""
        self._refuses = False
        self.delay = 0.0
        self._soon(self._open.set)

    def refuse(self) -> None:
        """End all connections, and let nobody in."""
        self._refuses = True
        self.cut()

    def close(self) -> None:
        """End all of it."""
        self._soon(self._server.close)
        self.refuse()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        other = None
        try:
            await self._open.wait()
            if not self._refuses:
                upstream, other = await asyncio.open_unix_connection(str(self._target))
                self._writers.add(other)
                await asyncio.gather(self._pump(reader, other), self._pump(upstream, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in filter(None, (writer, other)):
                self._writers.discard(one)
                one.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self._open.wait()
            if self._refuses:
                break
            writer.write(data)
            with suppress(ConnectionError):
                await writer.drain()
        writer.close()
