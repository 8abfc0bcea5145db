"""A module of another package, run so that what it imports is loaded when it is used, not before.

`dandi.organize` makes names with Python's own modules, and imports half a second of others for what else it does.
Python 3.15 has this for all modules (PEP 810).
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec, resolve_name
from types import ModuleType, SimpleNamespace
from typing import Any

__all__ = ["with_late_imports"]


class _Late:
    """A name that is imported when it is used; what cannot wait, such as a base class, raises a TypeError."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = cache(load)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._load()(*args, **options)

    def __bool__(self) -> bool:
        return bool(self._load())

    def __eq__(self, other: object) -> bool:
        return bool(self._load() == other)

    __hash__ = None  # type: ignore[assignment]  # so that none gets into a table before it is loaded

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._load())


def with_late_imports(name: str) -> Any:
    """Load a module, but not yet what it imports of other packages than Python itself.

    The module is not put into `sys.modules`, so nobody else gets it. One that is there already is given as it is, and
    so is one that cannot be loaded in this way.

    Parameters
    ----------
    name : str
        Its full name, such as ``"dandi.organize"``. The package that it is in is imported.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None:
        return import_module(name)
    module = module_from_spec(spec)
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import_late}
    try:
        spec.loader.exec_module(module)
    except Exception:  # noqa: BLE001  # it uses something at once, and has to be imported as it is
        return import_module(name)
    return module


def _import_late(
    name: str,
    names: Mapping[str, Any] | None = None,
    local_names: Mapping[str, Any] | None = None,
    wanted: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """What `import` calls in such a module, with the arguments of Python's own `__import__`."""
    do = partial(builtins.__import__, name, names, local_names, wanted or (), level)
    package = (names or {}).get("__package__")
    full = resolve_name("." * level + name, package) if level else name
    if full in sys.modules or full.partition(".")[0] in sys.stdlib_module_names or "*" in (wanted or ()):
        return do()
    if not wanted:
        return _Late(do)
    return SimpleNamespace(**{each: _Late(partial(_name_of, do, each)) for each in wanted})


def _name_of(do: Callable[[], ModuleType], name: str) -> Any:
    return getattr(do(), name)
