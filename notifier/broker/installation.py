"""Where RabbitMQ is installed on this machine, and what lies beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

DELAYED_PLUGIN = "rabbitmq_delayed_message_exchange"

# Debian and RPM packages, the generic archive and the official image, Homebrew.
_USUAL = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/opt/homebrew/sbin", "/usr/local/sbin")
#: Debian's place for plugins of the administrator's own.
_LOCAL_PLUGINS = Path("/usr/lib/rabbitmq/plugins")


def installed() -> Path | None:
    """The directory of the server's own scripts (`rabbitmq-server`, `rabbitmqctl`); None if it is not installed.

    Not the scripts that a distribution puts on PATH: those insist on being root or the user rabbitmq.
    """
    return next((place for place in _places() if _is_server(place)), None)


def home(scripts: Path) -> Path:
    """The server's home, which holds its bundled plugins."""
    return (scripts / "rabbitmq-server").resolve().parent.parent


def epmd() -> str | None:
    """Erlang's port mapper, beside `erl` where it is not on PATH."""
    if found := shutil.which("epmd"):
        return found
    erl = shutil.which("erl")
    if erl is None:
        return None
    root = Path(erl).resolve().parent.parent
    return next((str(path) for path in sorted(root.glob("**/bin/epmd"))), None)


def plugin_directories(scripts: Path, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Where plugins are looked for: RABBITMQ_PLUGINS_DIR of the environment first, then the installation's own."""
    named = [Path(part) for part in environment.get("RABBITMQ_PLUGINS_DIR", "").split(os.pathsep) if part]
    known = [*named, home(scripts) / "plugins", _LOCAL_PLUGINS]
    return tuple(dict.fromkeys(directory for directory in known if directory.is_dir()))


def has_plugin(directories: tuple[Path, ...], name: str) -> bool:
    """Whether a plugin lies in one of them, as an archive or unpacked."""
    return any(next(directory.glob(f"{name}-*"), None) is not None for directory in directories)


def _places() -> Iterator[Path]:
    if rabbitmq_home := os.environ.get("RABBITMQ_HOME"):
        yield Path(rabbitmq_home) / "sbin"
    yield from map(Path, _USUAL)
    if on_path := shutil.which("rabbitmq-server"):
        yield Path(on_path).resolve().parent


def _is_server(place: Path) -> bool:
    # rabbitmq-env is what the scripts read; a distribution's wrapper has none beside it
    return all((place / name).exists() for name in ("rabbitmq-server", "rabbitmqctl", "rabbitmq-env"))
