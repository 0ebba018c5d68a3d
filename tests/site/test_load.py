"""A site directory is read as a whole: what is right becomes a Site, what is wrong is printed all at once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midwife.site.load import Problem, SiteError, imported_images, load
from midwife.site.model import Endpoint
from tests.site.conftest import SiteFolder


def test_a_whole_site(site: SiteFolder) -> None:
    loaded = site.load()
    assert loaded.warnings == ()
    main, (host,) = loaded.site.main, loaded.site.hosts
    assert main.tftp.listen == (Endpoint(host="*", port=69),)
    assert not main.proxydhcp.enabled
    assert host.name == "esx-01"
    assert host.macs == ("52:54:00:12:34:56",)
    assert host.vars == {"vlan": "010"}
    assert [rule.name for rule in loaded.site.rules] == ["dells", "rest"]
    assert loaded.site.rules[1].patterns == ()
    steps = loaded.site.configurations["base"].steps
    assert steps[3].wait_online == 300.0
    assert loaded.site.data_dir == site.root / "data"


def test_several_hosts_in_one_file(site: SiteFolder) -> None:
    site.write(
        "hosts/rack-b.yaml",
        "hosts:\n- {name: b1, serial: AB12345}\n- {name: b2, uuid: 4C4C4544-0035-5210-8050-B4C04F4D3233}\n",
    )
    assert [host.name for host in site.load().site.hosts] == ["esx-01", "b1", "b2"]


def test_the_smallest_site_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "midwife.yaml").write_text("server: {address: 192.0.2.2}\n")
    loaded = load(tmp_path)
    assert loaded.site.hosts == ()
    assert loaded.warnings == ()


def test_samples_backups_and_hidden_files_are_not_read(site: SiteFolder) -> None:
    for name in ("hosts/a.yaml.sample", "hosts/b.yaml~", "hosts/.c.yaml", "hosts/README.md"):
        site.write(name, "][")
    assert site.problems() == []


def test_yaml_types_do_not_bite(site: SiteFolder) -> None:
    # >> YAML 1.1 would read these as 41135085296, 8.0, False and 8; << they are what was written
    site.write(
        "hosts/esx-01.yaml",
        "macs: 52:54:00:12:34:56\nlabels: {release: 8.0, spare: no, slot: 010}\n",
    )
    host = site.load().site.hosts[0]
    assert host.macs == ("52:54:00:12:34:56",)
    assert host.labels == {"release": "8.0", "spare": "no", "slot": "010"}


def test_all_problems_of_all_files_come_at_once(site: SiteFolder) -> None:
    site.write("midwife.yaml", "server:\n  adress: 192.0.2.2\ntftp:\n  listen: all\n")
    site.write("hosts/esx-01.yaml", "macs:\n  - 52:54\nimage: ESXi\n")
    site.write("hosts/esx-02.yaml", "\tmacs: 52:54:00:12:34:56\n")
    site.write("rules.yaml", "rules:\n  - name: r\n    patterns: vendor\n    items: {image: resceu}\n")
    assert [problem.split(": ")[0] for problem in site.problems()] == [
        "host-configurations/base.yaml:8:1",  # secret('esx-root') is declared no longer
        "hosts/esx-01.yaml:2:5",
        "hosts/esx-01.yaml:3:8",  # a broken MAC address does not hide the unknown image
        "hosts/esx-02.yaml:1:1",
        "midwife.yaml:2:3",
        "midwife.yaml:2:3",
        "midwife.yaml:4:11",
        "rules.yaml:3:15",
        "rules.yaml:4:20",  # nor a broken pattern the mistyped one
    ]


def test_a_broken_configuration_is_not_reported_as_missing_too(site: SiteFolder) -> None:
    site.write("host-configurations/base.yaml", "steps:\n  - run: [a, b]\n")
    assert [problem.split(": ")[0] for problem in site.problems()] == ["host-configurations/base.yaml:2:10"]


def test_the_image_library_is_looked_at(site: SiteFolder) -> None:
    for name in ("8.0U3", ".tmp-x1"):
        site.write(f"data/images/{name}/image.json", "{}")
    site.write("data/images/half/b.b00", "no manifest: an import that never ended")
    assert imported_images(site.root / "data") == {"8.0U3"}
    assert load(site.root, environ={"ESX_ROOT": ""}).warnings == ()


def test_the_image_library_is_found_although_midwife_yaml_is_broken(site: SiteFolder) -> None:
    site.write("elsewhere/images/8.0U3/image.json", "{}")
    site.write("midwife.yaml", "server: {address: x, data: elsewhere}\nsecrets: {esx-root: env:ESX_ROOT}\n")
    site.write("hosts/esx-01.yaml", "macs: 52:54:00:12:34:56\nimage: 8.0U3\n")
    site.write("rules.yaml", "rules: []\n")
    with pytest.raises(SiteError) as caught:
        load(site.root, environ={"ESX_ROOT": ""})
    assert [problem.what for problem in caught.value.problems] == [
        "server.address: 'x' is not an IPv4 or IPv6 address"
    ]


@pytest.mark.parametrize("exists", [True, False])
def test_a_directory_that_is_no_site(tmp_path: Path, exists: bool) -> None:
    root = tmp_path if exists else tmp_path / "nowhere"
    with pytest.raises(SiteError, match="midwife init"):
        load(root)


def test_what_is_no_regular_file_is_not_opened(site: SiteFolder) -> None:
    os.mkfifo(site.root / "hosts" / "pipe.yaml")  # opening it would wait for ever
    (site.root / "hosts" / "gone.yaml").symlink_to("nowhere")
    (site.root / "hosts" / "rack-1").mkdir()
    os.mkfifo(site.root / "bundles" / "pipe")
    site.write("host-configurations/base.yaml", "steps: [{upload: pipe, to: /tmp/x, template: true}]\n")
    assert site.problems() == [
        "host-configurations/base.yaml:1:18: steps.0.upload: bundles/pipe is not a file; name a file in bundles/",
        "hosts/gone.yaml: cannot be read: No such file or directory; mend its owner or mode",
        "hosts/pipe.yaml: is not a regular file; only files are read here",
        "hosts/rack-1: warning: is a directory; it is not read; put the files into hosts/ itself",
    ]


def test_nothing_that_a_terminal_obeys_is_printed(site: SiteFolder) -> None:
    site.write("hosts/esx-01.yaml", 'macs: "\\e[2J"\n')
    site.write("hosts/\x1b[2J.yaml", "macs: 52:54:00:12:34:57\n")
    assert len(site.problems()) == 3
    assert all(problem.isprintable() for problem in site.problems())


def test_secrets_are_never_repeated(site: SiteFolder) -> None:
    site.write(
        "midwife.yaml",
        "server: {address: 192.0.2.2}\nssh: {password: hunter2}\n"
        "secrets: {a: hunter2, b: 'clear:hunter2', c: [hunter2], d: 'vault:hunter2'}\n",
    )
    site.write("hosts/esx-01.yaml", "macs: 52:54:00:12:34:56\nvars: {root_password: hunter2}\n")
    problems = site.problems()
    assert len([p for p in problems if "secret" in p]) >= 5
    assert "hunter2" not in "\n".join(problems)


# fmt: off
_WORDS = [
    "rules:", "hosts:", "steps:", "images:", "server:", "name", "macs", "patterns", "items", "kernel", "initrd",
    "run", "upload", "all", "vendor=", "secret('x')", "{{", "}}", "[", "]", "{", "}", "&a ", "*a", "'", '"', "|",
    "\x00", "!!", "<<", "?", ",", "../", "/", ": ", "- ", "  ", "\n", "---\n",
]
# fmt: on


@pytest.mark.parametrize("name", ["midwife.yaml", "rules.yaml", "hosts/x.yaml", "host-configurations/x.yaml"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    content=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode(errors="replace"))
    | st.lists(st.sampled_from(_WORDS), max_size=40).map(lambda words: "".join(words).encode())
)
def test_any_bytes_in_any_file_give_a_site_or_a_site_error(
    shared_site: Callable[[], SiteFolder], name: str, content: bytes
) -> None:
    folder = shared_site()
    path = folder.write(name, content)
    problems: tuple[Problem, ...] = ()
    loaded = None
    try:
        loaded = folder.load()
    except SiteError as error:
        problems = error.problems
    assert (loaded is None) == any(problem.level == "error" for problem in problems)
    assert all(problem.file and problem.what for problem in problems)
    path.unlink()
