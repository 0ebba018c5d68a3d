"""The engine in threads: one run per host, so many at once, cancel, crash, close."""

import queue
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from midwife.core.plan import Plan
from midwife.customize.cancel import Cancel
from midwife.engine import Engine
from midwife.engine.local import LocalEngine

DEADLINE = 20


def plan_for(host: str) -> Plan:
    return Plan(host=host, configuration="c")


class Workshop:
    """``execute`` that says when it begins, and ends when told (or cancelled)."""

    def __init__(self) -> None:
        self.begun: queue.Queue[str] = queue.Queue()
        self.ended: queue.Queue[tuple[str, bool, bool]] = queue.Queue()
        self.may_end: dict[str, threading.Event] = {}
        self.lock = threading.Lock()

    def __call__(self, run_id: str, plan: Plan, cancel: Cancel) -> None:
        self.begun.put(run_id)
        end = self.gate(run_id)
        while not end.wait(0.01) and not cancel.is_set():
            pass
        self.ended.put((run_id, cancel.is_set(), cancel.final))

    def gate(self, run_id: str) -> threading.Event:
        with self.lock:
            return self.may_end.setdefault(run_id, threading.Event())

    def end(self, run_id: str) -> None:
        self.gate(run_id).set()


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def engine(workshop: Workshop) -> Iterator[LocalEngine]:
    engine = LocalEngine(workshop, max_parallel=2)
    yield engine
    engine.close()


def test_a_host_has_one_run_at_a_time_and_others_go_on(engine: Engine, workshop: Workshop) -> None:
    engine.start("r1", plan_for("a"))
    engine.start("r2", plan_for("a"))
    engine.start("r3", plan_for("b"))
    assert {workshop.begun.get(timeout=DEADLINE), workshop.begun.get(timeout=DEADLINE)} == {"r1", "r3"}
    assert engine.active() == {"r1", "r2", "r3"}
    workshop.end("r1")
    assert workshop.begun.get(timeout=DEADLINE) == "r2"


def test_no_more_than_so_many_at_once(engine: Engine, workshop: Workshop) -> None:
    for number in range(4):
        engine.start(f"r{number}", plan_for(f"h{number}"))
    first = {workshop.begun.get(timeout=DEADLINE), workshop.begun.get(timeout=DEADLINE)}
    assert first == {"r0", "r1"}
    workshop.end("r1")
    assert workshop.begun.get(timeout=DEADLINE) == "r2"
    assert workshop.begun.empty()


def test_the_same_run_is_started_once(engine: Engine, workshop: Workshop) -> None:
    for _ in range(3):
        engine.start("r1", plan_for("a"))
    assert workshop.begun.get(timeout=DEADLINE) == "r1"
    engine.start("r1", plan_for("a"))
    workshop.end("r1")
    assert workshop.ended.get(timeout=DEADLINE) == ("r1", False, True)
    engine.start("r2", plan_for("a"))
    assert workshop.begun.get(timeout=DEADLINE) == "r2"


def test_cancel(engine: Engine, workshop: Workshop) -> None:
    engine.start("r1", plan_for("a"))
    engine.start("r2", plan_for("a"))
    assert workshop.begun.get(timeout=DEADLINE) == "r1"
    assert engine.cancel("r2")  # waiting: it gets its record without waiting for its turn
    assert workshop.ended.get(timeout=DEADLINE) == ("r2", True, True)
    assert engine.cancel("r1")
    assert workshop.ended.get(timeout=DEADLINE) == ("r1", True, True)
    assert not engine.cancel("r7")


def test_a_crash_is_told_without_its_text_and_the_next_run_begins() -> None:
    told: queue.Queue[tuple[str, str]] = queue.Queue()

    def execute(run_id: str, plan: Plan, cancel: Cancel) -> None:
        if run_id == "bad":
            raise RuntimeError("the password was hunter2")
        told.put((run_id, "fine"))

    with capture_logs() as logs:
        engine = LocalEngine(execute, max_parallel=1, crashed=lambda *args: told.put(args))
        engine.start("bad", plan_for("a"))
        engine.start("good", plan_for("a"))
        run_id, reason = told.get(timeout=DEADLINE)
        assert run_id == "bad"
        assert reason.startswith("RuntimeError in ")
        assert told.get(timeout=DEADLINE) == ("good", "fine")
        engine.close()
    assert [log["event"] for log in logs] == ["a run crashed"]
    assert "hunter2" not in repr(logs) + reason


def test_close_interrupts_and_takes_no_more(workshop: Workshop) -> None:
    engine = LocalEngine(workshop, max_parallel=1)
    engine.start("r1", plan_for("a"))
    engine.start("r2", plan_for("b"))
    assert workshop.begun.get(timeout=DEADLINE) == "r1"
    engine.close()
    # Not final: the run is unfinished and will be started again, so is the one that waited.
    assert workshop.ended.get(timeout=DEADLINE) == ("r1", True, False)
    engine.start("r3", plan_for("c"))
    assert engine.active() == frozenset()
    assert workshop.begun.empty()
