"""Rows of a benchmark's tables, each measured in its own process."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from ifn_plugin.analysis.benchmark.cases import Case, Entry
from ifn_plugin.analysis.benchmark.subject import Subject
from ifn_plugin.utils.text import reason


class Row:
    """Configuration in one variant, measured in its own process."""

    def __init__(self, entry: Entry, variant: str) -> None:
        self.name, self.variant = entry.name, variant
        context = get_context('spawn')
        self.connection, other = context.Pipe()
        # no daemon: a daemon cannot start data loader workers
        self.process = context.Process(target=_serve, args=(other, entry, variant, torch.get_num_threads()))
        self.process.start()
        other.close()

    def ask(self, *message: Any) -> Any:
        """Call a method of the row's ``Subject``.

        Args:
            message: Name and arguments of the method.

        Returns:
            The method's result.

        Raises:
            RuntimeError: If the method fails or the process has ended, with the reason.
        """
        try:
            self.connection.send(message)
            result, error = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            error = f'its process ended with exit code {self.process.exitcode}'
        if error is not None:
            raise RuntimeError(error)
        return result

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self.connection.send(None)
        self.process.join()


def _serve(connection: Connection, entry: Entry, variant: str, threads: int) -> None:
    """Answer calls from the main process, in the process of a row."""
    torch.set_num_threads(threads)
    subject: Subject | None = None
    while (message := _receive(connection)) is not None:
        name, *arguments = message
        try:
            subject = subject or Subject(entry.config, variant, entry.data_root)
            connection.send((getattr(subject, name)(*arguments), None))
        except Exception as error:  # an error in one row must not stop the others
            connection.send((None, reason(error)))


def _receive(connection: Connection) -> Any:
    """Wait for a message; return ``None`` if the main process has ended."""
    try:
        return connection.recv()
    except EOFError:
        return None


def count(rows: Sequence[Row], size: int) -> list[dict[str, Any]]:
    """Count parameters and arithmetic.

    Returns:
        For each row, ``config`` and either ``error`` or the counts of :meth:`Subject.count`.
    """
    records: list[dict[str, Any]] = [dict(config=row.name) for row in rows]
    _attempt(rows, records, lambda row, record: record.update(row.ask('count', size)))
    return records


def measure(rows: Sequence[Row], case: Case, rounds: int) -> list[dict[str, Any]]:
    """Measure one case; the rows take turns.

    Returns:
        For each row, ``config``, ``variant`` and either ``error`` or these: ``seconds``, the time for one pair or
        sample in each round, and ``peak_memory`` in bytes, ``None`` where it is unknown.
    """
    records: list[dict[str, Any]] = [
        dict(config=row.name, variant=row.variant, seconds=[]) for row in rows]
    _attempt(rows, records, lambda row, record: row.ask('start', case))
    for _ in range(rounds):
        _attempt(rows, records, lambda row, record: record['seconds'].append(row.ask('run')))
    _attempt(rows, records, lambda row, record: record.update(peak_memory=row.ask('stop')))
    return records


def _attempt(rows: Sequence[Row], records: Sequence[dict[str, Any]], action: Callable[[Row, dict], object]) -> None:
    for row, record in zip(rows, records):
        if 'error' not in record:
            try:
                action(row, record)
            except RuntimeError as error:
                record['error'] = str(error)
