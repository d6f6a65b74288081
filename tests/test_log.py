"""Where the library speaks: silent by itself, through whatever the application configured, and never raising."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from memoryos_uow import _log
from tests import processes

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

WARN = "from memoryos_uow import _log; _log.warn('uow.record_lost', uow_id='u1', reason='closed');"


@pytest.fixture
def structlog_entries() -> Iterator[list[dict[str, Any]]]:
    """What structlog received, configured for the test as an application would do it."""
    entries: list[dict[str, Any]] = []

    def keep(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        entries.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    yield entries
    structlog.reset_defaults()


def test_nothing_is_printed_by_default() -> None:
    """In a process that configured no logging, a warning appears neither on the output nor among the errors."""
    assert processes.run(WARN) == (b"", b"")


def test_nothing_is_printed_when_structlog_is_only_imported() -> None:
    """structlog, which prints by default, is left alone until the application configures it."""
    assert processes.run(f"import structlog; {WARN}") == (b"", b"")


def test_warning_does_not_import_structlog() -> None:
    """A warning does not load structlog where the application has not."""
    assert processes.run(f"import sys; {WARN} assert 'structlog' not in sys.modules") == (b"", b"")


def test_root_handlers_hear_it() -> None:
    """An application that configured standard logging reads event and facts on the line it asked for."""
    out, err = processes.run(f"import logging; logging.basicConfig(format='%(name)s %(message)s'); {WARN}")
    assert (out, err) == (b"", b"memoryos_uow uow.record_lost uow_id=u1 reason=closed\n")


def test_standard_logger_gets_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Without structlog the event goes to the logger memoryos_uow at level WARNING."""
    _log.warn("uow.record_lost", uow_id="u1")
    assert caplog.record_tuples == [("memoryos_uow", logging.WARNING, "uow.record_lost uow_id=u1")]


def test_configured_structlog_gets_it_instead(
    structlog_entries: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Where structlog is configured the event goes there with its facts as fields, and nowhere else."""
    _log.warn("uow.record_lost", uow_id="u1", status="failed")
    assert structlog_entries == [{"event": "uow.record_lost", "uow_id": "u1", "status": "failed"}]
    assert not caplog.records


class NoText:
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_a_fact_without_text_does_not_raise() -> None:
    """A fact that cannot be turned into text loses the warning, not the caller."""
    _log.warn("uow.record_lost", reason=NoText())


def test_a_broken_handler_does_not_raise(caplog: pytest.LogCaptureFixture) -> None:
    """A filter of the application's that raises does not reach the caller."""

    def broken(_record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    logger = logging.getLogger("memoryos_uow")
    logger.addFilter(broken)
    try:
        _log.warn("uow.record_lost")
    finally:
        logger.removeFilter(broken)
    assert not caplog.records


def test_a_broken_structlog_processor_does_not_raise() -> None:
    """A processor of the application's that raises does not reach the caller."""

    def broken(_logger: object, _method: str, _event: object) -> Any:
        raise ZeroDivisionError

    structlog.configure(processors=[broken], cache_logger_on_first_use=False)
    try:
        _log.warn("uow.record_lost")
    finally:
        structlog.reset_defaults()


def test_an_application_without_logging_loses_nothing_but_the_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither logging nor structlog was imported, nobody asked, and nothing is imported for it."""
    monkeypatch.delitem(sys.modules, "structlog")
    monkeypatch.delitem(sys.modules, "logging")
    _log.warn("uow.record_lost")
    assert not {"structlog", "logging"} & set(sys.modules)
