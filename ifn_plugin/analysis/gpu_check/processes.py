"""Execution of a part of the check in its own process."""

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
from ifn_plugin.analysis.gpu_check.scale import Scale
from ifn_plugin.utils.text import reason


def run_part(name: str, scale: Scale, out: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """Run a part, and end it and all processes that it has started when its time is up.

    Args:
        name: Name of the part, a key of ``PARTS``.
        scale: Sizes of the measurements.
        out: The JSON file of the check; charts are written to its folder.
        seconds: Time limit.

    Yields:
        The results, each with ``line``, a sentence to print.

    Raises:
        RuntimeError: If the part fails, with the reason.
        TimeoutError: If it exceeds the time limit.
    """
    deadline = time.monotonic() + seconds
    context = get_context('spawn')  # a fork of a process that has initialized CUDA cannot use the GPU
    receiver, sender = context.Pipe(duplex=False)
    # not a daemon, which could not start data loader workers
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
        os.setsid()  # a group of its own, so that its children can be ended with it
    torch.set_num_threads(threads)
    try:
        for result in PARTS[name].run(scale, out):
            connection.send((result, None))
        connection.send((None, None))
    except Exception as error:  # whatever it is, the other parts still run
        traceback.print_exc()
        connection.send((None, reason(error)))


def _end(process: Any) -> None:
    if hasattr(os, 'killpg'):
        with suppress(OSError):  # the group is gone, or the process has not created it yet
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
