"""What lies in deploy/ fits together, and fits the code: versions, names of settings, periods, exit codes."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notifier import runtime
from notifier.broker.node_files import DEAD_LETTER_PATIENCE
from notifier.errors import ConfigurationError
from notifier.settings import SECRET, Settings, load
from notifier.sources import FILE, FILE_VARIABLE, PREFIX, is_known, known
from notifier.supervision.departure import Limits

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

#: Seconds that the end of the service can take at worst: a drain that is used up, then SIGTERM, then SIGKILL.
LONGEST_END = Settings().drain_timeout + Limits().term
#: Seconds beyond that for the master itself, and a machine that is busy.
MARGIN = 5

SECRETS_OF_COMPOSE = {
    "RABBITMQ_PASSWORD": "0123456789abcdef",
    "NOTIFIER_SIGNING_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "NOTIFIER_API__TOKEN": "0123456789abcdef0123456789abcdef",
}


def test_both_brokers_are_one_pinned_version() -> None:
    pinned = compose()["services"]["rabbitmq"]["image"]
    assert re.fullmatch(r"rabbitmq:\d+\.\d+\.\d+-management", pinned)
    assert instructions(DEPLOY / "rabbitmq-delayed/Dockerfile", "FROM") == [pinned]


def test_the_plugin_is_of_the_brokers_series_and_verified_by_checksum() -> None:
    (image,) = instructions(DEPLOY / "rabbitmq-delayed/Dockerfile", "FROM")
    (added,) = instructions(DEPLOY / "rabbitmq-delayed/Dockerfile", "ADD")
    assert re.search(r"--checksum=sha256:[0-9a-f]{64} ", added)
    release, file = re.findall(r"/releases/download/v([\d.]+)/rabbitmq_delayed_message_exchange-([\d.]+)\.ez ", added)[
        0
    ]
    assert release == file
    assert release.split(".")[:2] == image.removeprefix("rabbitmq:").split(".")[:2]


def test_the_image_runs_the_python_of_the_project_and_not_as_root() -> None:
    (wanted,) = re.findall(r">=(3\.\d+)", project()["requires-python"])
    bases = {line.split(" AS ")[0] for line in instructions(DEPLOY / "Dockerfile", "FROM")}
    assert bases == {f"python:{wanted}-slim-bookworm"}
    assert instructions(DEPLOY / "Dockerfile", "USER") == ["notifier"]


def test_the_image_installs_what_the_constraints_pin() -> None:
    install = [line for line in instructions(DEPLOY / "Dockerfile", "RUN") if "pip install" in line]
    assert len(install) == 1
    assert "--constraint constraints.txt ." in install[0]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().lower().replace("_", "-").split())
    for requirement in project()["dependencies"]:
        named, least = requirement.split(">=")
        name = named.partition("[")[0]  # extras are not pinned apart
        assert version(pinned[name]) >= version(least), f"{name} is pinned below what the project requires"


def test_what_the_image_copies_exists_and_is_sent_to_the_engine() -> None:
    sent = {line[1:] for line in lines(DEPLOY / "Dockerfile.dockerignore") if line.startswith("!")}
    copied = {
        source
        for line in instructions(DEPLOY / "Dockerfile", "COPY")
        if not line.startswith("--from=")
        for source in line.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


def test_the_service_starts_with_the_environment_of_the_compose_file() -> None:
    services = compose()["services"]
    environment = {name: substituted(value) for name, value in services["notifier"]["environment"].items()}
    settings = load(environment=environment, file=DEPLOY / "notifier.toml")
    assert settings.secrets
    (address,) = settings.amqp_urls
    broker = {name: substituted(value) for name, value in services["rabbitmq"]["environment"].items()}
    user, password = broker["RABBITMQ_DEFAULT_USER"], broker["RABBITMQ_DEFAULT_PASS"]
    assert address == f"amqp://{user}:{password}@{services['rabbitmq']['hostname']}:5672/"


def test_the_compose_files_secrets_are_those_of_the_example() -> None:
    named = re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text())
    offered = re.findall(r"^(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE)
    assert set(named) == set(offered) == set(SECRETS_OF_COMPOSE)


def test_the_settings_file_is_mounted_where_the_service_looks_for_it() -> None:
    (workplace,) = (line for line in instructions(DEPLOY / "Dockerfile", "WORKDIR") if line.startswith("/srv"))
    assert f"./{FILE}:{workplace}/{FILE}:ro" in compose()["services"]["notifier"]["volumes"]


def test_the_broker_gives_up_a_forgotten_hand_over_as_soon_as_a_private_node_does() -> None:
    """Its own default is three minutes, for which a tier would be slow after a restart."""
    assert "./advanced.config:/etc/rabbitmq/advanced.config:ro" in compose()["services"]["rabbitmq"]["volumes"]
    stated = [line for line in (DEPLOY / "advanced.config").read_text().splitlines() if not line.startswith("%")]
    assert stated == [f"[{{rabbit, [{{dead_letter_worker_publisher_confirm_timeout, {DEAD_LETTER_PATIENCE}}}]}}]."]
    assert stated[0] in (ROOT / "docs/operations.md").read_text()


@pytest.mark.parametrize("variable", ["NOTIFIER_RUNTIME_DIR", "NOTIFIER_STATE_DIR"])
def test_what_operators_set_and_what_the_ledger_holds_outlive_the_container(variable: str) -> None:
    (stated,) = (line for line in instructions(DEPLOY / "Dockerfile", "ENV") if line.startswith(f"{variable}="))
    directory = stated.partition("=")[2]
    settings = load(environment={variable: directory}, file=DEPLOY / "notifier.toml")
    assert directory in (settings.runtime_dir, settings.state_dir)
    named = [
        volume.split(":")[0] for volume in compose()["services"]["notifier"]["volumes"] if f":{directory}" in volume
    ]
    assert len(named) == 1
    assert set(named) <= set(compose()["volumes"])
    (made,) = (line for line in instructions(DEPLOY / "Dockerfile", "RUN") if directory in line)
    assert "--owner=notifier --mode=0700" in made


def test_root_finds_the_unit_without_further_ado() -> None:
    service = unit()["Service"]
    stated = dict(part.split("=") for part in service["Environment"].split())
    runs = Path(stated["NOTIFIER_RUNTIME_DIR"].replace("%t", "/run"))
    keeps = Path(stated["NOTIFIER_STATE_DIR"].replace("%S", "/var/lib"))
    assert runs == runtime.default(Settings().namespace, {}, 0)
    assert keeps == runtime.default_state(Settings().namespace, {}, 0)
    assert runs.parent == Path("/run", service["RuntimeDirectory"])
    assert keeps.parent == Path("/var/lib", service["StateDirectory"])
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert service["RuntimeDirectoryMode"] == "0700"


def test_the_plugins_compose_file_changes_broker_and_setting_together() -> None:
    services = read_yaml((DEPLOY / "compose.delayed.yaml").read_text())["services"]
    assert (DEPLOY / services["rabbitmq"]["build"]["context"] / "Dockerfile").is_file()
    settings = load(environment=services["notifier"]["environment"], file=DEPLOY / "notifier.toml")
    assert settings.delay == "plugin"


@pytest.mark.skipif(shutil.which("docker") is None, reason="no container client is installed")
@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.delayed.yaml")])
def test_the_container_client_accepts_the_compose_files(files: tuple[str, ...]) -> None:
    docker = ["docker", "compose"]
    if subprocess.run([*docker, "version"], capture_output=True, timeout=20).returncode:
        pytest.skip("the container client has no compose")
    named = [part for file in files for part in ("--file", str(DEPLOY / file))]
    environment = {**os.environ, **SECRETS_OF_COMPOSE}
    asked = subprocess.run([*docker, *named, "config", "--quiet"], capture_output=True, timeout=20, env=environment)
    assert (asked.returncode, asked.stderr) == (0, b"")


def test_a_drain_has_time_to_end_in_a_container() -> None:
    stated = compose()["services"]["notifier"]["stop_grace_period"]
    assert int(stated.removesuffix("s")) >= LONGEST_END + MARGIN


def test_a_drain_has_time_to_end_under_systemd() -> None:
    assert int(unit()["Service"]["TimeoutStopSec"]) >= LONGEST_END + MARGIN


def test_the_unit_lets_the_master_drain_and_gives_up_on_a_configuration_only() -> None:
    service = unit()["Service"]
    assert service["KillMode"] == "mixed"
    assert service["Restart"] == "on-failure"
    assert int(service["RestartPreventExitStatus"]) == ConfigurationError.exit_code
    assert service["ExecStart"].endswith("/notifier run")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd is installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "notifier.service").read_text()
    start = unit()["Service"]["ExecStart"]
    installed = tmp_path / "notifier.service"
    installed.write_text(text.replace(start, "/bin/true"))  # verify looks whether the program is there
    asked = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True, timeout=30)
    assert (asked.returncode, asked.stderr) == (0, "")


def test_the_example_settings_are_accepted_as_they_stand_and_change_nothing() -> None:
    assert load(environment={}, file=DEPLOY / "notifier.toml") == Settings()


def test_the_example_names_every_setting_with_its_default() -> None:
    example = tomllib.loads(uncommented((DEPLOY / "notifier.toml").read_text()))
    named = {name for name, value in example.items() if not isinstance(value, dict)}
    sections = [name for name, value in example.items() if isinstance(value, dict) and name != "ladders"]
    named |= {f"{section}.{name}" for section in sections for name in example[section]}
    assert named == set(known()) - set(SECRET) - {"api.token"}
    examples = (
        "callback",
        "egress.allow",
        "isolation.rate",
        "ladders.patient",
        "operations.url",
        "runtime_dir",
        "state_dir",
        "machine",
    )  # no default that one could write down
    defaults = Settings().masked()
    for name in named - set(examples):
        section, _, part = name.rpartition(".")
        assert (example[section] if section else example)[part] == (defaults[section] if section else defaults)[part]


def test_the_example_is_accepted_with_every_line_in_force(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(uncommented((DEPLOY / "notifier.toml").read_text()))
    settings = load(environment={}, file=file)
    assert str(settings.named_ladders["patient"]) == "1m,10m,1h,6h,1d"
    assert settings.callback == "package.module:function"


def test_every_variable_that_deploy_names_is_a_setting() -> None:
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            for variable in re.findall(rf"\b{PREFIX}\w+", file.read_text()):
                name = variable.removeprefix(PREFIX).lower().replace("__", ".")
                assert variable == FILE_VARIABLE or is_known(name), f"{file.name} names {variable}"


def compose() -> dict[str, Any]:
    return read_yaml((DEPLOY / "compose.yaml").read_text())


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes="#", delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names are in mixed case
    parser.read(DEPLOY / "notifier.service")
    return parser


def project() -> dict[str, Any]:
    described: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return described


def lines(file: Path) -> list[str]:
    return [line for line in file.read_text().replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def instructions(dockerfile: Path, name: str) -> list[str]:
    """The arguments of every instruction of this name."""
    return [" ".join(line.split()[1:]) for line in lines(dockerfile) if line.split()[0] == name]


def substituted(value: str) -> str:
    """As compose does it with `${NAME:?what is missing}`."""
    return re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: SECRETS_OF_COMPOSE[found[1]], value)


def uncommented(text: str) -> str:
    """The example with every setting in force that is commented out; prose has a blank after its #."""
    return re.sub(r"^#(?=\w)", "", text, flags=re.MULTILINE)


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def read_yaml(text: str) -> dict[str, Any]:
    """The little YAML that the compose files need: nested mappings, lists of scalars, JSON in one line. Anything else
    raises, so that nothing is understood here otherwise than by the engine.
    """
    rows = [(len(line) - len(line.lstrip()), line.strip()) for line in text.splitlines() if line.strip()]
    rows = [(indent, said) for indent, said in rows if not said.startswith("#")]
    read, rest = _mapping(rows, 0)
    assert not rest, f"not understood: {rest[0]}"
    return read


Rows = list[tuple[int, str]]


def _mapping(rows: Rows, indent: int) -> tuple[dict[str, Any], Rows]:
    read: dict[str, Any] = {}
    while rows and rows[0][0] == indent and not rows[0][1].startswith("- "):
        found = re.fullmatch(r"(\w+):(?: (\S.*))?", rows[0][1])
        assert found, f"not understood: {rows[0][1]}"
        assert found[1] not in read, f"twice: {found[1]}"
        rows = rows[1:]
        if found[2] is not None:
            read[found[1]] = _scalar(found[2])
        elif rows and rows[0][0] > indent:
            below = _list if rows[0][1].startswith("- ") else _mapping
            read[found[1]], rows = below(rows, rows[0][0])
        else:
            read[found[1]] = None
    return read, rows


def _list(rows: Rows, indent: int) -> tuple[list[Any], Rows]:
    items = list(_items(rows, indent))
    return items, rows[len(items) :]


def _items(rows: Rows, indent: int) -> Iterator[Any]:
    for depth, said in rows:
        if depth != indent or not said.startswith("- "):
            return
        yield _scalar(said.removeprefix("- "))


def _scalar(text: str) -> Any:
    if text.startswith(('"', "[")):
        return json.loads(text)
    assert not re.search(r"[\"'{}\[\]#&*!|>%@`]|: |:$", text), f"not understood: {text}"
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdigit() else text
