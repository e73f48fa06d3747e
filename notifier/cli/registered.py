"""What this machine's copy of the registry says about merchants, for those who hand notifications in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from notifier.errors import RegistryUnreadable
from notifier.settings import Settings

if TYPE_CHECKING:
    from notifier.domain.registration import Registration
    from notifier.registry.cache import Registry

#: Seconds after which a command that runs for long looks whether something has changed.
FRESH = 5.0


class Registered:
    """Reads the copy if there is one: where no service runs nothing is known, and the defaults serve."""

    def __init__(self, settings: Settings) -> None:
        self._directory = Path(settings.state_dir)
        self._opened: Registry | None = None
        self._looked = time.monotonic()

    def ladder(self, merchant: str) -> str | None:
        """The merchant's own ladder, if it is registered with one."""
        found = self._get(merchant)
        return None if found is None or found.ladder is None else str(found.ladder)

    def has_url(self, merchant: str) -> bool:
        """Whether it is known to be registered with a url."""
        found = self._get(merchant)
        return found is not None and found.url is not None

    def _get(self, merchant: str) -> Registration | None:
        try:
            if time.monotonic() - self._looked > FRESH:
                self._looked = time.monotonic()
                self._registry.refresh()
            return self._registry.get(merchant)
        except (RegistryUnreadable, UnicodeError):  # an id that is no text is refused elsewhere, with a sentence
            return None

    @property
    def _registry(self) -> Registry:
        if self._opened is None:
            from notifier.registry.cache import Registry  # here: with SQLite it is not needed for all that is handed in

            self._opened = Registry(self._directory)
        return self._opened
