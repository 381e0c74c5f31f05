"""Decoding in processes of their own, so that a hostile file costs little and harms nobody.

    contents → tickets → slots of the least busy worker → answers → features in the order given

A content that kills its worker is refused; what was queued behind it goes to a fresh worker. Whoever kills a worker
from outside, or freezes the machine, harms no content either: the blame needs two workers, unless the kernel itself
says that the content's CPU time was up.
"""

from __future__ import annotations

import select
import signal
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from embeddings.isolation.limits import DecodeLimits, DecodeStatistics, limits_of
from embeddings.isolation.process import Ending, Ticket, WorkerProcess
from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.features import Features
from embeddings.refused import Reason, Refused
from recsys.errors import EnvironmentProblem

K = TypeVar("K")

_MAX_FAILED_STARTS = 3
_MIN_CPU_S = 0.02
"""With less than this left, a content is not tried a second time."""


class DecodePool:
    """Up to `workers` processes that run one preprocessing. Used by one thread at a time.

    They are started when there are contents for them, and live until the pool is closed.
    """

    def __init__(self, preprocessing: str, *, workers: int, limits: DecodeLimits | None = None) -> None:
        """`preprocessing` is the canonical JSON of a preprocessor's config that needs no tokenizer; without `limits`
        contents may cost what `limits_of` says.

        Raises:
            CorruptArtifact, MissingArtifact: no preprocessor can be built from it.
        """
        if workers < 1:
            raise ValueError(f"a pool needs at least one worker, not {workers}")
        build_preprocessor(preprocessing, None)
        self._preprocessing = preprocessing
        self._n_workers = workers
        self._limits = limits or limits_of(preprocessing)
        self._workers: dict[int, WorkerProcess] = {}
        self._poll = select.poll()
        self._unsent: deque[Ticket] = deque()
        self._is_closed = False
        self._in_flight_bytes = 0
        self._n_failed_starts = 0
        self._n_decoded = self._n_replaced = 0
        self._n_refused: Counter[str] = Counter()
        self._cpu_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers at once, whatever they are doing. Can be called again."""
        self._is_closed = True
        self._unsent.clear()
        while self._workers:
            _, worker = self._workers.popitem()
            worker.end()

    @property
    def worker_pids(self) -> list[int]:
        """Processes that run now."""
        return [worker.pid for worker in self._workers.values()]

    @property
    def statistics(self) -> DecodeStatistics:
        return DecodeStatistics(self._n_decoded, dict(sorted(self._n_refused.items())), self._n_replaced, self._cpu_s)

    def map(self, contents: Iterable[tuple[K, bytes]]) -> Iterator[tuple[K, Features | Refused]]:
        """Each key with its content's features, or with why there are none, in the order given.

        `contents` is pulled as far ahead as the limits allow and no further; an error that it raises is raised here
        once everything before it has been given out.

        Raises:
            EnvironmentProblem: workers cannot be started here, or lack a library.
            ValueError: the pool is closed.
        """
        source = iter(contents)
        tickets: deque[tuple[K, Ticket]] = deque()
        is_exhausted, failure = False, None
        try:
            while True:
                if self._is_closed:
                    raise ValueError("the pool is closed: take what `map` gives before")
                while not is_exhausted and self._may_pull(len(tickets)):
                    try:
                        key, content = next(source)
                    except StopIteration:
                        is_exhausted = True
                    except Exception as error:
                        is_exhausted, failure = True, error
                    else:
                        tickets.append((key, self._submit(content)))
                    self._attend(0.0)
                if not tickets:
                    break
                key, ticket = tickets[0]
                while ticket.answer is None:
                    self._attend(None)
                tickets.popleft()
                self._in_flight_bytes -= ticket.weight_bytes
                yield key, ticket.answer
        finally:
            self._drop([ticket for _, ticket in tickets])
        if failure is not None:
            raise failure

    def _may_pull(self, n_in_flight: int) -> bool:
        if n_in_flight >= self._n_workers * self._limits.lookahead_items:
            return False
        return n_in_flight == 0 or self._in_flight_bytes < self._limits.lookahead_bytes

    def _submit(self, content: bytes) -> Ticket:
        ticket = Ticket(content, self._limits.cpu_s, len(content))
        self._in_flight_bytes += ticket.weight_bytes
        if not isinstance(content, bytes):
            self._settle(ticket, Refused("wrong_type", "bytes of a file are wanted, not text"))
        elif len(content) > self._limits.content_bytes:
            limit = self._limits.content_bytes
            self._settle(ticket, Refused("too_large", f"{len(content)} bytes are more than the {limit} allowed"))
        else:
            self._unsent.append(ticket)
        return ticket

    def _drop(self, tickets: list[Ticket]) -> None:
        """The consumer has gone: what is being decoded is forgotten when it is answered."""
        for ticket in tickets:
            ticket.is_dropped = True
            self._in_flight_bytes -= ticket.weight_bytes
        self._unsent = deque(ticket for ticket in self._unsent if not ticket.is_dropped)

    def _attend(self, timeout_s: float | None) -> None:
        """Send what can be sent, take what is answered, and see to workers that died or fell silent.

        Waits up to `timeout_s` for something to happen; None: as long as it takes, deadlines included.
        """
        self._dispatch()
        if timeout_s is None:
            nearest_s = min((worker.deadline_s for worker in self._workers.values()), default=0.0)
            timeout_s = min(max(nearest_s - time.monotonic(), 0.0), self._limits.start_s)
        for fd, _ in self._poll.poll(timeout_s * 1000.0):
            self._listen(self._workers[fd])
        now_s = time.monotonic()
        for worker in [worker for worker in self._workers.values() if worker.deadline_s <= now_s]:
            self._bury(worker, was_silent=True)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._unsent:
            worker = self._least_busy()
            if worker is None:
                return
            if worker.send(self._unsent[0]):
                self._unsent.popleft()
            else:
                self._bury(worker)

    def _least_busy(self) -> WorkerProcess | None:
        """An idle worker, else a new one while there may be more, else the shortest queue with room."""
        open_to = [worker for worker in self._workers.values() if worker.has_room]
        best = min(open_to, key=lambda worker: len(worker.waiting), default=None)
        if (best is None or best.waiting) and len(self._workers) < self._n_workers:
            best = WorkerProcess(self._preprocessing, self._limits)
            self._workers[best.channel.fileno()] = best
            self._poll.register(best.channel.fileno(), select.POLLIN)
        return best

    def _listen(self, worker: WorkerProcess) -> None:
        for ticket, result, cpu_s in worker.receive():
            self._cpu_s += cpu_s
            self._settle(ticket, result)
        if worker.is_ready:
            self._n_failed_starts = 0
        if worker.has_ended or worker.wants_to_retire:
            self._bury(worker)

    def _settle(self, ticket: Ticket, result: Features | Refused) -> None:
        if ticket.is_dropped:
            return
        weight_bytes = 0 if isinstance(result, Refused) else result.nbytes
        self._in_flight_bytes += weight_bytes - ticket.weight_bytes
        ticket.weight_bytes = weight_bytes
        ticket.content = b""
        ticket.answer = result
        if isinstance(result, Refused):
            self._n_refused[result.reason] += 1
        else:
            self._n_decoded += 1

    def _bury(self, worker: WorkerProcess, *, was_silent: bool = False) -> None:
        """Take a worker out, blame the content that it was decoding, and put the others back in their order."""
        self._poll.unregister(worker.channel.fileno())
        del self._workers[worker.channel.fileno()]
        ending = worker.end()
        if worker.failure is not None or not worker.is_ready:
            self._judge_start(worker, ending, was_silent)
        else:
            self._n_replaced += 1
            if ending.culprit is not None and not worker.wants_to_retire:
                self._judge(ending.culprit, ending, was_silent)
        left = [ticket for _, ticket in worker.waiting if ticket.answer is None and not ticket.is_dropped]
        self._unsent.extendleft(reversed(left))

    def _judge(self, ticket: Ticket, ending: Ending, was_silent: bool) -> None:
        self._cpu_s += ending.cpu_s
        ticket.cpu_left_s -= ending.cpu_s
        ticket.n_deaths += 1
        is_last = ticket.n_deaths > 1 or ticket.cpu_left_s < _MIN_CPU_S
        reason: Reason | None = None
        if ending.exit_code == -signal.SIGPROF:
            reason, why = "decode_time", f"decoding it takes more than {self._limits.cpu_s:g} s of CPU time"
        elif is_last and was_silent:
            reason, why = "decode_time", f"decoding it does not end within {self._limits.wall_s:g} s"
        elif is_last:
            reason, why = "decoder_died", f"decoding it ends the decoder ({_in_words(ending.exit_code)})"
        if reason is not None:
            self._settle(ticket, Refused(reason, f"{why}: save the file anew with a trusted program, or leave it out"))

    def _judge_start(self, worker: WorkerProcess, ending: Ending, was_silent: bool) -> None:
        """Raises EnvironmentProblem once it is no accident."""
        self._n_failed_starts += 1
        if worker.failure is None and self._n_failed_starts < _MAX_FAILED_STARTS:
            return
        end = f"it is not ready after {self._limits.start_s:g} s" if was_silent else _in_words(ending.exit_code)
        why = worker.failure or ending.said or end
        raise EnvironmentProblem(f"the decode workers cannot work here: {why}")


def _in_words(exit_code: int | None) -> str:
    if exit_code is None:
        return "it vanished"
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
