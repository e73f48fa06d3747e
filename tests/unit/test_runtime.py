"""Where the runtime directory is, for the service and for `notifier ctl`."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from notifier import runtime
from notifier.errors import ConfigurationError
from notifier.settings import Settings, load


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


HOME = pwd.getpwuid(os.geteuid()).pw_dir


@pytest.mark.parametrize(
    ("uid", "environment", "where"),
    [
        (0, {}, "/run/notifier/shop"),
        (0, {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root"}, "/run/notifier/shop"),
        (1000, {"XDG_RUNTIME_DIR": "/run/user/1000"}, "/run/user/1000/notifier/shop"),
        (1000, {"XDG_RUNTIME_DIR": "", "HOME": "/home/ada"}, "/home/ada/.local/state/notifier/run/shop"),
        (1000, {"HOME": "/home/ada", "XDG_STATE_HOME": "/var/ada"}, "/var/ada/notifier/run/shop"),
        (2**31 - 5, {}, "/.local/state/notifier/run/shop"),
    ],
)
def test_every_user_and_every_namespace_has_a_default_of_its_own(
    uid: int, environment: dict[str, str], where: str
) -> None:
    assert runtime.default("shop", environment, uid) == Path(where)


def test_without_a_home_in_the_environment_the_users_own_is_taken() -> None:
    nobody = pwd.getpwnam("nobody")
    assert runtime.default("x", {}, nobody.pw_uid) == Path(nobody.pw_dir, ".local/state/notifier/run/x")


FILE = "runtime_dir = '/from/file'\nnamespace = 'shop'\n"


@pytest.mark.parametrize(
    ("file", "environment", "where"),
    [
        ("", {"NOTIFIER_RUNTIME_DIR": "/a/b"}, "/a/b"),
        (FILE, {}, "/from/file"),
        (FILE, {"NOTIFIER_RUNTIME_DIR": ""}, "/from/file"),
        (FILE, {"NOTIFIER_RUNTIME_DIR": "/a/b"}, "/a/b"),
        ("namespace = 'shop'", {}, None),
        ("namespace = 'bar'", {"NOTIFIER_NAMESPACE": "shop"}, None),
        ("runtime_dir = ''", {"NOTIFIER_NAMESPACE": "shop"}, None),
    ],
)
def test_the_service_and_ctl_mean_the_same_place(file: str, environment: dict[str, str], where: str | None) -> None:
    Path("notifier.toml").write_text(file)
    expected = str(runtime.default("shop", os.environ, os.geteuid())) if where is None else where
    told = {name: value for name, value in os.environ.items() if name.startswith("XDG_") or name == "HOME"}
    assert str(runtime.directory({**told, **environment})) == expected
    assert load(environment=environment).runtime_dir == expected


def test_another_file_can_be_named() -> None:
    Path("other.toml").write_text("runtime_dir = '/other'")
    assert runtime.directory({"NOTIFIER_CONFIG": "other.toml"}) == Path("/other")
    with pytest.raises(ConfigurationError, match=r"gone\.toml does not exist"):
        runtime.directory({"NOTIFIER_CONFIG": "gone.toml"})


@pytest.mark.parametrize("value", ["run", "./run", "~/run"])
def test_a_relative_path_is_refused_by_both_in_the_same_words(value: str) -> None:
    environment = {"NOTIFIER_RUNTIME_DIR": value}
    refusals = []
    for ask in (lambda: runtime.directory(environment), lambda: load(environment=environment)):
        with pytest.raises(ConfigurationError) as refused:
            ask()
        refusals.append(str(refused.value))
    assert refusals == [f"NOTIFIER_RUNTIME_DIR: {value!r} is not an absolute path such as /run/notifier"] * 2


@pytest.mark.parametrize(
    ("file", "environment", "told"),
    [
        ("runtime_dir = 7", {}, r"runtime_dir in notifier\.toml: 7 is not an absolute path"),
        ("namespace = 7", {}, r"namespace in notifier\.toml is 7: 1 to 64 letters"),
        ("", {"NOTIFIER_NAMESPACE": "../x"}, r"NOTIFIER_NAMESPACE is '\.\./x': 1 to 64"),
        ("=", {}, r"notifier\.toml is not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(file: str, environment: dict[str, str], told: str) -> None:
    Path("notifier.toml").write_text(file)
    with pytest.raises(ConfigurationError, match=told):
        runtime.directory(environment)


def test_a_broken_file_does_not_matter_if_the_environment_says_where() -> None:
    Path("notifier.toml").write_text("=")
    assert runtime.directory({"NOTIFIER_RUNTIME_DIR": "/a"}) == Path("/a")


def test_a_wrong_namespace_is_one_problem_and_not_two() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load(environment={"NOTIFIER_NAMESPACE": "a b"})
    assert len(str(refused.value).splitlines()) == 1


def test_children_receive_the_directory_of_their_master() -> None:
    sent = Settings(runtime_dir="/a/b").transferable()
    assert Settings.received(sent).runtime_dir == "/a/b"


def test_it_is_found_without_loading_the_settings() -> None:
    program = "import sys, notifier.runtime as r; r.directory({}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"pydantic", "notifier.settings", "notifier.sources"} & set(done.stdout.split())
