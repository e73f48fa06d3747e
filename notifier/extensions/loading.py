"""From module names to what the modules registered."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from notifier.errors import ConfigurationError
from notifier.extensions.extension import Extension, Line


def load(modules: Iterable[str], slot: str, epoch: int, line: Line) -> list[Extension]:
    """Import each module and let it register. Raises ConfigurationError for a module that cannot be used."""
    loaded: list[Extension] = []
    for name in modules:
        extension = Extension(name, slot, epoch, line)
        _register(name, extension)
        for other in loaded:
            if both := other.actions.keys() & extension.actions.keys():
                raise ConfigurationError(f"extensions {other.module} and {name} both handle the action {min(both)!r}")
        loaded.append(extension)
    return loaded


def _register(name: str, extension: Extension) -> None:
    try:
        module = importlib.import_module(name)
    except Exception as error:  # the user's own code runs here
        raise ConfigurationError(f"extension {name!r} cannot be imported: {_said(error)}") from error
    register = getattr(module, "register", None)
    if not callable(register):
        raise ConfigurationError(f"extension {name!r} has no function register(extension)")
    try:
        register(extension)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"extension {name!r} failed in register(): {_said(error)}") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
