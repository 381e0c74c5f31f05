"""The delaying proxy hands on everything in order, and cuts one side when the other leaves."""

from __future__ import annotations

import asyncio

from tests.worlds.delaying_proxy import HOST, DelayingProxy


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(4096):
        writer.write(piece)
    writer.close()


def test_everything_comes_back_in_order() -> None:
    async def there_and_back() -> bytes:
        async with await asyncio.start_server(_echo, HOST, 0) as server:
            async with DelayingProxy(server.sockets[0].getsockname()[1], most_s=0.005, seed=1) as proxy:
                reader, writer = await asyncio.open_connection(HOST, proxy.port)
                for number in range(100):
                    writer.write(b"%04d" % number)
                    await asyncio.sleep(0)
                back = await reader.readexactly(400)
                writer.close()
                return back

    assert asyncio.run(there_and_back()) == b"".join(b"%04d" % number for number in range(100))


def test_when_a_client_leaves_the_server_behind_sees_its_connection_end() -> None:
    async def left() -> bool:
        ended = asyncio.Event()

        async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            except ConnectionError:
                pass
            finally:
                ended.set()
                writer.close()

        async with await asyncio.start_server(wait_for_the_end, HOST, 0) as server:
            async with DelayingProxy(server.sockets[0].getsockname()[1], most_s=0.005, seed=1) as proxy:
                _, writer = await asyncio.open_connection(HOST, proxy.port)
                writer.write(b"half a requ")
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.transport.abort()
                await asyncio.wait_for(ended.wait(), 5)
        return ended.is_set()

    assert asyncio.run(left())
