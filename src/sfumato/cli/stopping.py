"""Ctrl-C and SIGTERM as a request that the running step be finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that Ctrl-C (or SIGTERM) sets, so that the running step is finished; a second Ctrl-C breaks it off."""
    event = threading.Event()

    def note(signum: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt("broken off within a step: the checkpoint before it is kept.")
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
