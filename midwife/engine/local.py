"""The engine that needs nothing: threads of this process. Durable all the same, because steps are idempotent,
finished ones are on record, and the control process starts unfinished runs again at its next start.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from midwife.core.plan import Plan
from midwife.customize.cancel import Cancel
from midwife.engine import Execute

__all__ = ["LocalEngine"]


@dataclass(frozen=True, slots=True)
class _Run:
    id: str
    plan: Plan
    cancel: Cancel = field(default_factory=Cancel)


class LocalEngine:
    """Implements ``Engine``. All methods may be called from any thread; only ``close`` blocks."""

    def __init__(
        self,
        execute: Execute,
        max_parallel: int = 16,
        *,
        crashed: Callable[[str, str], None] | None = None,
    ) -> None:
        """``crashed(run_id, reason)`` is told, in the run's thread, if ``execute`` raised: a bug, or a full
        disk under the records. The other runs go on."""
        self._execute = execute
        self._crashed = crashed
        self._max_parallel = max_parallel
        self._lock = threading.Lock()
        self._waiting: dict[str, _Run] = {}
        self._running: dict[str, _Run] = {}
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self._log = structlog.get_logger()

    def start(self, run_id: str, plan: Plan) -> None:
        """See ``Engine``. Runs start in the order they came, as far as their hosts are free."""
        with self._lock:
            if self._closed or run_id in self._waiting or run_id in self._running:
                return
            self._waiting[run_id] = _Run(run_id, plan)
            self._dispatch()

    def cancel(self, run_id: str, reason: str = "cancelled") -> bool:
        """See ``Engine``. A waiting run is executed with its cancel said already, so it gets its record."""
        with self._lock:
            run = self._running.get(run_id) or self._waiting.get(run_id)
            if run is None:
                return False
            run.cancel.stop(reason)
            self._dispatch()
            return True

    def active(self) -> frozenset[str]:
        """See ``Engine``."""
        with self._lock:
            return frozenset(self._running) | frozenset(self._waiting)

    def close(self, timeout: float = 5.0) -> None:
        """See ``Engine``. Waits ``timeout`` seconds for the runs; a stuck one dies with the process."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            for run in self._running.values():
                run.cancel.stop("midwife is stopping", final=False)
            threads = list(self._threads)
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.active():
            self._log.warning("runs did not stop in time", runs=sorted(self.active()))

    def _dispatch(self) -> None:
        """Start what can start. The lock is held."""
        busy = {run.plan.host for run in self._running.values()}
        for run in list(self._waiting.values()):
            # A cancelled run only writes its record; it needs neither its host nor a free place.
            free = run.plan.host not in busy and len(self._running) < self._max_parallel
            if free or run.cancel.is_set():
                busy.add(run.plan.host)
                self._running[run.id] = self._waiting.pop(run.id)
                # Daemon: a stuck run must not keep the service from ending.
                thread = threading.Thread(target=self._work, args=(run,), name=f"run {run.id}", daemon=True)
                self._threads.add(thread)
                thread.start()

    def _work(self, run: _Run) -> None:
        try:
            self._execute(run.id, run.plan, run.cancel)
        except Exception as error:
            # No traceback: its frames hold filled-in commands.
            where = _where(error)
            self._log.error("a run crashed", run=run.id, host=run.plan.host, error=where)
            self._report_crash(run, where)
        finally:
            with self._lock:
                del self._running[run.id]
                self._threads.discard(threading.current_thread())
                if not self._closed:
                    self._dispatch()

    def _report_crash(self, run: _Run, where: str) -> None:
        if self._crashed is None:
            return
        try:
            self._crashed(run.id, where)
        except Exception as error:  # the records are gone too; the log has to do
            self._log.error("a crash was not recorded", run=run.id, error=_where(error))


def _where(error: BaseException) -> str:
    """Kind and place of an exception, without its text, which may repeat what it was about."""
    trace = error.__traceback__
    place = ""
    while trace:
        place = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} in {place}"
