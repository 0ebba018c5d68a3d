"""The golden table: a mistake in a site, and the line that is printed for it, position and advice included."""

from pathlib import Path

import pytest

from midwife.site.problems import Problem, in_order, nearest
from tests.site.conftest import CONFIGURATION, HOST, MAIN, RULES, SiteFolder

MAC = "52:54:00:12:34:56"


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        pytest.param(
            "hosts/esx-01.yaml",
            "macs:\n  - '52:54'\n",
            "hosts/esx-01.yaml:2:5: macs.0: '52:54' is not a MAC address; write it as 52:54:00:12:34:56",
            id="bad MAC",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            "macs: 01:00:5e:00:00:01\n",
            "hosts/esx-01.yaml:1:7: macs.0: 01:00:5e:00:00:01 is no network card's address "
            "(a group address or all zeros)",
            id="multicast MAC, a text where a list could be",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            "uuid: 03000200-0400-0500-0006-000700080009\n",
            "hosts/esx-01.yaml:1:7: uuid: '03000200-0400-0500-0006-000700080009' is a vendor's dummy, "
            "on many machines; use macs or serial instead",
            id="dummy UUID",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            "serial: To be filled by O.E.M.\n",
            "hosts/esx-01.yaml:1:9: serial: 'To be filled by O.E.M.' is what vendors leave in place of a "
            "serial number; use macs or uuid",
            id="dummy serial number",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            "image: rescue\n",
            "hosts/esx-01.yaml:1:1: nothing identifies host esx-01; add macs, uuid or serial",
            id="no identity",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"mac:\n  - {MAC}\nserial: AB123\n",
            "hosts/esx-01.yaml:1:1: unknown key 'mac'; did you mean macs?",
            id="mistyped key",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"macs: {MAC}\nssh:\n  usr: root\n",
            "hosts/esx-01.yaml:3:3: unknown key 'usr' in ssh; did you mean user?",
            id="mistyped key of a mapping within",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"macs: {MAC}\nboot: instal\n",
            "hosts/esx-01.yaml:2:7: boot: 'instal' is not one of them; "
            "write 'stateless', 'install' or 'local'",
            id="not one of the words",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"macs: {MAC}\nvars: 5\n",
            "hosts/esx-01.yaml:2:7: vars: '5' stands where keys and values are expected; "
            "write key: value lines below it",
            id="a text where a mapping should be",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"macs: {MAC}\nimage: resceu\n",
            "hosts/esx-01.yaml:2:8: image: there is no image 'resceu'; did you mean rescue?",
            id="unknown image",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"macs: {MAC}\nconfiguration: nfs\n",
            "hosts/esx-01.yaml:2:16: configuration: there is no host configuration 'nfs'; there is base; "
            "host configurations are files in host-configurations/",
            id="unknown host configuration",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"macs: {MAC}\noptions: PBHOST=192.0.2.9:1\n",
            "hosts/esx-01.yaml:2:10: options: PBHOST= is set by midwife; leave it out",
            id="midwife's own word on the kernel line",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"name: esx 01\nmacs: {MAC}\n",
            "hosts/esx-01.yaml:1:7: name: 'esx 01' is not a name: letters, digits and . _ - + only, at most 80",
            id="name with a blank",
        ),
        pytest.param(
            "hosts/esx-02.yaml",
            f"serial: AB12345\nmacs:\n- {MAC}\n",
            "hosts/esx-02.yaml:3:3: MAC address 52:54:00:12:34:56 is also that of host "
            "esx-01 (hosts/esx-01.yaml:1); it can identify one host only",
            id="the same MAC twice",
        ),
        pytest.param(
            "hosts/more.yaml",
            "hosts:\n- name: ESX-01\n  serial: AB12345\n",
            "hosts/more.yaml:2:9: name esx-01 is also that of host esx-01 (hosts/esx-01.yaml:1); names are unique",
            id="the same name twice",
        ),
        pytest.param(
            "hosts/more.yaml",
            "hosts:\n- name: b1\n  uuid: 4c4c4544-0035-5210-8050-b4c04f4d3233\n"
            "- name: b2\n  uuid: 44454c4c-3500-1052-8050-b4c04f4d3233\n",
            "hosts/more.yaml:5:9: UUID 44454c4c-3500-1052-8050-b4c04f4d3233 is also that of host "
            "b1 (hosts/more.yaml:2); it can identify one host only",
            id="the same UUID in the other byte order",
        ),
        pytest.param(
            "hosts/more.yaml",
            "hosts:\n- serial: AB12345\n",
            "hosts/more.yaml:2:3: hosts.0.name is missing; add name: …",
            id="a list's host without a name",
        ),
        pytest.param(
            "hosts/more.yaml",
            "host:\n- name: b1\n",
            "hosts/more.yaml:1:1: unknown key 'host'; there is address, boot, configuration, image, labels, "
            "macs, name, options, serial, ssh, uuid, vars",
            id="host: is no key",
        ),
        pytest.param(
            "hosts/empty.yaml",
            "# nothing yet\n",
            "hosts/empty.yaml:1:1: the file is empty; fill it or delete it",
            id="empty file",
        ),
        pytest.param(
            "rules.yaml",
            RULES.replace("vendor=Dell Inc.", "colour=red"),
            "rules.yaml:3:16: rules.0.patterns.0: 'colour' is not an attribute",
            id="unknown attribute",
        ),
        pytest.param(
            "rules.yaml",
            RULES.replace("[vendor=Dell Inc.]", "[]"),
            "rules.yaml:3:15: rules.0.patterns: no pattern; a rule for every host says so: patterns: all",
            id="a rule without patterns",
        ),
        pytest.param(
            "rules.yaml",
            RULES.replace("[vendor=Dell Inc.]", ""),
            "rules.yaml:3:14: rules.0.patterns is missing; add patterns: …",
            id="patterns left empty",
        ),
        pytest.param(
            "rules.yaml",
            RULES.replace("name: rest", "name: Dells"),
            "rules.yaml:5:11: the rule name 'Dells' is already that of rules.yaml:2; rename one of them",
            id="the same rule name twice",
        ),
        pytest.param(
            "rules.yaml",
            RULES.replace("image: lab", "imgae: lab"),
            "rules.yaml:4:13: unknown key 'imgae' in rules.0.items; did you mean image?",
            id="mistyped item",
        ),
        pytest.param(
            "rules.yaml",
            RULES.replace("image: lab", "image: 9.0"),
            "rules.yaml:4:20: rules.0.items.image: there is no image '9.0'; there is 8.0U3, lab, rescue; "
            "imported: 8.0U3; import with: midwife image import FILE.iso",
            id="a rule's unknown image",
        ),
        pytest.param(
            "rules.yaml",
            "- name: dells\n",
            "rules.yaml:1:1: the file must begin with rules:; and a list below it",
            id="no rules:",
        ),
        pytest.param(
            "rules.yaml",
            "rules:\n  - name: nothing\n    patterns: all\n    items: {}\n",
            "rules.yaml:2:5: warning: rule 'nothing' gives nothing; add image, configuration or boot to its items",
            id="a rule that gives nothing",
        ),
        pytest.param(
            "rules.yaml",
            "rules:\n- {name: a, patterns: all, items: {image: lab}}\n"
            "- {name: b, patterns: vendor=HPE, items: {image: lab}}\n",
            "rules.yaml:3:3: warning: rule 'b' never has an effect: 'a' above it takes every host it matches; "
            "put it above, or delete it",
            id="a shadowed rule",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("192.0.2.2", "0.0.0.0"),
            "midwife.yaml:2:12: server.address: '0.0.0.0' is not an address that hosts can reach; "
            "give one of this machine's own",
            id="no address",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("192.0.2.2", "fe80::1%eth0"),
            "midwife.yaml:2:12: server.address: 'fe80::1%eth0' is not an IPv4 or IPv6 address",
            id="an address with a zone",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN + "tftp:\n  listen: udp\n",
            "midwife.yaml:14:11: tftp.listen.0: 'udp' is not an address to listen on; "
            "write *:69, 192.0.2.3:69 or [::]:69",
            id="not a listener",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN + "http:\n  listen: 3500\n",
            "midwife.yaml:1:1: callback.listen.0: TCP port 3500 is already that of http (*:3500); "
            "give one of them another port",
            id="two listeners on one port",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN + "tftp:\n  listen: [192.0.2.2:69, '*:69']\n",
            "midwife.yaml:14:26: tftp.listen.1: UDP port 69 is already that of tftp (192.0.2.2:69); "
            "give one of them another port",
            id="an address and every address",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN + "tftp:\n  listen: 4011\nproxydhcp: {enabled: true, interfaces: [lo]}\n",
            "midwife.yaml:15:12: proxydhcp: UDP port 4011 is already that of tftp (*:4011); "
            "give one of them another port",
            id="proxyDHCP's port taken",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("192.0.2.2", "198.51.100.77") + "proxydhcp:\n  enabled: true\n",
            "midwife.yaml:14:3: warning: proxydhcp: no interface of this machine has 198.51.100.77, so it would "
            "hear nothing; set server.address to an address of this machine, or name the interfaces",
            id="proxyDHCP without an interface",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN + "proxydhcp: {enabled: true, interfaces: [nosuch0]}\n",
            "midwife.yaml:13:41: warning: proxydhcp.interfaces.0: this machine has no interface 'nosuch0'; it",
            id="proxyDHCP on a missing interface",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN + "proxydhcp: {enabled: maybe}\n",
            "midwife.yaml:13:22: proxydhcp.enabled: 'maybe' is neither true nor false",
            id="neither true nor false",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN + "deadlines:\n  called-back: soon\n",
            "midwife.yaml:14:16: deadlines.called-back: 'soon' is not a duration; write 90s, 15m, 1h or 2d",
            id="not a duration",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN + "deadlines:\n  calledback: 5m\n",
            "midwife.yaml:14:3: unknown key 'calledback' in deadlines; did you mean called-back?",
            id="the nearest key is offered as people write it",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("initrd.img", "initrd.gz"),
            "midwife.yaml:9:9: images.rescue.initrd.0: files/initrd.gz cannot be read: "
            "No such file or directory; relative paths begin at ",
            id="missing initrd",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("initrd.img\n", "initrd.img\n      - bundles/../files/vmlinuz\n"),
            "midwife.yaml:10:9: images.rescue.initrd.1: bundles/../files/vmlinuz has the same file name as "
            "files/vmlinuz; files of an image are served by their name; rename one",
            id="two files of one name",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("imported: 8.0U3", "imported: 8.0U2"),
            "midwife.yaml:12:15: images.lab.imported: '8.0U2' has not been imported; imported: 8.0U3; "
            "import with: midwife image import FILE.iso",
            id="not imported",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("imported: 8.0U3", "netboot: true"),
            "midwife.yaml:11:3: image lab has neither kernel nor imported; "
            "give kernel and initrd for Linux, or imported for an ESXi image",
            id="an image of nothing",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("  rescue:", "  a/b: {imported: 8.0U3}\n  rescue:"),
            "midwife.yaml:6:3: images.a/b: 'a/b' is not a name: letters, digits",
            id="an image's name that is no name",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("  lab:", "  files: {imported: 8.0U3}\n  lab:"),
            "midwife.yaml:11:3: 'files' has a meaning of its own in boot paths; choose another name",
            id="a reserved image name",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN + f"    options: {'netdevice=vmnic0 ' * 60}\n",
            "midwife.yaml:13:14: images.lab.options: the kernel command line has 1",
            id="too long for ESXi's kernel line",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("env:ESX_ROOT", "swordfish"),
            "midwife.yaml:4:13: secrets.esx-root: a secret is a reference: env:NAME, file:/path or, "
            "for a throw-away lab, clear:TEXT",
            id="a secret that is no reference",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("env:ESX_ROOT", "clear:swordfish"),
            "midwife.yaml:4:13: warning: secrets.esx-root: a secret in clear; "
            "for anything but a throw-away lab use env:NAME or file:/path",
            id="a secret in clear",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("env:ESX_ROOT", "env:ESX_PASS"),
            "midwife.yaml:4:13: warning: secrets.esx-root: the environment variable ESX_PASS is not set here; "
            "the service must have it; under systemd it comes from EnvironmentFile=",
            id="a variable that is not set",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("env:ESX_ROOT", "file:/nowhere/root"),
            "midwife.yaml:4:13: warning: secrets.esx-root: the file of esx-root, /nowhere/root: "
            "No such file or directory; create it, readable for the service only",
            id="a secret's file is missing",
        ),
        pytest.param(
            "midwife.yaml",
            MAIN.replace("192.0.2.2", "127.0.0.1"),
            "midwife.yaml:2:12: warning: server.address: 127.0.0.1 is this machine's loopback; "
            "no other machine reaches it; fine for a test, otherwise give the address hosts see",
            id="loopback",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"macs: {MAC}\nvars:\n  bmc:\n    password: swordfish\n",
            "hosts/esx-01.yaml:4:15: warning: vars.bmc.password looks like a secret in clear; "
            "declare it under secrets: in midwife.yaml and write secret('NAME') in the step",
            id="a password among the variables",
        ),
        pytest.param(
            "hosts/esx-01.yaml",
            f"macs: {MAC}\noptions: quiet rootpw=swordfish\n",
            "hosts/esx-01.yaml:2:10: warning: options: rootpw= looks like a secret in clear; "
            "everybody on the boot network can fetch the kernel line",
            id="a password on the kernel line",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION + "  - name: nothing\n",
            "host-configurations/base.yaml:11:5: steps.4: a step is one of run, esxcli, upload, content, "
            "wait-online, reboot; this one is none of them",
            id="a step of no kind",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION + "  - run: a\n    reboot: b\n",
            "host-configurations/base.yaml:11:5: steps.4: a step is one of run, esxcli, upload, content, "
            "wait-online, reboot; this one is run and reboot; split it into several steps",
            id="a step of two kinds",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION + "  - content: text\n",
            "host-configurations/base.yaml:11:5: steps.4: content without to; add to: /path/on/the/host",
            id="content without a place",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION + "  - run: a\n    to: /tmp/x\n",
            "host-configurations/base.yaml:12:5: steps.4.to belongs to upload and content only; take it out",
            id="a place without content",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION.replace("/etc/motd", "etc/motd"),
            "host-configurations/base.yaml:6:9: steps.1.to: 'etc/motd' is not an absolute path; begin it with /",
            id="a relative place",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION.replace("motd.j2", "issue.j2"),
            "host-configurations/base.yaml:4:13: steps.1.upload: bundles/issue.j2: No such file or directory; "
            "put the file into bundles/",
            id="a missing upload",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION.replace("motd.j2", "../midwife.yaml"),
            "host-configurations/base.yaml:4:13: steps.1.upload: bundles/../midwife.yaml leads out of bundles/; "
            "copy the file into bundles/",
            id="an upload outside of bundles/",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION.replace("motd.j2", "/etc/hostname"),
            "host-configurations/base.yaml:4:13: steps.1.upload: bundles//etc/hostname leads out of bundles/; "
            "copy the file into bundles/",
            id="an absolute upload",
        ),
        pytest.param(
            "bundles/motd.j2",
            "Welcome to\n{{ host.name }\n",
            "bundles/motd.j2:2:1: template: unexpected '}'; mend the Jinja2 syntax",
            id="a broken template in bundles/",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION.replace("passwd --stdin", "{% if x %}passwd"),
            "host-configurations/base.yaml:9:1: steps.2.run: template: Unexpected end of template.",
            id="a broken template in the second line of a text",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION.replace("secret('esx-root')", "secret('esx-rot')"),
            "host-configurations/base.yaml:8:1: steps.2.run: there is no secret 'esx-rot'; "
            "did you mean esx-root?; secrets are declared in midwife.yaml",
            id="an undeclared secret",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION.replace("host.name", "host.name | uper"),
            "host-configurations/base.yaml:3:13: steps.0.esxcli: there is no filter 'uper'; did you mean upper?",
            id="an unknown filter",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION.replace("host.name", "hostname"),
            "host-configurations/base.yaml:3:13: warning: steps.0.esxcli: 'hostname' is not known to a template; "
            "a template knows host, facts and secret('name'); a variable is host.vars.NAME",
            id="an unknown variable",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION + "  - run: a\n    tiemout: 5\n",
            "host-configurations/base.yaml:12:5: unknown key 'tiemout' in steps.4; did you mean timeout?",
            id="a step's mistyped key",
        ),
        pytest.param(
            "host-configurations/base.yaml",
            CONFIGURATION + "  - run: a\n    retries: 21\n",
            "host-configurations/base.yaml:12:14: steps.4.retries: '21' is out of bounds; it must be at most 20",
            id="out of bounds",
        ),
        pytest.param(
            "host-configurations/other.yaml",
            "name: base\nsteps: []\n",
            "host-configurations/other.yaml:1:7: the host configuration base is already described in "
            "host-configurations/base.yaml:1; rename one of them",
            id="the same configuration twice",
        ),
        pytest.param(
            "templates/linux.ipxe.j2",
            "#!ipxe\n{% endif %}\n",
            "templates/linux.ipxe.j2:2:1: template: Encountered unknown tag 'endif'.",
            id="a broken boot template",
        ),
    ],
)
def test_a_mistake_and_what_is_printed(site: SiteFolder, file: str, text: str, expected: str) -> None:
    site.write(file, text)
    told = site.problems()
    assert len(told) == 1, told
    assert told[0].startswith(expected)


def test_a_link_that_leads_out_of_bundles_is_refused(site: SiteFolder) -> None:
    (site.root / "bundles" / "motd.j2").unlink()
    (site.root / "bundles" / "motd.j2").symlink_to("/etc/hostname")
    assert site.problems() == [
        "host-configurations/base.yaml:4:13: steps.1.upload: bundles/motd.j2 leads out of bundles/; "
        "copy the file into bundles/"
    ]


@pytest.mark.parametrize(
    "template",
    [
        "{{ 9 ** 9 ** 9 }}",  # computing it would take for ever
        "{{ 'x' | center(99999999999) }}",
        "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
        "{{ " + "9" * 5000 + " }}",
        "{{ 1" + " + 1" * 5000 + " }}",
        "{% set total = 1 %}{% for n in range(3) %}{{ loop.index + total }}{{ n }}{% endfor %}",
        "{% macro line(text) %}{{ text }}{% endmacro %}{{ line(facts.serial) }}",
    ],
    ids=["power", "padding", "parentheses", "digits", "sum", "loop", "macro"],
)
def test_templates_are_read_not_computed(site: SiteFolder, template: str) -> None:
    site.write("bundles/motd.j2", template)
    site.write("templates/linux.ipxe.j2", template)
    assert all("make it simpler" in problem for problem in site.problems())


def test_a_secret_that_everybody_can_read(site: SiteFolder) -> None:
    secret = site.write("../root-password", "swordfish")
    site.write("midwife.yaml", MAIN.replace("env:ESX_ROOT", f"file:{secret}"))
    secret.chmod(0o644)
    (told,) = site.problems()
    assert told.endswith(f"everybody on this machine can read {secret}; chmod 600 {secret}")
    secret.chmod(0o600)
    assert site.problems() == []


def test_options_of_image_and_host_are_added_up(site: SiteFolder) -> None:
    half = "a=1234567 " * 90
    site.write("midwife.yaml", MAIN.replace("console=ttyS0", half))
    site.write("hosts/esx-01.yaml", HOST + f"options: {'a=1234567 ' * 120}\n")
    (told,) = site.problems()
    assert told.startswith("hosts/esx-01.yaml:6:10: options: the kernel command line has ")
    assert "Linux on x86 takes 2047" in told
    assert "(with the options of image rescue)" in told


def test_problems_are_sorted_and_each_is_told_once() -> None:
    late, early = Problem("b.yaml", 1, 1, "x"), Problem("a.yaml", 10, 1, "y")
    first = Problem("a.yaml", 9, 5, "z", "mend it", "warning")
    assert in_order([late, early, first, late]) == (first, early, late)
    assert str(first) == "a.yaml:9:5: warning: z; mend it"
    assert first.to_json()["level"] == "warning"


def test_the_nearest_word_is_offered_or_all_words() -> None:
    assert nearest("KERNL", ["kernel", "initrd"]) == "did you mean kernel?"
    assert nearest("zzz", ["kernel", "initrd"]) == "there is initrd, kernel"
    assert nearest("zzz", []) == "there is none"


def test_paths_in_messages_are_relative_to_the_site(site: SiteFolder) -> None:
    site.write("hosts/esx-01.yaml", "macs: x\n")
    (told,) = site.problems()
    assert not Path(told.split(":")[0]).is_absolute()
