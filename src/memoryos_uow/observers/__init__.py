"""What programs that watch an application see of its units: spans, metrics and log events.

Promise: told after a unit's end is durable and off its path; silent and nearly free where nobody has set up a receiver;
whatever goes wrong here, from a full queue to an exporter that raises, neither fails nor delays a unit.
"""

from memoryos_uow.observers._facts import Note, RemoteCall, UnitEnded, UnitRecovered
from memoryos_uow.observers._telemetry import Telemetry, TelemetryMode

__all__ = ["Note", "RemoteCall", "Telemetry", "TelemetryMode", "UnitEnded", "UnitRecovered"]
