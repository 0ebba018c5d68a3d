"""The line between the HTTP data plane and the control process, with the real desk at the other end.

What must hold: nobody's boot fails because the control process was restarted, and nothing that was served is
forgotten.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from midwife.serve.control.desk import Desk
from midwife.serve.link import ControlAway, ControlLink
from midwife.serve.messages import Ask, Content, Found, Outcome, Pushed, Refused, Report


def ask(name: str) -> Ask:
    return Ask(0, "http", name, "192.0.2.7")


class Control:
    """A control process that can die and come back; the socket is the supervisor's and stays."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.asked: list[str] = []
        self.reports: list[Report] = []
        self.said = asyncio.Condition()
        self.desk: Desk | None = None

    async def start(self) -> None:
        self.desk = Desk(self._resolve, self._report, lambda push: Pushed(push.id, False, ""))
        await self.desk.start(self.listener.dup())

    async def die(self) -> None:
        assert self.desk
        await self.desk.close()
        self.desk = None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self.said:
            await self.said.wait_for(condition)

    def _resolve(self, asked: Ask) -> Outcome:
        self.asked.append(asked.name)
        self._wake()
        if asked.name == "bug":
            raise KeyError("a bug")
        if asked.name.endswith("b.b00"):
            return Found(asked.id, "/images/b.b00", 100, "k3v9", cache=True)
        if asked.name == "boot.cfg":
            return Content(asked.id, b"kernel=b.b00\n", "k3v9")
        return Refused(asked.id, "no such name")

    def _report(self, report: Report) -> None:
        self.reports.append(report)
        self._wake()
        if report.kind == "bug":
            raise RuntimeError("another bug")

    def _wake(self) -> None:
        async def notify() -> None:
            async with self.said:
                self.said.notify_all()

        self._last = asyncio.create_task(notify())


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    control = Control(tmp_path / "control.sock")
    yield control
    if control.desk:
        await control.die()
    control.listener.close()


@pytest.fixture
async def link(tmp_path: Path, control: Control) -> AsyncIterator[ControlLink]:
    link = ControlLink(tmp_path / "control.sock", timeout=10)
    task = asyncio.create_task(link.run())
    yield link
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_every_kind_of_answer_comes_back_to_who_asked(control: Control, link: ControlLink) -> None:
    await control.start()
    kernel, config, nothing = await asyncio.gather(
        link.ask(ask("8.0U3/b.b00")), link.ask(ask("boot.cfg")), link.ask(ask("x"))
    )
    assert isinstance(kernel, Found)
    assert isinstance(config, Content)
    assert config.body == b"kernel=b.b00\n"
    assert isinstance(nothing, Refused)


async def test_an_image_file_is_asked_for_once_and_counted_for_each_attempt(
    control: Control, link: ControlLink
) -> None:
    await control.start()
    answers = [await link.ask(ask(f"a/{attempt}/8.0U3/b.b00")) for attempt in ("one", "two")]
    assert [answer.attempt for answer in answers if isinstance(answer, Found)] == ["one", "two"]
    assert control.asked == ["a/one/8.0U3/b.b00"]
    assert isinstance(await link.ask(ask("boot.cfg")), Content)
    assert isinstance(await link.ask(ask("boot.cfg")), Content)
    assert control.asked.count("boot.cfg") == 2, "what is rendered is asked for every time"


async def test_a_flush_makes_it_ask_again(control: Control, link: ControlLink) -> None:
    await control.start()
    await link.ask(ask("8.0U3/b.b00"))
    assert control.desk
    control.desk.flush()
    await link.ask(ask("boot.cfg"))  # comes after the flush on the same line
    await link.ask(ask("8.0U3/b.b00"))
    assert control.asked.count("8.0U3/b.b00") == 2


async def test_a_wrong_answer_can_be_forgotten(control: Control, link: ControlLink) -> None:
    await control.start()
    await link.ask(ask("a/one/8.0U3/b.b00"))
    link.forget("a/two/8.0U3/b.b00")
    await link.ask(ask("8.0U3/b.b00"))
    assert len(control.asked) == 2


async def test_a_question_waits_for_the_next_control_process(control: Control, link: ControlLink) -> None:
    await control.start()
    await link.ask(ask("8.0U3/b.b00"))
    await control.die()
    config = asyncio.create_task(link.ask(ask("boot.cfg")))
    assert isinstance(await link.ask(ask("8.0U3/b.b00")), Found), "cached: needs nobody"
    assert not config.done()
    await control.start()
    assert isinstance(await config, Content)


async def test_a_question_that_was_under_way_is_put_again(tmp_path: Path) -> None:
    """The control process read it, and died before it answered."""
    link = ControlLink(tmp_path / "control.sock")
    lines: list[bytes] = []

    async def die_at_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        if len(lines) == 2:
            writer.write(lines[-1].replace(b'"op":"ask"', b'"op":"refused"').split(b',"proto"')[0])
            writer.write(b',"reason":"second try"}\n')
        writer.close()

    async with await asyncio.start_unix_server(die_at_the_first, tmp_path / "control.sock"):
        task = asyncio.create_task(link.run())
        answer = await asyncio.wait_for(link.ask(ask("boot.cfg")), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert isinstance(answer, Refused)
    assert answer.reason == "second try"
    assert lines[0] == lines[1]


async def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    link = ControlLink(tmp_path / "control.sock", timeout=0.05)
    with pytest.raises(ControlAway, match=r"no answer within 0\.05 s"):
        await link.ask(ask("boot.cfg"))


async def test_what_was_served_meanwhile_is_told_in_order(control: Control, link: ControlLink) -> None:
    for number in range(100):
        link.report(Report("served", "http", "192.0.2.7", str(number)))
        link.report(Report("progress", "http", "192.0.2.7", str(number)))
    await control.start()
    await control.until(lambda: len(control.reports) >= 100)
    link.report(Report("progress", "http", "192.0.2.7", "now"))
    await control.until(lambda: control.reports[-1].name == "now")
    assert [report.name for report in control.reports] == [*map(str, range(100)), "now"]


async def test_a_control_process_that_does_not_read_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        link = ControlLink(path)
        task = asyncio.create_task(link.run())
        long = Report("served", "http", "192.0.2.7", "x" * 1000)
        connection, _ = await asyncio.get_running_loop().sock_accept(_nonblocking(listener))
        with connection:
            link.report(long)
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 1), 10)  # it is connected
            for _ in range(30_000):  # 30 MB
                link.report(long)
            assert link._writer
            assert link._writer.transport.get_write_buffer_size() < 6 << 20
            assert len(link._reports) <= 10_000
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _nonblocking(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize(
    "nonsense", [b"{}\n", b"[]\n", b"nonsense\n", b'{"op":"found"}\n', b'{"op":"x"}\n', b"\n"]
)
async def test_nonsense_from_the_other_end_is_a_reason_to_start_over(tmp_path: Path, nonsense: bytes) -> None:
    calls = 0
    again = asyncio.Event()

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.write(nonsense)
        if calls == 2:
            again.set()
        await again.wait()
        writer.close()

    link = ControlLink(tmp_path / "control.sock")
    async with await asyncio.start_unix_server(talk, tmp_path / "control.sock"):
        task = asyncio.create_task(link.run())
        await asyncio.wait_for(again.wait(), 10)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_bug_in_one_answer_is_one_error_and_not_everybodys(
    control: Control, link: ControlLink
) -> None:
    await control.start()
    link.report(Report("bug", "http", "192.0.2.7"))
    failed, fine = await asyncio.gather(link.ask(ask("bug")), link.ask(ask("boot.cfg")))
    assert isinstance(failed, Refused)
    assert failed.status == 500
    assert isinstance(fine, Content)
