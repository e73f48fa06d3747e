"""The runtime directory: where a service has its control socket, and where `notifier ctl` looks for it.

Both ask the same two settings, `runtime_dir` and `namespace`, so they meet without further ado if they run as the same
user with the same settings. Read without loading the others: an operator must get through although the file has a fault
by now, and before a whole settings model is imported.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

from notifier import given
from notifier.errors import ConfigurationError

#: First part of every name on the broker, and last part of the default directory: two namespaces never meet there.
NAMESPACE = "notifier"
#: What a namespace may look like.
NAMESPACES = r"^[A-Za-z0-9_-]{1,64}$"


def directory(environment: Mapping[str, str] | None = None) -> Path:
    """The runtime directory that the settings mean. Raises ConfigurationError."""
    environment = os.environ if environment is None else environment
    if (found := given.stated("runtime_dir", environment)) is not None:
        value, written = found
        try:
            return Path(checked(value))
        except ValueError as error:
            raise ConfigurationError(f"{written}: {error}") from None
    return default(_namespace(environment), environment, os.geteuid())


def default(namespace: str, environment: Mapping[str, str], uid: int) -> Path:
    """Where it is if nothing is set; each namespace has its own.

    root: /run/notifier, whatever a login session says about itself, since a service outlives it. Others: in
    $XDG_RUNTIME_DIR, else in $XDG_STATE_HOME or ~/.local/state (XDG base directory specification, version 0.8).
    """
    if uid == 0:
        return Path("/run/notifier") / namespace
    if session := environment.get("XDG_RUNTIME_DIR"):
        return Path(session) / "notifier" / namespace
    state = environment.get("XDG_STATE_HOME") or _home(environment, uid) / ".local/state"
    return Path(state) / "notifier/run" / namespace


def default_state(namespace: str, environment: Mapping[str, str], uid: int) -> Path:
    """Where a service keeps what must survive a reboot (the default database, the copy of the merchants).

    root: /var/lib/notifier. Others: $XDG_STATE_HOME or ~/.local/state (XDG base directory specification, version 0.8).
    """
    if uid == 0:
        return Path("/var/lib/notifier") / namespace
    state = environment.get("XDG_STATE_HOME") or _home(environment, uid) / ".local/state"
    return Path(state) / "notifier/state" / namespace


def checked(value: object) -> str:
    """The setting as it is written, or ValueError: a relative path would mean another place in every directory."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError(f"{value!r:.80} is not an absolute path such as /run/notifier")
    return value


def _namespace(environment: Mapping[str, str]) -> str:
    value, written = given.stated("namespace", environment) or (NAMESPACE, "")
    if not isinstance(value, str) or not re.fullmatch(NAMESPACES, value):
        raise ConfigurationError(f"{written} is {value!r:.80}: 1 to 64 letters, digits, _ and - are possible")
    return value


def _home(environment: Mapping[str, str], uid: int) -> Path:
    if home := environment.get("HOME"):
        return Path(home)
    try:
        return Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:  # a container may run as a user that nobody has named
        return Path("/")
