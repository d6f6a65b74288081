"""Several processes commit and number at once, and those that have the lease are killed in the middle of a batch."""

from __future__ import annotations

import os
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


_STOPPED = """
    import os, signal, sys
    from memoryos_uow import _numbering
    from memoryos_uow._numbering import Numbering
    from tests.postgres.numbers import opened, put

    def write_rows(self, tx, *arguments):
        original(self, tx, *arguments)
        Numbering._write_rows = original
        tx.rows("SELECT 1")  # the server has it all, and no COMMIT
        os.kill(os.getpid(), signal.SIGSTOP)

    _numbering.LEASE_MS, _numbering._NOT_FOR_LONG = 300, "SET LOCAL idle_in_transaction_session_timeout = 300"
    with opened(sys.argv[1]) as ledger:
        put(ledger, "a")
        ledger.checkpoint()
        original, Numbering._write_rows = Numbering._write_rows, write_rows
        uow = put(ledger, "b")
        print(uow.receipt.wait(30).space_seq, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nobody is stopped like that there")
def test_who_is_stopped_in_the_middle_of_a_batch_holds_up_nobody(pg_url: str) -> None:
    """The server ends its transaction, others go on; once it runs again it changes nothing, and learns its number."""
    writer = subprocess.Popen(
        python(_STOPPED, pg_url), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        _, status = os.waitpid(writer.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        with opened(pg_url) as ledger:
            assert receipt(put(ledger, "c")).wait(20).space_seq == 3
            os.kill(writer.pid, signal.SIGCONT)
            out, err = writer.communicate(timeout=60)
            assert (writer.returncode, out) == (0, "2\n"), err
            assert ledger.verify().ok
    finally:
        writer.kill()
        writer.communicate()
    assert len(numbers(pg_url)) == 3
