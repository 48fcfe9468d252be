"""Slots of a ring in the hands of whoever fills them, so that their bytes are made where the other end reads them.

    FREE --lend--> LENT --sent--> on its way, and with `give_back` forgotten here
                     '--give_back, unsent--> FREE
    the pair is over: nothing is lent any more; with the last `give_back` the memory may go

Any thread may ask for one: the thread that computes pages gathers them. The rest is the event loop's. Half of the slots
may be lent: frames that are copied find one among the others, which come back by the receiver's landing alone, so
neither waits for the other.
"""

import asyncio
import threading
from collections.abc import Callable

from common.kv.span import Span, address_of
from common.transfer.same_host.sending import SendingEnd


class SlotLoan:
    """One lent slot. Owner: whoever asked for it."""

    def __init__(self, loans: "SlotLoans", slot: int, view: Span) -> None:
        self.slot = slot
        self.view = view
        self.is_sent = False
        self._loans = loans

    def give_back(self) -> None:
        self._loans.take_back(self)


class SlotLoans:
    """Of one sending end. `span_of` finds the bytes of a slot, which stay where they are until `wait_back` is over."""

    def __init__(
        self, end: SendingEnd, *, num_slots: int, slot_bytes: int, span_of: Callable[[int, int], Span]
    ) -> None:
        self._end = end
        self._most = num_slots // 2
        self._slot_bytes = slot_bytes
        self._span_of = span_of
        self._lock = threading.Lock()
        self._unsent: dict[int, SlotLoan] = {}
        """By address. A slot that was sent may come round and be lent again before its first holder gives it back."""
        self._num_lent = 0
        self._is_over = False
        self._all_back = asyncio.Event()

    def __len__(self) -> int:
        """How many are in somebody's hands."""
        return self._num_lent

    def lend(self, num_bytes: int) -> SlotLoan | None:
        """None while half of the slots are lent or none is free, and when the pair is over. Any thread; never waits."""
        if num_bytes > self._slot_bytes:
            return None
        with self._lock:
            if self._is_over or self._num_lent >= self._most or (slot := self._end.take_slot()) is None:
                return None
            loan = SlotLoan(self, slot, self._span_of(slot, num_bytes))
            self._unsent[address_of(loan.view)] = loan
            self._num_lent += 1
        return loan

    def find(self, data: Span) -> SlotLoan | None:
        """The loan whose bytes these are, all of them, while it is unsent."""
        with self._lock:
            loan = self._unsent.get(address_of(data)) if self._unsent else None
        return loan if loan is not None and len(loan.view) == len(data) else None

    async def send(self, frame: int, loan: SlotLoan, *, timeout_s: float) -> None:
        """As Channel.send, of a slot that is filled: nothing is copied."""

        async def fill(_: int) -> None:
            loan.is_sent = True
            with self._lock:
                del self._unsent[address_of(loan.view)]

        await self._end.send_filled(frame, len(loan.view), fill, timeout_s=timeout_s, slot=loan.slot)

    def take_back(self, loan: SlotLoan) -> None:
        with self._lock:
            if not loan.is_sent:
                del self._unsent[address_of(loan.view)]
            self._num_lent -= 1
        if not loan.is_sent:
            self._end.put_back(loan.slot)
        if not self._num_lent:
            self._all_back.set()

    async def wait_back(self) -> None:
        """Nothing more is lent; over when all that was has come back."""
        with self._lock:
            self._is_over = True
        if self._num_lent:
            self._all_back.clear()
            await self._all_back.wait()  # bounded: whoever holds a slot has a transfer's deadlines
