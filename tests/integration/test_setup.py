"""The set-up scripts, with apt-get, sudo, docker and systemctl played by scripts that keep what they were asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
MAKEFILE = SCRIPTS.parent / "Makefile"


class Machine:
    """A machine to set up. bin: the programs that it has, besides the plain ones. policy: its policy-rc.d."""

    def __init__(self, place: Path) -> None:
        self.bin = place / "bin"
        self.policy = place / "policy-rc.d"
        self.asked = place / "asked"
        self._scripts = place / "clone with spaces" / "scripts"
        shutil.copytree(SCRIPTS, self._scripts)
        install = self._scripts / "install.sh"
        text = install.read_text()
        assert "POLICY=/usr/sbin/policy-rc.d" in text
        assert "PATH=$PATH:/usr/sbin:/sbin" in text
        install.write_text(
            text.replace("/usr/sbin/policy-rc.d", f"'{self.policy}'").replace("PATH=$PATH:/usr/sbin:/sbin", "")
        )
        rabbitmq = self._scripts / "rabbitmq.sh"
        rabbitmq.write_text(rabbitmq.read_text().replace("/usr/lib/rabbitmq/bin", str(place / "installed")))
        self.bin.mkdir()
        for plain in ("sh", "dirname", "cat", "tee", "grep", "chmod", "rm", "mktemp", "timeout", "env", "sleep", "id"):
            found = shutil.which(plain)
            assert found
            (self.bin / plain).symlink_to(found)
        self.has("id", "echo 0")
        self.has("dpkg-query", "exit 1")
        self.has("apt-get")

    def has(self, program: str, script: str = "") -> None:
        """Give it a program, which keeps its arguments and then does as the script says."""
        path = self.bin / program
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/sh\necho "{program} $*" >> "{self.asked}"\n{script}\n')
        path.chmod(0o755)

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._scripts / script), *arguments],
            capture_output=True,
            text=True,
            env={"PATH": str(self.bin), **variables},
            timeout=30,
        )

    def requests(self, program: str) -> list[str]:
        lines = self.asked.read_text().splitlines() if self.asked.exists() else []
        return [line for line in lines if line.startswith(f"{program} ")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_named_broker_needs_no_server(machine: Machine) -> None:
    done = machine.run("rabbitmq.sh", NOTIFIER_AMQP_URL="amqp://guest:guest@elsewhere/")
    assert (done.returncode, done.stderr, machine.requests("apt-get")) == (0, "", [])


def test_a_container_engine_that_answers_needs_no_server(machine: Machine) -> None:
    machine.has("docker", "echo 28.2.2")
    assert machine.run("rabbitmq.sh").returncode == 0
    assert machine.requests("apt-get") == []


@pytest.mark.parametrize(
    "client", ["echo 'Cannot connect to the Docker daemon' >&2; exit 1", "exit 0", "exec sleep 60"]
)
def test_a_container_client_without_an_engine_does_not_count(machine: Machine, client: str) -> None:
    machine.has("docker", client)
    assert machine.run("rabbitmq.sh").returncode == 0
    assert "install -y --no-install-recommends rabbitmq-server" in machine.requests("apt-get")[0]


def test_an_installed_server_is_left_as_it_is(machine: Machine) -> None:
    machine.has("rabbitmq-server")
    assert machine.run("rabbitmq.sh").returncode == 0
    assert machine.requests("apt-get") == []
    assert machine.requests("systemctl") == []


def test_a_package_that_is_installed_is_left_as_it_is(machine: Machine) -> None:
    machine.has("dpkg-query", "echo installed")
    assert machine.run("install.sh", "rabbitmq-server").returncode == 0
    assert machine.requests("apt-get") == []


def test_it_says_in_one_line_what_it_installs(machine: Machine) -> None:
    done = machine.run("install.sh", "rabbitmq-server")
    assert done.stderr.splitlines() == [
        "set-up: installing rabbitmq-server from the distribution's packages; no service is started, and theirs are "
        "left disabled"
    ]
    assert done.stdout == ""


def test_an_ordinary_user_becomes_root_by_sudo_and_only_for_what_needs_it(machine: Machine) -> None:
    machine.has("id", "echo 1000")
    machine.has("sudo", 'exec "$@"')
    assert machine.run("install.sh", "rabbitmq-server").returncode == 0
    assert any("apt-get -qq" in line and "install -y" in line for line in machine.requests("sudo"))
    assert not machine.policy.exists()


def test_an_ordinary_user_without_sudo_is_told_what_root_must_do(machine: Machine) -> None:
    machine.has("id", "echo 1000")
    done = machine.run("install.sh", "rabbitmq-server")
    assert done.returncode == 1
    assert "run as root 'apt-get install rabbitmq-server'" in done.stderr
    assert machine.requests("apt-get") == []


def test_another_distribution_is_told_what_to_install(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    done = machine.run("install.sh", "rabbitmq-server")
    assert done.returncode == 1
    assert "install them with your system's package manager" in done.stderr


def test_a_stale_list_of_packages_is_fetched_again(machine: Machine) -> None:
    machine.has("apt-get", f'case "$*" in *update*) : > "{machine.bin}/fresh";; *) [ -e "{machine.bin}/fresh" ];; esac')
    assert machine.run("install.sh", "python3-venv").returncode == 0
    assert [line.split()[4] for line in machine.requests("apt-get")] == ["install", "update", "install"]


def test_what_apt_said_is_shown_when_it_fails_and_nothing_is_left(machine: Machine, tmp_path: Path) -> None:
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    machine.has("apt-get", "echo 'E: no space left'; exit 100")
    done = machine.run("install.sh", "rabbitmq-server", TMPDIR=str(tmp))
    assert done.returncode == 1
    assert "E: no space left" in done.stderr
    assert not list(tmp.iterdir())
    assert done.stderr.splitlines()[-1].startswith("set-up: ")
    assert not machine.policy.exists()


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("rabbitmq-server start", 101),
        ("--quiet rabbitmq-server start 2", 101),
        ("rabbitmq-server.service restart", 101),
        ("epmd.socket start", 101),
        ("nginx start", 101),
        ("cron start", 101),
        ("cron (start)", 101),
        ("postgresql restart", 0),
        ("ssh reload", 0),
    ],
)
def test_while_packages_come_in_no_service_starts_and_none_that_runs_is_kept_from_restarting(
    machine: Machine, asked: str, answer: int
) -> None:
    machine.has(
        "apt-get", f'"{machine.policy}" {" ".join(map(repr, _arguments(asked)))}; echo "answer $?" >> "{machine.asked}"'
    )
    assert machine.run("install.sh", "rabbitmq-server").returncode == 0
    assert machine.requests("answer") == [f"answer {answer}"]
    assert not machine.policy.exists()


def test_a_policy_left_behind_by_a_kill_forbids_nothing_and_is_replaced(machine: Machine) -> None:
    machine.has("apt-get", "kill -9 $PPID")
    assert machine.run("install.sh", "rabbitmq-server", TMPDIR=str(machine.bin)).returncode == -signal.SIGKILL
    assert subprocess.run([machine.policy, "rabbitmq-server", "start"]).returncode == 0

    machine.has("apt-get")
    assert machine.run("install.sh", "rabbitmq-server").returncode == 0
    assert not machine.policy.exists()


def test_a_policy_of_the_machine_that_forbids_is_used_and_kept(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\nexit 101\n")
    machine.policy.chmod(0o755)
    assert machine.run("install.sh", "rabbitmq-server").returncode == 0
    assert machine.policy.read_text() == "#!/bin/sh\nexit 101\n"


def test_a_policy_of_the_machine_that_lets_services_start_stops_the_set_up(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\nexit 0\n")
    machine.policy.chmod(0o755)
    done = machine.run("install.sh", "rabbitmq-server")
    assert done.returncode == 1
    assert "lets services start" in done.stderr
    assert machine.requests("apt-get") == []
    assert machine.run("install.sh", "python3-venv").returncode == 0  # brings no service


def test_its_services_stay_off_at_the_next_boot_too(machine: Machine) -> None:
    machine.has("systemctl")
    assert machine.run("install.sh", "rabbitmq-server").returncode == 0
    disabled = {line.split()[-1] for line in machine.requests("systemctl")}
    assert disabled == {"rabbitmq-server.service", "rabbitmq-server.socket", "epmd.service", "epmd.socket"}


def test_an_epmd_that_was_here_before_is_left_alone(machine: Machine) -> None:
    machine.has("dpkg-query", 'case "$*" in *erlang-base*) echo installed;; *) exit 1;; esac')
    machine.has("systemctl")
    assert machine.run("install.sh", "rabbitmq-server").returncode == 0
    assert {line.split()[-1] for line in machine.requests("systemctl")} == {
        "rabbitmq-server.service",
        "rabbitmq-server.socket",
    }


def test_a_postgresql_of_the_distribution_stays_off(machine: Machine) -> None:
    machine.has("systemctl")
    machine.has("apt-get", f'"{machine.policy}" postgresql start 15; echo "answer $?" >> "{machine.asked}"')
    done = machine.run("install.sh", "postgresql")
    assert done.returncode == 0
    assert "no service is started" in done.stderr
    assert machine.requests("answer") == ["answer 101"]
    assert {line.split()[-1] for line in machine.requests("systemctl")} == {"postgresql.service", "postgresql.socket"}


def test_an_installed_postgresql_is_left_as_it_is(machine: Machine) -> None:
    machine.has("initdb")
    assert machine.run("postgres.sh").returncode == 0
    assert machine.requests("apt-get") == []


def test_make_help_lists_every_target() -> None:
    [phony] = [line for line in MAKEFILE.read_text().splitlines() if line.startswith(".PHONY:")]
    # The suite itself may be run by a make, whose ways this one must not take over.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    shown = subprocess.run(
        ["make", "help"], cwd=MAKEFILE.parent, env=outside, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[1] for line in shown.splitlines()] == phony.split()[1:]


def _arguments(asked: str) -> list[str]:
    return asked.split() if "(" not in asked else asked.split(" ", 1)
