"""What is imported for good."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from notifier.importing import for_good


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.freeze()  # as tests/conftest.py has it


@pytest.mark.usefixtures("_thawed")
def test_nothing_is_collected_during_the_block_and_what_it_made_is_never_looked_at_again() -> None:
    before = gc.get_freeze_count()
    with for_good():
        assert not gc.isenabled()
        made = [object(), []]
        assert any(each is made for each in gc.get_objects())
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    assert not any(each is made for each in gc.get_objects())


@pytest.mark.usefixtures("_thawed")
def test_an_import_that_fails_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), for_good():
        import notifier.nothing_of_that_name  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()
