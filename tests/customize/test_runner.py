"""Plans run end to end on a real sshd: what is done, what is skipped, what is tried again, what is told."""

import base64
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from midwife.core.facts import Facts
from midwife.core.plan import Plan, build_plan
from midwife.customize.bundles import BundleFolder
from midwife.customize.cancel import Cancel
from midwife.customize.runner import Outcome, RunEvent, Target, run_plan
from midwife.customize.secrets import Secrets
from midwife.site.model import Configuration, Host, Ssh, Step
from tests.customize.conftest import HASTY, Notebook, Watcher
from tests.peers.sshd import PASSWORD, HostMachine, OpenSsh, can_unshare, fingerprint_of, new_key

SECRET = "t0p 'secret' & more"


class Operator:
    """Somebody with a site and one host."""

    def __init__(
        self, host: HostMachine, bundles: BundleFolder, watcher: Watcher, notebook: Notebook
    ) -> None:
        self.host = host
        self.bundles = bundles
        self.watcher = watcher
        self.notebook = notebook
        self.cancel = Cancel()
        self.secrets = Secrets({"root": "env:ROOT", "licence": "clear:AAAAA-BBBBB"}, environ={"ROOT": SECRET})

    def plan(self, *steps: dict[str, Any]) -> Plan:
        made = build_plan(
            Configuration(name="esx", steps=tuple(Step(**step) for step in steps)),
            host=Host(name="esx-01", vars={"vlan": "20"}),
            facts=Facts(serial="ABC123"),
            ssh=Ssh(),
            bundles=self.bundles,
            secrets=["root", "licence"],
        )
        # As it is in life: the plan was stored, and is read back.
        return Plan.from_json(made.to_json())

    def target(self, **changes: Any) -> Target:
        values: dict[str, Any] = {
            "host": "esx-01",
            "address": "127.0.0.1",
            "pins": self.host.pins,
            "port": self.host.port,
            "user": self.host.user,
            "key": self.host.key,
        }
        return Target(**{**values, **changes})

    def push(
        self,
        *steps: dict[str, Any],
        completed: tuple[int, ...] = (),
        told: Callable[[], tuple[str, ...]] = tuple,
        **changes: Any,
    ) -> Outcome:
        return run_plan(
            self.plan(*steps),
            self.target(**changes),
            self.watcher,
            self.notebook,
            self.cancel,
            secrets=self.secrets,
            bundles=self.bundles,
            completed=completed,
            patience=HASTY,
            pins=told,
        )

    def event(self, kind: str) -> RunEvent:
        return next(event for event in self.watcher.events if event.kind == kind)


@pytest.fixture
def operator(openssh: HostMachine, bundles: BundleFolder, watcher: Watcher, notebook: Notebook) -> Operator:
    return Operator(openssh, bundles, watcher, notebook)


def test_a_whole_configuration_twice(operator: Operator, bundle_dir: Path, tmp_path: Path) -> None:
    """>> first push: everything changes << second push: only what cannot be checked is done again"""
    operator.host.shim("esxcli", f'echo "$*" >> {tmp_path}/esxcli.log')
    (bundle_dir / "motd").write_text("{{ host.name }} {{ facts.serial }}\n")
    (bundle_dir / "tool.vib").write_bytes(b"\0vib" * 1000)
    steps: tuple[dict[str, Any], ...] = (
        {"wait-online": "20s", "check": "true"},
        {"esxcli": "network vswitch standard portgroup set -p lab -v {{ host.vars.vlan }}"},
        {"upload": "motd", "to": f"{tmp_path}/etc/motd", "template": "true"},
        {"upload": "tool.vib", "to": f"{tmp_path}/tool.vib", "mode": "0600"},
        {"run": f"echo configured > {tmp_path}/done", "check": f"test -e {tmp_path}/done",
         "verify": f"grep configured {tmp_path}/done"},
    )  # fmt: skip
    first = operator.push(*steps)
    assert (first.state, first.changed) == ("done", 4)
    assert (tmp_path / "etc/motd").read_text() == "esx-01 ABC123\n"
    assert (tmp_path / "tool.vib").read_bytes() == b"\0vib" * 1000
    assert operator.watcher.told() == [
        "step_started 0", "step_done 0",
        "step_started 1", "step_done 1 changed",
        "step_started 2", "step_done 2 changed",
        "step_started 3", "step_done 3 changed",
        "step_started 4", "step_done 4 changed",
    ]  # fmt: skip
    assert operator.host.connections == 1

    operator.watcher.events.clear()
    second = operator.push(*steps)
    assert (second.state, second.changed) == ("done", 1)
    assert [told for told in operator.watcher.told() if "changed" in told] == ["step_done 1 changed"]
    assert (
        tmp_path / "esxcli.log"
    ).read_text() == "network vswitch standard portgroup set -p lab -v 20\n" * 2


def test_secrets_reach_the_host_and_nobody_else(operator: Operator, tmp_path: Path) -> None:
    """The commands do their worst: they echo, encode and fail with what they were given."""
    with capture_logs() as logs:
        outcome = operator.push(
            {"content": "pw={{ secret('root') }}\n", "to": f"{tmp_path}/pw", "mode": "0600"},
            {"run": "set -x; echo {{ secret('root') | quote }}; echo {{ secret('root') | quote }} | base64"},
            {"run": "printf %s {{ secret('root') | quote }} >&2; exit 4", "retries": 1},
        )
    assert (tmp_path / "pw").read_text() == f"pw={SECRET}\n"
    assert outcome.state == "failed"
    assert operator.event("step_failed").output == "<secret root>"
    told = operator.watcher.everything() + repr(outcome) + repr(logs)
    assert "secret root" in told
    for form in (SECRET, "t0p", base64.b64encode(SECRET.encode()).decode()[:8], "& more"):
        assert form not in told, form
    assert SECRET not in str(operator.plan({"run": "echo {{ secret('root') }}"}).to_json())


def test_an_early_step_may_show_what_only_a_later_one_needs(operator: Operator, tmp_path: Path) -> None:
    """>> the host still has the licence of an earlier push and prints it << it is masked already"""
    (tmp_path / "old").write_text("AAAAA-BBBBB")
    assert (
        operator.push({"run": f"cat {tmp_path}/old"}, {"run": "test {{ secret('licence') }}"}).state == "done"
    )
    assert "AAAAA" not in operator.watcher.everything()
    assert (
        operator.push(
            {"run": "test {{ secret('licence') }}"}, {"run": f"cat {tmp_path}/old"}, completed=(0,)
        ).state
        == "done"
    )
    assert "AAAAA" not in operator.watcher.everything()


def test_a_secret_that_is_missing_is_found_out_before_the_first_step(
    operator: Operator, tmp_path: Path
) -> None:
    operator.secrets = Secrets({"root": "env:ROOT"}, environ={})
    outcome = operator.push({"run": f"touch {tmp_path}/first"}, {"run": "test {{ secret('root') }}"})
    assert (outcome.state, outcome.step) == ("failed", 1)
    assert "environment variable ROOT is not set" in outcome.reason
    assert operator.host.connections == 0


def test_a_secret_in_a_file_is_idempotent_too(operator: Operator, tmp_path: Path) -> None:
    step = {"content": "{{ secret('licence') }}", "to": f"{tmp_path}/licence"}
    assert operator.push(step).changed == 1
    assert operator.push(step).changed == 0
    assert operator.plan(step).steps[0].sha256 == ""


def test_no_secret_for_a_host_that_was_not_authenticated(operator: Operator, tmp_path: Path) -> None:
    outcome = operator.push(
        {"run": f"touch {tmp_path}/first"},
        {"run": "passwd {{ secret('root') }}"},
        pins=None,
    )
    assert (outcome.state, outcome.step) == ("failed", 1)
    assert "authenticated" in outcome.reason
    assert not (tmp_path / "first").exists()
    assert operator.host.connections == 0


def test_an_unauthenticated_host_may_get_what_is_no_secret(operator: Operator) -> None:
    assert operator.push({"run": "true"}, pins=None, password="env:ROOT").state == "done"


def test_the_wrong_machine_answers(operator: Operator, tmp_path: Path) -> None:
    other = fingerprint_of(new_key(tmp_path / "other").with_suffix(".pub"))
    outcome = operator.push({"run": "true", "retries": 5}, pins=(other,))
    assert outcome.state == "failed"
    assert "is not one that the host's callback named" in outcome.reason
    assert operator.watcher.told() == ["step_started 0", "step_failed 0"]


def test_a_pin_that_is_garbage_is_not_no_pin(operator: Operator) -> None:
    outcome = operator.push({"run": "true"}, pins=("SHA256:garbage",))
    assert outcome.state == "failed"
    assert operator.host.connections == 0


def test_login_with_a_password_reference(
    openssh_with_password: HostMachine, bundles: BundleFolder, watcher: Watcher, notebook: Notebook
) -> None:
    operator = Operator(openssh_with_password, bundles, watcher, notebook)
    operator.secrets = Secrets({}, environ={"ROOTPW": PASSWORD})
    outcome = operator.push({"run": f"echo {PASSWORD}"}, key=None, password="env:ROOTPW")
    assert outcome.state == "done"
    assert PASSWORD not in watcher.everything()


def test_a_step_that_works_the_third_time(operator: Operator, tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) -ge 3"
    assert operator.push({"run": script, "retries": 2}).state == "done"
    assert operator.watcher.told() == [
        "step_started 0", "step_retry 0", "step_retry 0", "step_done 0 changed",
    ]  # fmt: skip
    assert operator.event("step_retry").text == "exit status 1"


def test_a_step_that_never_works(operator: Operator, tmp_path: Path) -> None:
    outcome = operator.push({"run": "echo why >&2; exit 7", "retries": 1}, {"run": f"touch {tmp_path}/after"})
    assert (outcome.state, outcome.step, outcome.reason) == ("failed", 0, "exit status 7")
    assert operator.event("step_failed").output == "why\n"
    assert operator.event("step_failed").attempt == 2
    assert not (tmp_path / "after").exists()


def test_a_command_that_does_not_exist_is_not_tried_again(operator: Operator) -> None:
    outcome = operator.push({"run": "no-such-command", "retries": 5})
    assert "not found" in outcome.reason
    assert operator.watcher.told() == ["step_started 0", "step_failed 0"]


def test_what_does_not_take_effect_fails_at_verify(operator: Operator, tmp_path: Path) -> None:
    outcome = operator.push(
        {"run": "true", "verify": f"ls {tmp_path}/missing", "retries": 0},
    )
    assert outcome.reason == f"verify failed: 'ls {tmp_path}/missing' exits 2"
    assert "No such file" in operator.event("step_failed").output


def test_a_step_that_takes_too_long(operator: Operator) -> None:
    outcome = operator.push({"run": "echo begun; exec sleep 300", "timeout": "500ms", "retries": 0})
    assert outcome.reason == "not finished after 0.5 s"
    assert operator.event("step_failed").output == "begun\n"


def test_the_connection_breaks_and_the_step_is_done_again(operator: Operator, tmp_path: Path) -> None:
    """>> sshd dies under the first attempt << a new connection, the step again"""
    script = f"if mkdir {tmp_path}/first; then exec sleep 300; fi; echo second"
    killer = threading.Thread(target=lambda: (_wait_for(tmp_path / "first"), operator.host.kill_sessions()))
    killer.start()
    outcome = operator.push({"run": script, "retries": 1, "timeout": "30s"})
    killer.join()
    assert outcome.state == "done"
    assert operator.watcher.told() == ["step_started 0", "step_retry 0", "step_done 0 changed"]
    assert operator.host.connections == 2


def test_cancel_in_the_middle_of_a_long_command(operator: Operator, tmp_path: Path) -> None:
    said = []

    def stop() -> None:
        _wait_for(tmp_path / "running")
        said.append(time.monotonic())
        operator.cancel.stop("cancelled by ada")

    stopper = threading.Thread(target=stop)
    stopper.start()
    outcome = operator.push({"run": f"touch {tmp_path}/running; exec sleep 60"})
    assert time.monotonic() - said[0] < 1.0
    stopper.join()
    assert (outcome.state, outcome.step, outcome.reason) == ("cancelled", 0, "cancelled by ada")


def test_cancel_while_the_host_is_not_up(
    bundles: BundleFolder, watcher: Watcher, notebook: Notebook, tmp_path: Path
) -> None:
    host = OpenSsh(tmp_path / "host")
    try:
        operator = Operator(host, bundles, watcher, notebook)
        watcher.on("connecting", -1, lambda: operator.cancel.stop("service stops", final=False))
        assert operator.push({"run": "true"}).state == "interrupted"
    finally:
        host.close()


def test_killed_between_two_steps_and_taken_up(operator: Operator, tmp_path: Path) -> None:
    """>> the process dies after step 0 was recorded << the next run begins with step 1"""
    steps = tuple({"run": f"echo {n} >> {tmp_path}/log"} for n in range(3))

    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    operator.watcher.on("step_started", 1, die)
    with pytest.raises(Killed):
        operator.push(*steps)
    assert (tmp_path / "log").read_text() == "0\n"
    done = tuple(event.step for event in operator.watcher.events if event.kind == "step_done")
    operator.watcher.deeds.clear()
    assert operator.push(*steps, completed=done).state == "done"
    assert (tmp_path / "log").read_text() == "0\n1\n2\n"


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert path.exists()


# --- uploads ------------------------------------------------------------------------------------------------


def test_a_bundle_that_changed_after_the_plan_was_made(
    operator: Operator, bundle_dir: Path, tmp_path: Path
) -> None:
    (bundle_dir / "file").write_text("planned")
    (tmp_path / "there").write_text("old")
    operator.watcher.on("step_started", 0, lambda: (bundle_dir / "file").write_text("changed"))
    outcome = operator.push({"upload": "file", "to": f"{tmp_path}/there", "retries": 5})
    assert "not the one that was planned any more" in outcome.reason
    assert (tmp_path / "there").read_text() == "old"
    assert operator.watcher.told() == ["step_started 0", "step_failed 0"]


def test_a_bundle_that_became_a_way_out(operator: Operator, bundle_dir: Path, tmp_path: Path) -> None:
    (bundle_dir / "file").write_text("planned")
    (tmp_path / "private").write_text("planned")

    def swap() -> None:
        (bundle_dir / "file").unlink()
        (bundle_dir / "file").symlink_to(tmp_path / "private")

    operator.watcher.on("step_started", 0, swap)
    assert "leads out of the bundles" in operator.push({"upload": "file", "to": f"{tmp_path}/there"}).reason


def test_an_upload_is_repaired_if_only_its_mode_is_wrong(operator: Operator, tmp_path: Path) -> None:
    step = {"content": "#!/bin/sh\n", "to": f"{tmp_path}/script", "mode": "755"}
    operator.push(step)
    (tmp_path / "script").chmod(0o644)
    assert operator.push(step).changed == 1
    assert (tmp_path / "script").stat().st_mode & 0o777 == 0o755


FAILED = ["step_started 0", "step_failed 0"]
RETRIED = ["step_started 0", "step_retry 0", "step_failed 0"]


# --- esxcli -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prints", "told", "reason"),
    [
        ("A portgroup with the name lab already exists", ["step_started 0", "step_done 0"], ""),
        ("Error: Unknown command or namespace netwrk", FAILED, "does not understand"),
        (" [MaintenanceModeError]\n Enter maintenance mode", FAILED, "MaintenanceModeError"),
        ("Connect to localhost failed: Connection failure", RETRIED, "hostd is not ready"),
        (" [MetadataDownloadError]\n timed out", RETRIED, "exits 1"),
    ],
)  # fmt: skip
def test_the_ways_of_esxcli_to_say_no(operator: Operator, prints: str, told: list[str], reason: str) -> None:
    (operator.host.folder / "says").write_text(prints + "\n")
    operator.host.shim("esxcli", f"cat {operator.host.folder}/says; exit 1")
    outcome = operator.push({"esxcli": "network vswitch standard portgroup add -p lab", "retries": 1})
    assert operator.watcher.told() == told
    assert reason in outcome.reason
    assert prints in operator.watcher.events[-1].output


def test_a_host_without_esxcli(operator: Operator) -> None:
    assert "the host has no esxcli" in operator.push({"esxcli": "system version get"}).reason


# --- waiting and rebooting ----------------------------------------------------------------------------------


def test_wait_online_waits_for_its_check(operator: Operator, tmp_path: Path) -> None:
    """hostd answers the third time."""
    check = f"echo x >> {tmp_path}/asked; test $(wc -l < {tmp_path}/asked) -ge 3"
    assert operator.push({"wait-online": "20s", "check": check}).state == "done"
    assert operator.host.connections == 1


def test_wait_online_gives_up(operator: Operator) -> None:
    outcome = operator.push({"wait-online": "400ms", "check": "echo hostd is down; false"})
    assert outcome.reason == "not online after 0.4 s: its check exits 1"
    assert operator.event("step_failed").output == "hostd is down\n"


@pytest.fixture
def reboots(operator: Operator) -> Operator:
    if not can_unshare():
        pytest.skip("needs root: the host's boot id is in a mount namespace")
    return operator


def test_a_reboot_is_waited_for(reboots: Operator) -> None:
    """>> reboot << the connection breaks, two more break, then another boot id"""
    before = reboots.host.boot_id.read_text()
    outcome = reboots.push({"reboot": "new driver"}, {"run": "cat /proc/sys/kernel/random/boot_id"})
    assert (outcome.state, reboots.host.reboots) == ("done", 1)
    assert reboots.watcher.events[-1].output == reboots.host.boot_id.read_text() != before
    assert reboots.notebook.notes == {"step-0.boot": f"id {before.strip()}"}


def new_host_key(host: HostMachine) -> str:
    """What ESXi that runs from memory does as it boots; gives the new key's fingerprint."""
    path = host.host_keys[0]
    path.unlink()
    path.with_suffix(".pub").unlink()
    new_key(path)
    return fingerprint_of(path.with_suffix(".pub"))


def test_a_host_that_makes_new_keys_at_each_boot(reboots: Operator) -> None:
    """>> reboot << another key; nothing is said to it >> callback with the new key << login, next step"""
    asked: list[str] = []

    def told() -> tuple[str, ...]:
        # The host is down after its second login of ours, and its callback comes two looks later.
        asked.append("")
        if len(asked) == 2:
            asked[0] = new_host_key(reboots.host)
        return (asked[0],) if len(asked) > 4 else ()

    outcome = reboots.push({"reboot": "new driver"}, {"run": "true"}, told=told)
    assert (outcome.state, reboots.host.reboots) == ("done", 1)
    assert len(asked) >= 5


def test_a_key_that_no_callback_named_is_never_taken(reboots: Operator) -> None:
    def told() -> tuple[str, ...]:
        if reboots.host.reboots:
            new_host_key(reboots.host)
        return ()

    outcome = reboots.push({"reboot": "new driver", "timeout": "2s"}, {"run": "true"}, told=told)
    assert (outcome.state, outcome.step) == ("failed", 0)
    assert "host key" in outcome.reason


def test_a_reboot_that_happened_before_midwife_was_killed_is_not_done_again(reboots: Operator) -> None:
    reboots.notebook.remember("step-0.boot", "id 11111111-2222-3333-4444-555555555555")
    outcome = reboots.push({"reboot": "new driver"})
    assert (outcome.state, outcome.changed, reboots.host.reboots) == ("done", 0, 0)


def test_a_reboot_that_was_remembered_but_not_begun_is_done(reboots: Operator) -> None:
    reboots.notebook.remember("step-0.boot", f"id {reboots.host.boot_id.read_text().strip()}")
    outcome = reboots.push({"reboot": "new driver"})
    assert (outcome.state, outcome.changed, reboots.host.reboots) == ("done", 1, 1)


def test_a_reboot_that_is_not_needed(reboots: Operator) -> None:
    assert reboots.push({"reboot": "if needed", "check": "true"}).changed == 0
    assert reboots.host.reboots == 0


def test_a_host_that_does_not_reboot(reboots: Operator) -> None:
    reboots.host.shim("reboot", "exit 0")
    outcome = reboots.push({"reboot": "x", "timeout": "500ms"})
    assert outcome.reason == "still in the same boot 0.5 s after 'reboot'"
