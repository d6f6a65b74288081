"""A store that is watched: before and after each call of a method a hook is told, and may kill, stop or raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow.abc import Store

    Hook: TypeAlias = Callable[[str, str], None]

METHODS: Final = (
    *("attach", "setup", "encode", "plan", "prepare", "apply", "redo", "publish", "abandon", "sweep"),
    *("overlay", "read", "version", "search", "keys", "close"),
    *("hold", "decide", "fate", "save", "load"),
)
CHANGING: Final = frozenset(
    {"setup", "encode", "plan", "prepare", "apply", "redo", "publish", "abandon", "sweep", "hold", "decide", "fate"}
)
"""Methods on the way of a write: what is tried at each call is tried at these."""


def watched(store: Store, hook: Hook) -> Store:
    """Return a store that does what `store` does, and calls ``hook(method, "before")`` and ``hook(method, "after")``.

    It has exactly the methods that `store` has, so that it counts as the same sort of store.
    """
    members: dict[str, Any] = {name: _method(store, name, hook) for name in METHODS if hasattr(store, name)}
    for name in ("name", "kind", "capability"):
        members[name] = getattr(store, name)
    if hasattr(store, "prepares"):
        members["prepares"] = property(lambda _: getattr(store, "prepares"))  # noqa: B009 - not every store has it
    made: Store = type(f"Watched{type(store).__name__}", (), members)()
    return made


def _method(store: Store, name: str, hook: Hook) -> Callable[..., Any]:
    def call(_self: object, *arguments: Any) -> Any:
        hook(name, "before")
        answer = getattr(store, name)(*arguments)
        hook(name, "after")
        return answer

    call.__name__ = name
    return call
