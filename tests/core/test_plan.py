"""From a configuration to a plan: what templates see, what is refused, what is stored."""

import hashlib
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.core.facts import Facts
from midwife.core.plan import BundleError, Plan, PlanError, SecretName, Text, build_plan, effective_ssh
from midwife.core.plantext import Renderer
from midwife.site.model import Configuration, Host, Ssh, Step

HOST = Host(
    name="esx-01",
    address="192.0.2.7",
    labels={"rack": "b2"},
    vars={"vlan": "20", "dns": ["192.0.2.1", "192.0.2.2"]},
)
FACTS = Facts(macs=("52:54:00:12:34:56",), serial="ABC", hostname="stranger")


class Shelf:
    """A bundles directory without a disk."""

    def __init__(self, **files: str) -> None:
        self.files = files

    def digest(self, path: str) -> str:
        return hashlib.sha256(self.text(path).encode()).hexdigest()

    def text(self, path: str) -> str:
        try:
            return self.files[path]
        except KeyError:
            raise BundleError(f"bundles/{path}: No such file") from None


def plan(*steps: dict[str, Any], host: Host | None = HOST, shelf: Shelf | None = None, **more: Any) -> Plan:
    return build_plan(
        Configuration(name="base", steps=tuple(Step(**step) for step in steps)),
        host=host,
        facts=more.pop("facts", FACTS),
        ssh=more.pop("ssh", Ssh()),
        bundles=shelf or Shelf(),
        secrets=["root", "licence"],
        **more,
    )


def command(template: str, **more: Any) -> str:
    return plan({"run": template}, **more).steps[0].command.shown


def test_what_a_template_sees() -> None:
    assert (
        command("{{ host.name }} {{ host.address }} {{ host.labels.rack }} {{ host.vars.vlan }}")
        == "esx-01 192.0.2.7 b2 20"
    )
    assert (
        command("{{ facts.mac }} {{ facts.serial }} {{ facts.asset or 'none' }}")
        == "52:54:00:12:34:56 ABC none"
    )
    assert command("{% for s in host.vars.dns %}{{ s }};{% endfor %}") == "192.0.2.1;192.0.2.2;"
    assert command("{{ host.configuration }}{{ host.image }}") == "base"
    assert (
        command("echo {{ facts.hostname | quote }}", facts=Facts(hostname="$(reboot) it's"))
        == "echo '$(reboot) it'\"'\"'s'"
    )


def test_a_machine_that_only_a_rule_knows() -> None:
    made = plan({"run": "{{ host.name }} at {{ host.address }}"}, host=None, address="192.0.2.99")
    assert made.host == "52:54:00:12:34:56"
    assert made.steps[0].command.shown == "52:54:00:12:34:56 at 192.0.2.99"


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{{ host.vars.vlna }}", ["run: {{ host.vars.vlna }}", "did you mean 'vlan'?"]),
        ("ok {{ host.name }}\nb {{ hosst.name }}", ["line 2: {{ hosst.name }}", "'hosst' is not known"]),
        ("{{ facts.seriall }}", ["did you mean 'serial'?"]),
        ("{{ secret('rooot') }}", ["secret 'rooot' is not in midwife.yaml", "did you mean 'root'?"]),
        ("{{ secret('root') | upper }}", ["no filter but quote"]),
        ("{{ secret('root') | reverse }}", ["no filter but quote"]),
        ("{{ secret('root')[3:] }}", ["no filter but quote"]),
        ("{{ ('x' ~ secret('root')) | quote }}", ["quote a secret alone"]),
        ("{{ host.name", ["line 1"]),
        ("{{ 1 / 0 }}", ["division by zero", "{{ 1 / 0 }}"]),
        ("{{ ''.__class__.__mro__ }}", ["unsafe"]),
        ("{{ host.vars.dns.append('x') }}", ["unsafe"]),
        ("{% include '/etc/shadow' %}", ["no loader"]),
        ("{{ 'x' * 2000000 }}", ["2000000 characters"]),
    ],
)  # fmt: skip
def test_mistakes_name_configuration_step_and_expression(template: str, names: list[str]) -> None:
    with pytest.raises(PlanError) as caught:
        plan({"run": "true"}, {"name": "vswitch", "run": template})
    assert "configuration 'base', step 2 (vswitch): run" in str(caught.value)
    for name in names:
        assert name in str(caught.value)


def test_a_plan_names_secrets_and_holds_none() -> None:
    made = plan({"run": "a {{ secret('root') }} b {{ secret('licence') | quote }}"})
    step = made.steps[0]
    assert step.command == Text(("a ", SecretName("root"), " b ", SecretName("licence", quoted=True)))
    assert step.command.shown == "a <secret root> b <secret licence>"
    assert step.command.filled({"root": "R", "licence": "it's"}.__getitem__) == "a R b 'it'\"'\"'s'"
    assert made.secrets == {"root", "licence"}
    assert step.name == "a <secret root> b <secret licence>"


def test_a_host_cannot_ask_for_a_secret_in_its_own_facts() -> None:
    """It knows how markers look (this is free software), but not the number of this plan."""
    for hostname in ("\ue000-root\ue001", "\ue0000000000000000000-root\ue001", "{{ secret('root') }}"):
        made = plan({"run": "echo {{ facts.hostname }}"}, facts=Facts(hostname=hostname))
        assert made.secrets == frozenset()
        assert made.steps[0].command.shown == f"echo {hostname}"


@pytest.mark.parametrize("field", ["name", "to", "reboot"])
def test_what_people_are_shown_has_no_secrets(field: str) -> None:
    steps = {
        "name": {"name": "{{ secret('root') }}", "run": "true"},
        "to": {"content": "x", "to": "/tmp/{{ secret('root') }}"},
        "reboot": {"reboot": "{{ secret('root') }}"},
    }
    with pytest.raises(PlanError, match=f"{field}: this text is shown to people"):
        plan(steps[field])


def test_uploads_by_path_and_sha256() -> None:
    shelf = Shelf(motd="{{ host.name }}", blob="{{ not a template }}", esx="found by name")
    blob, motd, text, named, hidden = plan(
        {"upload": "blob", "to": "/etc/../tmp/blob"},
        {"upload": "motd", "to": "/etc/motd", "template": "true", "mode": "0600"},
        {"content": "x{{ host.vars.vlan }}", "to": "/x"},
        {"upload": "{{ host.name.split('-')[0] }}", "to": "/y"},
        {"content": "{{ secret('root') }}", "to": "/z"},
        shelf=shelf,
    ).steps
    assert (blob.source, blob.sha256, blob.to) == ("blob", shelf.digest("blob"), "/tmp/blob")
    assert (motd.source, motd.content.shown, motd.mode) == ("", "esx-01", 0o600)
    assert motd.sha256 == hashlib.sha256(b"esx-01").hexdigest()
    assert text.content.shown == "x20"
    assert named.source == "esx"
    assert hidden.sha256 == ""


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({}, "none of them"),
        ({"run": "a", "esxcli": "b"}, "run and esxcli"),
        ({"upload": "missing", "to": "/x"}, "bundles/missing: No such file"),
        ({"upload": "there"}, "absolute path"),
        ({"content": "x", "to": "relative"}, "absolute path"),
        ({"content": "x", "to": "/dir/"}, "absolute path"),
        ({"content": "x", "to": "/a\nb"}, "control characters"),
        ({"esxcli": " "}, "begins with its namespace"),
        ({"esxcli": "system version get\nrm -rf /"}, "one command a step"),
    ],
)
def test_steps_that_are_none(step: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        plan(step, shelf=Shelf(there="x"))


def test_esxcli_with_or_without_its_name() -> None:
    steps = plan({"esxcli": "system version get\n"}, {"esxcli": "esxcli  system version get"}).steps
    assert [step.command.shown for step in steps] == ["esxcli system version get"] * 2
    ends = plan({"esxcli": "system account set -p {{ secret('root') | quote }}\n"}).steps[0]
    assert ends.command.parts == ("esxcli system account set -p ", SecretName("root", quoted=True))


def test_defaults_fit_the_kind() -> None:
    run, wait, reboot, hasty = plan(
        {"run": "x"},
        {"wait-online": "10m"},
        {"reboot": "why"},
        {"reboot": "why", "timeout": "60s", "retries": "1"},
    ).steps
    assert (run.timeout, run.retries) == (120.0, 2)
    assert (wait.timeout, wait.retries, wait.name) == (600.0, 0, "wait-online 600s")
    assert (reboot.timeout, reboot.retries, reboot.name) == (1200.0, 0, "reboot: why")
    assert (hasty.timeout, hasty.retries) == (60.0, 1)


def test_who_says_how_to_log_in() -> None:
    site, by_configuration, by_host = Ssh(), Ssh(user="ada"), Ssh(port=2222, password="env:X")
    configuration = Configuration(name="c", ssh=by_configuration)
    assert effective_ssh(site, Configuration(name="c"), HOST) is site
    assert effective_ssh(site, configuration, None) is by_configuration
    assert effective_ssh(site, configuration, HOST.model_copy(update={"ssh": by_host})) is by_host
    made = plan(ssh=Ssh(user="ada", port=2222, password="clear:hunter22"))
    assert (made.user, made.port) == ("ada", 2222)
    assert "hunter22" not in json.dumps(made.to_json())


def test_a_plan_comes_back_from_json() -> None:
    made = plan(
        {"run": "a {{ secret('root') | quote }}", "check": "true", "verify": "false"},
        {"upload": "f", "to": "/f"},
        {"wait-online": "5s"},
        shelf=Shelf(f="x"),
    )
    assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_a_plan_of_the_future() -> None:
    data = {**plan().to_json(), "version": 2}
    with pytest.raises(PlanError, match="has version 2, this midwife reads 1"):
        Plan.from_json(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["host", "steps", "configuration", "port", "version"]))
def test_any_json_is_a_plan_or_a_plan_error(junk: Any, field: str) -> None:
    data = plan({"run": "a"}).to_json()
    for given_data in (
        junk,
        {**data, field: junk},
        {**data, "steps": [{**data["steps"][0], "command": junk}]},
    ):
        try:
            made = Plan.from_json(given_data)
        except PlanError:
            continue
        assert Plan.from_json(made.to_json()) == made


@given(st.text(max_size=60))
def test_any_template_renders_or_is_a_plan_error(template: str) -> None:
    with suppress(PlanError):
        assert len(command(template)) <= 1024 * 1024


@given(st.text(max_size=30), st.text(max_size=30))
def test_text_around_secrets_stays_as_it_is(before: str, after: str) -> None:
    renderer = Renderer({"a": before, "b": after}, {}, ["root"])
    text = renderer.render("{{ host.a }}{{ secret('root') }}{{ host.b }}")
    assert text.filled(lambda name: f"[{name}]") == f"{before}[root]{after}"
