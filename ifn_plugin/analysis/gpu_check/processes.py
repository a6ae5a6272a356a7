"""A part of the check in a process of its own."""

import os
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ifn_plugin.analysis.gpu_check.parts import PARTS
from ifn_plugin.analysis.gpu_check.results import reason
from ifn_plugin.analysis.gpu_check.scale import Scale


def run_part(name: str, scale: Scale, out: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """Run a part, and end it with whatever it has started when its time is up.

    Args:
        name: Of the part, out of ``PARTS``.
        scale: How large.
        out: The JSON file of the check, beside which charts are written.
        seconds: The most that it may take.

    Yields:
        Its results, each with ``line``, a sentence for the reader.

    Raises:
        RuntimeError: With the reason, if it fails.
        TimeoutError: If it takes longer.
    """
    deadline = time.monotonic() + seconds
    context = get_context('spawn')  # a GPU cannot be used in a fork of a process that has looked for it
    receiver, sender = context.Pipe(duplex=False)
    # not a daemon, which could have no workers
    process = context.Process(target=_serve, args=(sender, name, scale, out, torch.get_num_threads()))
    process.start()
    sender.close()
    try:
        while True:
            if not receiver.poll(max(0, deadline - time.monotonic())):
                raise TimeoutError(f'stopped after its share of the time, {seconds:.0f} s')
            try:
                result, error = receiver.recv()
            except EOFError:
                process.join()
                raise RuntimeError(f'its process ended with exit code {process.exitcode}') from None
            if error is not None:
                raise RuntimeError(error)
            if result is None:
                process.join(10)
                return
            yield result
    finally:
        _end(process)


def _serve(connection: Connection, name: str, scale: Scale, out: Path, threads: int) -> None:
    """Run the part, in its process."""
    if hasattr(os, 'setsid'):
        os.setsid()  # so that its workers and programs can be ended with it
    torch.set_num_threads(threads)
    try:
        for result in PARTS[name].run(scale, out):
            connection.send((result, None))
        connection.send((None, None))
    except Exception as error:  # whatever it is: the check goes on
        traceback.print_exc()
        connection.send((None, reason(error)))


def _end(process: Any) -> None:
    if hasattr(os, 'killpg'):
        with suppress(OSError):  # there is no such group, or the process has not made it yet
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
