"""Rules that change while hosts boot: what is activated counts at the next boot, what is broken never does."""

import signal
from collections.abc import Callable

import yaml

from .conftest import HOST, MAC, Running
from .web import connect, fetch

RULES = "# Ann's\nrules:\n- {name: all, patterns: all, items: {image: lab}}\n"


def by_rule(running: Running) -> Running:
    """The host's file leaves everything to rules."""
    (running.site / "hosts" / f"{HOST}.yaml").write_text(yaml.safe_dump({"macs": MAC}))
    (running.site / "rules.yaml").write_text(RULES)
    main = yaml.safe_load((running.site / "midwife.yaml").read_text())
    main["images"]["new"] = main["images"]["lab"]
    (running.site / "midwife.yaml").write_text(yaml.safe_dump(main))
    return running.start()


def script(running: Running) -> str:
    return fetch(running.port("http"), f"/ipxe?mac={MAC}&platform=efi").body.decode()


def test_an_activation_reaches_the_service_and_lets_a_boot_that_is_under_way_go_on(
    service: Callable[..., Running],
) -> None:
    lab = by_rule(service())
    kernel = (lab.site / "images" / "vmlinuz").read_bytes()
    where = lab.configure()
    with connect(lab.port("http")) as ipxe:
        assert ipxe.ask(f"/{where}/vmlinuz").body == kernel

        copied = lab.cli("rule", "copy", "all", "all 2", "--replace-item", "image=new")
        assert copied.returncode == 0, copied.stderr
        assert not any(kind == "reloaded" for kind, _ in lab.timeline("")), "nothing is activated by itself"
        activated = lab.cli("ruleset", "activate")
        assert activated.returncode == 0, activated.stderr
        assert "told the service" in activated.stdout
        assert "1 of 1 known host get" in activated.stdout
        assert "1 rule" in lab.wait_event("reloaded", "")

        assert ipxe.ask(f"/{where}/initrd").status == 200, (
            "what boots already goes on with what it began with"
        )
    assert "all 2 files served" in lab.wait_event("booted")
    assert "/new/" in script(lab), "the next boot gets the new image"


def test_rules_that_are_broken_when_the_site_is_read_again_change_nothing(
    service: Callable[..., Running],
) -> None:
    lab = by_rule(service())
    for broken in (
        RULES.replace("image: lab", "image: nowhere"),
        RULES.replace("patterns: all", "patterns: [colour=red]"),
        RULES + "active: [al]\n",
        RULES + "active: [all\n",
    ):
        (lab.site / "rules.yaml").write_text(broken)
        since = lab.running.mark()
        lab.running.signal(signal.SIGHUP)  # as somebody does who has not asked `midwife check`
        lab.running.wait_for(r"site not taken.*rules\.yaml:", 20, since=since)
        assert "/lab/" in script(lab)
    (lab.site / "rules.yaml").write_text(RULES + "active: []\n")
    assert lab.cli("reload").returncode == 0
    lab.wait_event("reloaded", "")
    assert "nothing to boot" in script(lab), "an active set without rules is no mistake"
