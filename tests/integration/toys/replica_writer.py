"""Writes change after change into a copy of the registry, and prints the version of each that is committed."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from notifier.domain.registration import Registration
from notifier.domain.signature import Secret
from notifier.registry import form
from notifier.registry.replica import Kept, ReplicaWriter, Stand

#: Version v changes the merchant `shop-{v % MERCHANTS}`, whose url then says v.
MERCHANTS = 7


def main(path: str) -> None:
    writer = ReplicaWriter(Path(path))
    writer.open()
    stand = writer.stand()
    secret = Secret(b"k" * 24)
    for version in itertools.count(stand.version + 1 if stand else 1):
        merchant = f"shop-{version % MERCHANTS}"
        registration = Registration(merchant, url=f"https://shop.example/{version}", secret=secret)
        row = Kept(merchant, version, form.written(registration), version)
        writer.apply([row], [], Stand("toy", version, version))
        print(version, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
