"""``midwife init`` writes a site that ``midwife check`` accepts; ``check`` says everything, never a traceback."""

import ipaddress
import json
import re
import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from midwife.cli.check import command as check
from midwife.cli.common import open_site, site_option
from midwife.cli.init import candidates
from midwife.cli.init import command as init
from midwife.site.load import load
from midwife.site.model import Host
from tests.serve.deciding import import_esxi


def run(command: click.Command, *arguments: str | Path, **environment: str) -> Result:
    """Exceptions other than click's own fail the test: a user's mistake must never be a traceback."""
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(command, words, env=environment, catch_exceptions=False)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "lab"
    assert run(init, root, "--address", "192.0.2.2").exit_code == 0
    return root


def test_a_fresh_site_has_no_problems(site: Path) -> None:
    result = run(check, site)
    assert result.exit_code == 0
    assert result.output == f"{site}: no errors, 0 warnings (0 hosts, 0 rules, 0 host configurations)\n"
    loaded = load(site)
    assert loaded.site.main.server.address == "192.0.2.2"
    assert not loaded.site.main.proxydhcp.enabled
    assert (site / ".gitignore").read_text().splitlines()[-1] == "/data/"


def test_the_samples_are_good_as_they_are(site: Path) -> None:
    for sample in (site / "hosts").iterdir():
        sample.rename(sample.with_suffix(""))
    for sample in (site / "host-configurations").iterdir():
        sample.rename(sample.with_suffix(""))
    loaded = load(site)
    assert loaded.warnings == ()
    assert loaded.site.hosts == (Host(name="esx-01", macs=("52:54:00:12:34:56",)),)
    assert len(loaded.site.configurations["base"].steps) == 2


def test_everything_that_is_commented_out_is_good_too(site: Path) -> None:
    for name in ("files/vmlinuz", "files/initrd.img", "bundles/driver.vib"):
        (site / name).write_text("some bytes")
    for name in ("8.0U3-24022510", "8.0U3-lab", "7.0U3-lab"):
        import_esxi(site / "data", name)
    for sample in ("hosts/esx-01.yaml", "host-configurations/base.yaml"):
        (site / f"{sample}.sample").rename(site / sample)
    for path in site.rglob("*.yaml"):
        # >> the user takes away every # that stands before a setting (before prose it has one blank behind it)
        path.write_text(re.sub(r"^( *)#(?! \S|$)", r"\1", path.read_text(), flags=re.MULTILINE))
    result = run(check, site)
    # << only what this machine does not have is missed
    about = [line.split(": ")[1:3] for line in result.output.splitlines()[:-1]]
    assert {level for level, _ in about} == {"warning"}, result.output
    assert {what for _, what in about} == {
        "secrets.esx-root",
        "secrets.license",
        "ssh.password",
        "ssh.key",
    }, result.output
    assert "(1 host, 2 rules, 1 host configuration)" in result.output


def test_init_overwrites_nothing(site: Path) -> None:
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    result = run(init, site, "--address", "192.0.2.3")
    assert result.exit_code == 1
    assert "has .gitignore, midwife.yaml, rules.yaml already" in result.output
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before


def test_init_does_not_litter_a_directory_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    result = run(init, tmp_path)
    assert result.exit_code == 1
    assert "is not empty (it has thesis.tex)" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_init_takes_a_fresh_clone(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("Our lab\n")
    assert run(init, tmp_path, "--address", "2001:db8::").exit_code == 0
    assert load(tmp_path).site.main.server.address == "2001:db8::"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("esx.example", "'esx.example' is not an IPv4 or IPv6 address"),
        ("0.0.0.0", "is not an address that hosts can reach"),
        ('"\n# x', "is not an IPv4 or IPv6 address"),
    ],
)
def test_init_refuses_a_useless_address(tmp_path: Path, address: str, reason: str) -> None:
    result = run(init, tmp_path / "lab", "--address", address)
    assert result.exit_code == 1
    assert reason in result.output
    assert not (tmp_path / "lab").exists()


def test_init_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(init, tmp_path / "file" / "lab", "--address", "192.0.2.2")
    assert result.exit_code == 1
    assert "Not a directory" in result.output


def test_init_finds_an_address_and_says_why(tmp_path: Path) -> None:
    found = candidates()
    result = run(init, tmp_path / "lab")
    if not found:
        assert result.exit_code == 1
        assert "no address but loopback" in result.output
        return
    assert result.exit_code == 0
    assert f"at {found[0].address}: {found[0].why}." in result.output
    assert load(tmp_path / "lab").site.main.server.address == found[0].address


def test_the_addresses_found_are_this_machines_own() -> None:
    for candidate in candidates():
        address = ipaddress.ip_address(candidate.address)
        assert not address.is_loopback
        assert not address.is_link_local or address.version == 4
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((candidate.address, 0))  # fails for an address that this machine does not have


def test_init_ends_with_what_to_do_next(tmp_path: Path) -> None:
    lines = run(init, tmp_path / "my lab", "--address", "192.0.2.2").output.splitlines()
    at = lines.index("Next:")
    assert lines[at + 1] == f"  cd '{tmp_path / 'my lab'}'"
    assert [line.split("#")[0].strip() for line in lines[at + 2 :]] == [
        "midwife check",
        "midwife image import FILE.iso",
        "midwife serve",
    ]


def test_check_prints_everything_and_fails(site: Path) -> None:
    (site / "hosts" / "esx-01.yaml").write_text("macs: ['52:54']\nvars: {password: x}\n")
    (site / "rules.yaml").write_text("rules: [{name: r, patterns: all, items: {}}]\n")
    result = run(check, site)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "hosts/esx-01.yaml:1:8: macs.0: '52:54' is not a MAC address; write it as 52:54:00:12:34:56",
        "hosts/esx-01.yaml:2:18: warning: vars.password looks like a secret in clear; "
        "declare it under secrets: in midwife.yaml and write secret('NAME') in the step",
        "rules.yaml:1:9: warning: rule 'r' gives nothing; add image, configuration or boot to its items",
        f"{site}: 1 error and 2 warnings; midwife serve would refuse this site",
    ]


def test_check_speaks_json(site: Path) -> None:
    assert json.loads(run(check, site, "-o", "json").output) == {
        "site": str(site),
        "ok": True,
        "problems": [],
    }
    (site / "hosts" / "esx-01.yaml").write_text("macs: ['52:54']\n")
    result = run(check, site, "-o", "json")
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert not report["ok"]
    assert report["problems"] == [
        {
            "file": "hosts/esx-01.yaml",
            "line": 1,
            "column": 8,
            "level": "error",
            "what": "macs.0: '52:54' is not a MAC address",
            "hint": "write it as 52:54:00:12:34:56",
        }
    ]


def test_check_of_no_site_says_how_to_make_one(tmp_path: Path) -> None:
    result = run(check, tmp_path)
    assert result.exit_code == 1
    assert "midwife init" in result.output


def test_the_site_is_an_argument_an_option_a_variable_or_here(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MIDWIFE_SITE", raising=False)
    assert run(check, site).exit_code == 0
    assert run(check, "lab").exit_code == 0
    assert run(check, "--site", "lab").exit_code == 0
    assert run(check, MIDWIFE_SITE="lab").exit_code == 0
    assert run(check, site, MIDWIFE_SITE="nowhere").exit_code == 0
    assert run(check).exit_code == 1
    monkeypatch.chdir(site)
    assert run(check).exit_code == 0
    assert run(check, site, "--site", site).exit_code == 2


@click.command()
@site_option
def some_command(site: Path) -> None:
    """A command that needs a whole site, as most do."""
    click.echo(f"{len(open_site(site).site.hosts)} hosts")


def test_other_commands_refuse_a_broken_site_with_all_its_problems(site: Path) -> None:
    host = site / "hosts" / "esx-01.yaml"
    host.write_text("macs: 52:54:00:12:34:56\nvars: {password: x}\n")
    result = run(some_command, MIDWIFE_SITE=str(site))
    assert result.exit_code == 0
    assert result.stdout == "1 hosts\n"
    assert "looks like a secret in clear" in result.stderr

    host.write_text("mac: 52:54:00:12:34:56\nimage: none\n")
    result = run(some_command, "--site", site)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "hosts/esx-01.yaml:1:1: unknown key 'mac'; did you mean macs?",
        "hosts/esx-01.yaml:2:8: image: there is no image 'none'; nothing is imported yet; "
        "import with: midwife image import FILE.iso",
        f"2 errors in the site {site}; nothing was done",
    ]
