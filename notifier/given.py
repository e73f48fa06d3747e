"""What stands in the settings file and in the environment, before anybody judges it.

Apart from `sources`, and without pydantic: a command that needs two settings only is done before that is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from notifier.errors import ConfigurationError

PREFIX = "NOTIFIER_"
FILE = "notifier.toml"
#: Names another path for the file than `notifier.toml` in the working directory. Not a setting itself.
FILE_VARIABLE = "NOTIFIER_CONFIG"


def read(path: Path, *, required: bool) -> dict[str, Any]:
    """The settings file, nested as it is; empty if there is none and none is required. Raises ConfigurationError."""
    import tomllib  # here: tier processes, which are given their settings, read no file

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigurationError(f"the settings file {path} does not exist") from None
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def variable(setting: str) -> str:
    """What a setting of this dotted name is called in the environment."""
    return PREFIX + setting.replace(".", "__").upper()


def stated(setting: str, environment: Mapping[str, str]) -> tuple[Any, str] | None:
    """The value of one setting outside all sections, not judged, and how it is written there; None if it is not set.

    The file is read only if the environment says nothing: then one that somebody has broken does not matter.
    """
    if value := environment.get(variable(setting)):
        return value, variable(setting)
    named = environment.get(FILE_VARIABLE)
    path = Path(named or FILE)
    value = read(path, required=bool(named)).get(setting)
    return None if value in (None, "") else (value, f"{setting} in {path}")
