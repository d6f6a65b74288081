"""Several processes commit and number at once, and those that have the lease are killed in the middle of a batch."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.postgres.numbers import numbers, opened, put, receipt, rows
from tests.units import environment, python

_WRITER = """
    import os, signal, sys
    from memoryos_uow._numbering import Numbering
    from tests.postgres.numbers import opened, put

    url, name, dies = sys.argv[1:]
    batches = 0

    def write_rows(self, *arguments):
        global batches
        batches += 1
        if dies == "reading" and batches == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, *arguments)
        if dies == "writing" and batches == 2:
            arguments[0].rows("SELECT 1")  # the server has it all, and no COMMIT
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, *arguments, **options):
        done = committing(self, *arguments, **options)
        if dies == "committed" and batches == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    original, Numbering._write_rows = Numbering._write_rows, write_rows
    committing, Numbering._write = Numbering._write, write
    with opened(url) as ledger:
        for number in range(25 if dies == "never" else 5_000):
            print(put(ledger, f"{name}-{number}", space_id=f"s{number % 2}").uow_id, flush=True)
"""


def _writer(url: str, name: str, dies: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        python(_WRITER, url, name, dies),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="nobody is killed like that there")
def test_the_log_is_whole_whoever_is_killed(pg_url: str) -> None:
    """Four writers, of which three go on until they die while they number: no gap, each committed unit once."""
    with opened(pg_url) as ledger:
        put(ledger, "first")
        deaths = ("never", "reading", "writing", "committed")
        writers = {dies: _writer(pg_url, dies, dies) for dies in deaths}
        said = {dies: writer.communicate(timeout=60) for dies, writer in writers.items()}
        assert [writers[dies].returncode for dies in deaths] == [0, *[-signal.SIGKILL] * 3], said
        assert receipt(put(ledger, "last")).wait(20).space_seq == 2
        ledger.checkpoint()
        told = {uow_id for out, _ in said.values() for uow_id in out.split()}
        found = numbers(pg_url)
        assert told <= set(found)
        assert len(found) > 2 + 25
        assert ledger.verify().problems == ()
    assert rows(pg_url, "SELECT count(*) FROM uow_sequencer WHERE owner IS NOT NULL") == [(0,)]
