"""Plants one bug, named in PLANTED_BUG, into every Python process that has this directory on PYTHONPATH.

Python imports a module of this name at its start. The bug is patched in right after its module was imported, so that
nothing of the product knows of it; each bug is a file beside this one: `MODULE`, and `plant(module)`.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType


class _Gardener(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the one module as everybody would, and plants the bug once it is there."""

    def __init__(self, bug: ModuleType) -> None:
        self._bug = bug
        self._real: importlib.machinery.ModuleSpec | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._bug.MODULE or self._real is not None:
            return None
        sys.meta_path.remove(self)
        self._real = importlib.util.find_spec(fullname)
        assert self._real is not None
        return importlib.util.spec_from_loader(fullname, self, origin=self._real.origin)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        assert self._real is not None
        assert self._real.loader is not None
        module.__file__ = self._real.origin
        self._real.loader.exec_module(module)
        self._bug.plant(module)


if name := os.environ.get("PLANTED_BUG"):
    sys.meta_path.insert(0, _Gardener(importlib.import_module(name)))
