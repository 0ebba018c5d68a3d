"""The control process' end of the Unix socket, spoken to byte by byte."""

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from midwife.serve.control.desk import Desk
from midwife.serve.messages import (
    Ask,
    Content,
    Flush,
    Found,
    Message,
    Outcome,
    Push,
    Pushed,
    Refused,
    Report,
    decode,
    encode,
    split_attempt,
)


class Wire:
    """One data plane's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def say(self, line: bytes) -> None:
        self.writer.write(line)

    async def hear(self) -> Message:
        return decode(await asyncio.wait_for(self._reader.readline(), 10))

    async def hung_up(self) -> bool:
        return await asyncio.wait_for(self._reader.read(), 10) == b""


Connect = Callable[[], Awaitable[Wire]]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    def resolve(ask: Ask) -> Outcome:
        if ask.name == "bug":
            secret_of_ours = "hunter2"  # a renderer that prints local variables would show it
            raise RuntimeError(f"a bug in {len(secret_of_ours)} letters")
        return Refused(ask.id, f"no {ask.name}")

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "desk.sock"))
    listener.listen()
    desk = Desk(resolve, lambda _report: None, lambda push: Pushed(push.id, True, f"pushing {push.host}"))
    await desk.start(listener)
    yield desk
    await desk.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 10)


@pytest.fixture
async def connect(tmp_path: Path, desk: Desk) -> AsyncIterator[Connect]:
    wires: list[Wire] = []

    async def one() -> Wire:
        wires.append(Wire(*await asyncio.open_unix_connection(tmp_path / "desk.sock")))
        return wires[-1]

    yield one
    for wire in wires:
        wire.writer.close()
        with contextlib.suppress(OSError):
            await wire.writer.wait_closed()


async def test_whoever_connects_is_told_to_forget_what_it_knew(desk: Desk, connect: Connect) -> None:
    first, second = await connect(), await connect()
    assert await first.hear() == Flush()
    assert await second.hear() == Flush()
    desk.flush()
    assert await first.hear() == Flush()
    assert await second.hear() == Flush()


async def test_answers_carry_the_number_of_their_question(desk: Desk, connect: Connect) -> None:
    plane = await connect()
    await plane.hear()
    for number in (7, 3, 5):
        plane.say(encode(Ask(number, "tftp", f"name-{number}", "192.0.2.7")))
    for number in (7, 3, 5):
        assert await plane.hear() == Refused(number, f"no name-{number}")


async def test_a_broken_line_ends_that_connection_only(desk: Desk, connect: Connect) -> None:
    good, bad = await connect(), await connect()
    await good.hear()
    await bad.hear()
    bad.say(b'{"op":"ask","id":1}\n')
    assert await bad.hung_up()
    good.say(encode(Ask(1, "http", "x", "192.0.2.7")))
    assert await good.hear() == Refused(1, "no x")


async def test_a_line_without_end_is_cut_off(desk: Desk, connect: Connect) -> None:
    bad = await connect()
    await bad.hear()
    bad.say(b"x" * (3 << 20))
    with pytest.raises((AssertionError, ConnectionError)):  # hung up, with or without a reset
        assert not await bad.hung_up()


async def test_a_bug_is_logged_without_local_variables(
    desk: Desk, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    monkeypatch.setattr(
        desk,
        "_log",
        structlog.wrap_logger(structlog.PrintLogger(said), [structlog.processors.LogfmtRenderer()]),
    )
    plane = await connect()
    await plane.hear()
    plane.say(encode(Ask(1, "http", "bug", "192.0.2.7")))
    answer = await plane.hear()
    assert isinstance(answer, Refused)
    assert (answer.id, answer.status) == (1, 500)
    assert "RuntimeError" in said.getvalue()
    assert said.getvalue().count("\n") == 1
    assert "secret_of_ours = " not in said.getvalue(), "the line of the source is shown, the values are not"
    plane.say(encode(Ask(2, "http", "x", "192.0.2.7")))
    assert await plane.hear() == Refused(2, "no x")


async def test_a_person_may_ask_for_a_push(desk: Desk, connect: Connect) -> None:
    command = await connect()
    await command.hear()
    command.say(encode(Push(1, "esx-01")))
    assert await command.hear() == Pushed(1, True, "pushing esx-01")


# the messages themselves

words = st.text(max_size=40)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Ask, st.integers(), words, words, words, words, st.dictionaries(words, words, max_size=3), words
    ),
    st.builds(Found, st.integers(), words, st.integers(), words, st.booleans()),
    st.builds(Content, st.integers(), st.binary(max_size=99), words, words),
    st.builds(Refused, st.integers(), words, st.integers()),
    st.builds(
        Report, words, words, words, words, words, st.integers(), st.integers(), st.floats(0, 9), words
    ),
    st.builds(Push, st.integers(), words, words, st.lists(words, max_size=3)),
    st.builds(Pushed, st.integers(), st.booleans(), words),
    st.just(Flush()),
)


@given(messages)
def test_a_message_is_one_line_and_survives_it(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line) == message


@given(st.one_of(st.binary(max_size=200), messages.map(encode).map(lambda line: line.replace(b'"', b"", 1))))
def test_anything_else_is_one_kind_of_error(line: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert encode(decode(line))


@given(st.text(alphabet="a/bk3", max_size=12))
def test_taking_the_attempt_off_never_invents_a_name(name: str) -> None:
    attempt, rest = split_attempt(name)
    assert name.lstrip("/") == (f"a/{attempt}/{rest}" if attempt else rest)
