"""This machine's copy of the merchants and the memory over it, on a real file."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifier.domain.registration import Registration
from notifier.domain.signature import Secret
from notifier.errors import RegistryUnreadable
from notifier.registry import form
from notifier.registry.cache import Registry
from notifier.registry.replica import FILE, Cancelled, Kept, ReplicaReader, ReplicaWriter, Stand

SECRET = Secret(b"k" * 24)
ORIGIN = "one"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[ReplicaWriter]:
    writer = ReplicaWriter(tmp_path / "state" / FILE)
    writer.open()
    yield writer
    writer.close()


@pytest.fixture
def registry(writer: ReplicaWriter) -> Iterator[Registry]:
    registry = Registry(writer.path.parent, most=3, clock=lambda: 1000.0)
    yield registry
    registry.close()


def kept(merchant: str, version: int, url: str | None = "https://shop.example/") -> Kept:
    body = None if url is None else form.written(Registration(merchant, url=url, secret=SECRET))
    return Kept(merchant, version, body, 1000)


def apply(writer: ReplicaWriter, version: int, *rows: Kept, cancelled: tuple[Cancelled, ...] = ()) -> None:
    writer.apply(rows, cancelled, Stand(ORIGIN, version, confirmed_at=version * 1000))


def url_of(registry: Registry, merchant: str) -> str | None:
    found = registry.get(merchant)
    return None if found is None else found.url


def test_the_file_and_its_directory_are_for_this_user_alone(writer: ReplicaWriter) -> None:
    apply(writer, 1, kept("a", 1))
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in [writer.path.parent, *writer.path.parent.iterdir()]
    }
    assert modes == {"state": 0o700, FILE: 0o600, f"{FILE}-wal": 0o600, f"{FILE}-shm": 0o600}


def test_a_copy_that_was_begun_anew_answers_nothing_before_it_is_complete(
    writer: ReplicaWriter, registry: Registry
) -> None:
    """Else whoever is blocked or cancelled would pass for a merchant that nobody has registered."""
    apply(writer, 1, kept("a", 1), cancelled=(Cancelled("n", 1, 0, "why", 10**14),))
    registry.refresh()
    reader = ReplicaReader(writer.path)
    writer.renew()
    for look in (lambda: reader.merchant("a"), lambda: reader.cancellation("n"), reader.any_cancellation):
        with pytest.raises(RegistryUnreadable, match="not complete"):
            look()
    apply(writer, 2, kept("a", 2))
    assert reader.merchant("a") == kept("a", 2)
    reader.close()


def test_a_copy_is_not_there_before_it_is_complete(writer: ReplicaWriter, registry: Registry) -> None:
    writer.keep([kept("a", 1)], [])
    with pytest.raises(RegistryUnreadable, match="no complete copy"):
        registry.refresh()
    assert registry.stand is None
    apply(writer, 1)
    assert registry.refresh() is None
    assert registry.stand == Stand(ORIGIN, 1, confirmed_at=1000)


def test_a_file_that_is_missing_is_no_copy(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    with pytest.raises(RegistryUnreadable, match="no complete copy"):
        registry.refresh()
    assert list(tmp_path.iterdir()) == []


def test_a_merchant_is_read_as_it_was_kept_and_a_removed_one_is_none(writer: ReplicaWriter, registry: Registry) -> None:
    apply(writer, 3, kept("a", 1), kept("b", 3, None))
    registry.refresh()
    assert registry.get("a") == Registration(
        "a", url="https://shop.example/", secret=SECRET, version=1, changed_at=1000
    )
    assert registry.get("b") is None
    assert registry.get("nobody") is None


def test_what_is_in_memory_changes_with_the_next_refresh_and_not_before(
    writer: ReplicaWriter, registry: Registry
) -> None:
    apply(writer, 1, kept("a", 1))
    registry.refresh()
    assert url_of(registry, "a") == "https://shop.example/"
    assert registry.get("b") is None
    apply(writer, 3, kept("a", 2, "https://new.example/"), kept("b", 3))
    assert (url_of(registry, "a"), registry.get("b")) == ("https://shop.example/", None)
    assert sorted(registry.refresh(3) or []) == ["a", "b"]
    assert (url_of(registry, "a"), url_of(registry, "b")) == ("https://new.example/", "https://shop.example/")
    assert registry.refresh(3) == []


def test_memory_is_bounded_and_keeps_what_was_asked_for_last(writer: ReplicaWriter, registry: Registry) -> None:
    apply(writer, 1, *(kept(name, 1) for name in "abcd"))
    registry.refresh()
    for name in "abcad":  # of three places, b loses its own
        registry.get(name)
    writer.keep([kept(name, 1, "https://new.example/") for name in "abcd"], [])  # by no version: memory does not know
    assert [url_of(registry, name) for name in "acd"] == ["https://shop.example/"] * 3
    assert url_of(registry, "b") == "https://new.example/"


def test_more_changes_than_memory_has_places_empty_it(writer: ReplicaWriter, registry: Registry) -> None:
    apply(writer, 1, kept("a", 1))
    registry.refresh()
    registry.get("a")
    apply(writer, 5, *(kept(name, version, "https://new.example/") for version, name in enumerate("abcd", 2)))
    assert registry.refresh() is None
    assert url_of(registry, "a") == "https://new.example/"


def test_an_older_copy_than_wanted_is_refused_and_memory_stays(writer: ReplicaWriter, registry: Registry) -> None:
    apply(writer, 1, kept("a", 1))
    registry.refresh()
    with pytest.raises(RegistryUnreadable, match="is at version 1, version 2 is wanted"):
        registry.refresh(2)
    assert url_of(registry, "a") == "https://shop.example/"
    assert registry.stand == Stand(ORIGIN, 1, confirmed_at=1000)


@pytest.mark.parametrize(
    "stand",
    [Stand("another", 1, 0), Stand(ORIGIN, 1, 0, repairs=1), Stand(ORIGIN, 0, 0)],
    ids=["another registry", "a repair", "an older one"],
)
def test_a_copy_that_changed_without_a_version_empties_memory(
    writer: ReplicaWriter, registry: Registry, stand: Stand
) -> None:
    apply(writer, 1, kept("a", 1))
    registry.refresh()
    registry.get("a")
    writer.apply([kept("a", 1, "https://new.example/")], [], stand)
    assert registry.refresh() is None
    assert url_of(registry, "a") == "https://new.example/"


def test_a_reader_follows_when_the_file_is_replaced(writer: ReplicaWriter, registry: Registry) -> None:
    apply(writer, 4, kept("a", 1))
    registry.refresh()
    registry.get("a")
    writer.renew()
    writer.apply([kept("a", 2, "https://new.example/")], [], Stand("another", 4))
    registry.refresh(4)
    assert url_of(registry, "a") == "https://new.example/"


def test_a_damaged_file_is_told_by_a_reader_and_made_anew_by_the_writer(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_bytes(b"this is no database at all, it is text" * 100)
    reader = ReplicaReader(file)
    with pytest.raises(RegistryUnreadable, match=f"{FILE}, cannot be read"):
        reader.stand()
    writer = ReplicaWriter(file)
    writer.open()
    try:
        assert writer.stand() is None
        apply(writer, 1, kept("a", 1))
        assert reader.stand() == Stand(ORIGIN, 1, 1000)
    finally:
        reader.close()
        writer.close()


def test_a_copy_of_another_format_is_made_anew(writer: ReplicaWriter) -> None:
    apply(writer, 1, kept("a", 1))
    writer.close()
    with sqlite3.connect(writer.path) as connection:
        connection.execute("UPDATE copy SET format = 99")
    connection.close()
    writer.open()
    assert (writer.stand(), writer.merchant("a")) == (None, None)


def test_a_directory_that_cannot_be_used_is_told_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryUnreadable, match="NOTIFIER_STATE_DIR"):
        ReplicaWriter(tmp_path / "file" / FILE).open()


def test_a_reader_cannot_write(writer: ReplicaWriter) -> None:
    apply(writer, 1)
    reader = ReplicaReader(writer.path)
    assert reader.stand() is not None
    with pytest.raises(RegistryUnreadable, match="readonly"):
        reader._look("DELETE FROM copy")
    reader.close()
    assert writer.stand() is not None


def test_a_transaction_that_fails_leaves_everything_as_it_was(writer: ReplicaWriter) -> None:
    apply(writer, 1, kept("a", 1))
    with pytest.raises(sqlite3.Error):
        writer.apply([kept("b", 2)], [Cancelled("n", 2, None, None, 0)], Stand(ORIGIN, 2))  # type: ignore[arg-type]
    assert (writer.stand(), writer.merchant("b")) == (Stand(ORIGIN, 1, 1000), None)


def test_rows_are_found_by_their_versions_and_repaired_in_one_transaction(
    writer: ReplicaWriter, registry: Registry
) -> None:
    apply(writer, 6, *(kept(name, number) for number, name in enumerate("abcdef", 1)))
    registry.refresh()
    assert url_of(registry, "c") == "https://shop.example/"
    assert writer.between(1, 3) == {"b": kept("b", 2), "c": kept("c", 3)}
    assert list(writer.between(4, None)) == ["e", "f"]
    writer.repair([kept("c", 3, "https://new.example/"), kept("g", 7)], ["a", "f"], Stand(ORIGIN, 6, 0, repairs=1))
    assert [name for name in "abcdefg" if writer.merchant(name)] == ["b", "c", "d", "e", "g"]
    assert registry.refresh() is None
    assert url_of(registry, "c") == "https://new.example/"


def test_readers_see_nothing_of_a_rebuilding_before_it_is_done_or_given_up(
    writer: ReplicaWriter, registry: Registry
) -> None:
    apply(writer, 1, kept("a", 1), cancelled=(Cancelled("n", 1, 0, "why", 2_000_000),))
    registry.refresh()

    def rebuild(*, fail: bool) -> None:
        with writer.rebuilt() as put:
            put([kept("b", 1)])
            writer.finish([], Stand("another", 5))
            assert registry.refresh() == []
            assert registry.stand == Stand(ORIGIN, 1, 1000)
            assert url_of(registry, "a") == "https://shop.example/"
            if fail:
                raise RuntimeError("the database went away")

    with pytest.raises(RuntimeError):
        rebuild(fail=True)
    assert (writer.merchant("a"), writer.merchant("b")) == (kept("a", 1), None)
    rebuild(fail=False)
    assert registry.refresh() is None
    assert (registry.get("a"), url_of(registry, "b"), registry.stand) == (
        None,
        "https://shop.example/",
        Stand("another", 5),
    )
    assert registry.cancelled("n", 0) is None


@pytest.mark.parametrize(
    ("run", "why"),
    [(0, "order was taken back"), (2, "order was taken back"), (3, None)],
    ids=["earlier", "it", "later"],
)
def test_a_cancellation_counts_up_to_its_run(
    writer: ReplicaWriter, registry: Registry, run: int, why: str | None
) -> None:
    cancelled = Cancelled("ntf_1", 1, 2, "order was taken back", until=1_000_001)
    apply(writer, 1, cancelled=(cancelled,))
    registry.refresh()
    assert registry.cancelled("ntf_1", run) == why
    assert registry.cancelled("ntf_2", run) is None


def test_a_cancellation_ends_and_one_without_a_reason_counts(writer: ReplicaWriter, registry: Registry) -> None:
    apply(
        writer, 1, cancelled=(Cancelled("old", 1, 0, "why", until=1_000_000), Cancelled("bare", 1, 0, None, 2_000_000))
    )
    registry.refresh()
    assert registry.cancelled("old", 0) is None
    assert registry.cancelled("bare", 0) == ""


def test_what_is_kept_and_cannot_be_read_is_told(writer: ReplicaWriter, registry: Registry) -> None:
    apply(writer, 1, Kept("a", 1, "{", 0))
    registry.refresh()
    with pytest.raises(RegistryUnreadable, match="'a' cannot be read"):
        registry.get("a")
