"""The registry as one process sees it: the replica, with the merchants that were asked for last in memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from notifier.domain.registration import Registration
from notifier.errors import RegistryUnreadable
from notifier.registry import form
from notifier.registry.replica import FILE, ReplicaReader, Stand

#: Merchants in memory, under a kilobyte each. A look at the file costs 14 µs, a delivery thirty times that.
MOST = 500


class Registry:
    """Answers from memory, else from the replica. directory: the service's state directory. clock: Unix seconds.

    Synchronous and short: between a look and what is done on it, nothing else of the process runs. A merchant that is
    not there is remembered as well. What is in memory is dropped by `refresh` only.
    """

    def __init__(self, directory: Path, most: int = MOST, clock: Callable[[], float] = time.time) -> None:
        self._replica = ReplicaReader(directory / FILE)
        self._most = most
        self._clock = clock
        self._known: OrderedDict[str, Registration | None] = OrderedDict()
        self._stand: Stand | None = None
        self._cancellations = False

    @property
    def stand(self) -> Stand | None:
        """How far the replica was at the last `refresh`; None if there was no complete one."""
        return self._stand

    def close(self) -> None:
        """Twice is fine; looking again opens it again."""
        self._replica.close()

    def refresh(self, version: int = 0) -> list[str] | None:
        """Look again how far the replica is, and drop from memory what changed since the last time.

        Returns the ids of what changed; None means: possibly all. Raises RegistryUnreadable if there is no complete
        replica that is at least as far as `version`, or none that can be read; the old memory stays then.
        """
        stand = self._replica.stand()
        if stand is None or stand.version < version:
            self._replica.close()  # in case the file was replaced under us
            stand = self._replica.stand()
        if stand is None:
            raise RegistryUnreadable("there is no complete copy of the merchants on this machine yet")
        if stand.version < version:
            raise RegistryUnreadable(
                f"this machine's copy of the merchants is at version {stand.version}, version {version} is wanted"
            )
        changed = self._changed(stand)
        self._cancellations = self._replica.any_cancellation()
        self._drop(changed)
        self._stand = stand
        return changed

    def get(self, merchant: str) -> Registration | None:
        """The merchant as it is kept; None if the registry has none of that id. Raises RegistryUnreadable."""
        if merchant in self._known:
            self._known.move_to_end(merchant)
            return self._known[merchant]
        found = self._read(merchant)
        self._known[merchant] = found
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return found

    def cancelled(self, notification: str, run: int) -> str | None:
        """Why this run of the notification is not to be attempted; None if it is. Raises RegistryUnreadable."""
        if not self._cancellations:
            return None
        found = self._replica.cancellation(notification)
        if found is None or run > found.run or found.until <= self._clock() * 1000:
            return None
        return found.why or ""

    def _changed(self, stand: Stand) -> list[str] | None:
        before = self._stand
        if before is None or (before.origin, before.repairs) != (stand.origin, stand.repairs):
            return None
        if stand.version < before.version:  # the database is an older one by now
            return None
        changed = self._replica.changed_since(before.version, self._most + 1)
        return None if len(changed) > self._most else changed

    def _drop(self, changed: list[str] | None) -> None:
        if changed is None:
            self._known.clear()
            return
        for merchant in changed:
            self._known.pop(merchant, None)

    def _read(self, merchant: str) -> Registration | None:
        kept = self._replica.merchant(merchant)
        if kept is None or kept.body is None:
            return None
        try:
            return form.read(merchant, kept.body, kept.version, kept.changed_at)
        except ValueError as error:
            raise RegistryUnreadable(str(error)) from None
