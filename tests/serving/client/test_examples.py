"""Every public method shows how it is called, and what it shows works."""

from __future__ import annotations

import asyncio
import doctest
import inspect
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

import serving.client
from serving.client import AsyncClient, Client
from tests.serving.test_process import serving as service_at

PARSER = doctest.DocTestParser()


def examples(thing: Any) -> list[doctest.Example]:
    return PARSER.get_examples(inspect.getdoc(thing) or "")


def methods(client: type) -> list[Any]:
    return [getattr(client, name) for name in vars(client) if not name.startswith("_")]


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_every_method_has_an_example(client: type) -> None:
    assert [method.__name__ for method in methods(client) if not examples(method)] == []
    assert examples(client)


def test_the_examples_work(url: str) -> None:
    with Client(url) as client:
        for method in methods(Client):
            names = {"client": client}
            for example in examples(method):
                if example.want:
                    assert repr(eval(example.source, names)) + "\n" == example.want  # the project's own text
                else:
                    exec(example.source, names)


def test_the_examples_with_await_work(url: str) -> None:
    async def run(source: str) -> None:
        names: dict[str, Any] = {}
        exec(f"async def example(client):\n{indent(source, '    ')}", names)
        async with AsyncClient(url) as client:
            await names["example"](client)

    for method in methods(AsyncClient):
        asyncio.run(run("".join(example.source for example in examples(method))))


def test_the_examples_of_values_work() -> None:
    for thing in (serving.client.NewEvent, serving.client.picture):
        names = {thing.__name__: thing}
        test = PARSER.get_doctest(inspect.getdoc(thing) or "", names, thing.__name__, None, 0)
        assert doctest.DocTestRunner().run(test).failed == 0


def test_a_process_without_a_release_is_spoken_to_as_well(tmp_path: Path) -> None:
    (tmp_path / "recsys.toml").write_text("[serving]\nlive_poll_s = 0.1\nrelease_poll_s = 0.1\n")
    with service_at(tmp_path) as (_, base), Client(base) as client:
        assert client.health().status == "ok"
        assert client.recommendations(user_id="42").degraded == ("release",)
        with pytest.raises(serving.client.Unavailable, match="no release"):
            client.ready()
