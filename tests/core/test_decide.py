"""The one decision: who is it, what does it get, and why."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midwife.core.decide import Action, Answer, decide, find_host
from midwife.core.facts import Facts
from midwife.site.model import Host, Main, Rule, Site
from midwife.wire.identity import clean_serial, parse_uuid, swap_uuid

MAC, OTHER_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"
UUID = "11223344-5566-7788-99aa-bbccddeeff00"


def site(*hosts: Host, rules: tuple[dict[str, Any], ...] = ()) -> Site:
    return Site(
        root=Path("/site"),
        main=Main.model_validate({"server": {"address": "192.0.2.2"}}),
        hosts=hosts,
        rules=tuple(Rule.model_validate(rule) for rule in rules),
    )


def everybody(**items: str) -> dict[str, Any]:
    return {"name": "everybody", "patterns": "all", "items": items}


ESX = Host(name="esx-01", macs=(MAC,), uuid=UUID, serial="SN-1", image="lab")


@pytest.mark.parametrize(
    ("facts", "by"),
    [
        (Facts(macs=(MAC,)), f"MAC address {MAC}"),
        (Facts(macs=(OTHER_MAC, MAC)), f"MAC address {MAC}"),
        (Facts(uuid=UUID), f"UUID {UUID}"),
        (Facts(uuid=swap_uuid(UUID)), f"UUID {swap_uuid(UUID)}"),
        (Facts(serial="sn-1"), "serial number sn-1"),
        (Facts(macs=(MAC,), serial="SN-1"), f"MAC address {MAC} and serial number SN-1"),
    ],
)
def test_a_host_is_known_by_any_of_its_names(facts: Facts, by: str) -> None:
    answer = decide(facts, site(ESX))
    assert (answer.action, answer.name, answer.image) == (Action.BOOT, "esx-01", "lab")
    assert answer.reasons[0] == f"host file esx-01 has its {by}"


def test_dummies_identify_nobody() -> None:
    """Two machines of a vendor who fills in nothing must not become one host."""
    facts = Facts(
        macs=(OTHER_MAC,),
        uuid=parse_uuid("03000200-0400-0500-0006-000700080009"),
        serial=clean_serial("To be filled by O.E.M."),
    )
    assert find_host(facts, site(ESX, Host(name="white-box", macs=("52:54:00:00:00:09",))))[0] is None


def test_two_host_files_that_claim_one_machine_give_it_nothing() -> None:
    twin = Host(name="esx-02", serial="SN-1", image="other")
    for facts in (Facts(serial="SN-1"), Facts(macs=(MAC,), serial="SN-1")):
        answer = decide(facts, site(ESX, twin, rules=(everybody(image="lab", boot="local"),)))
        assert answer.action is Action.WAIT
        assert answer.host is None
        assert answer.reasons[0].startswith("more than one host file claims it (esx-01 by ")
        assert "esx-02 by serial number SN-1): mend hosts/" in answer.reasons[0]


def test_a_host_file_goes_before_the_rules_item_by_item() -> None:
    rules = (everybody(image="from-rule", configuration="from-rule", boot="install"),)
    open_host = Host(name="esx-02", macs=(OTHER_MAC,), configuration="own")
    answer = decide(Facts(macs=(OTHER_MAC,)), site(ESX, open_host, rules=rules))
    assert (answer.image, answer.configuration, answer.mode) == ("from-rule", "own", "install")
    assert answer.reasons[1:] == (
        "image from-rule: rule 'everybody'",
        "configuration own: host file esx-02",
        "boot install: rule 'everybody'",
    )
    assert decide(Facts(macs=(MAC,)), site(ESX, rules=rules)).image == "lab"


@pytest.mark.parametrize("where", ["host", "rule"])
def test_local_wins_over_an_image(where: str) -> None:
    host = Host(name="a", macs=(MAC,), image="lab", boot="local" if where == "host" else None)
    rules = (everybody(boot="local"),) if where == "rule" else ()
    assert decide(Facts(macs=(MAC,)), site(host, rules=rules)).action is Action.LOCAL


def test_nothing_to_boot_says_what_every_rule_said() -> None:
    rule = {"name": "dells", "patterns": ["vendor=Dell Inc."], "items": {"image": "lab"}}
    answer = decide(Facts(macs=(MAC,), vendor="HPE"), site(rules=(rule,)))
    assert (answer.action, answer.name) == (Action.WAIT, MAC)
    assert answer.reasons[0] == "no host file has its MAC address, UUID or serial number"
    assert answer.reasons[1].startswith("rule 'dells': its vendor is HPE, not Dell Inc.")
    assert answer.reasons[-1] == "no image: nothing to boot"


def test_an_image_that_is_not_there() -> None:
    answer = decide(Facts(macs=(MAC,)), site(ESX), images={"rescue": ()})
    assert answer.action is Action.WAIT
    assert "image lab is neither imported nor described" in answer.reasons[-1]
    assert decide(Facts(macs=(MAC,)), site(ESX), images={"lab": ()}).action is Action.BOOT
    assert decide(Facts(macs=(MAC,)), site(ESX), images=None).action is Action.BOOT


def test_a_stranger_is_called_by_what_it_says() -> None:
    assert decide(Facts(macs=(MAC,), uuid=UUID), site()).name == MAC
    assert decide(Facts(uuid=UUID), site()).name == UUID
    assert decide(Facts(ipv4="192.0.2.7"), site()).name == "192.0.2.7"


ANY_FACTS = st.builds(
    Facts,
    macs=st.lists(st.sampled_from([MAC, OTHER_MAC, "52:54:00:00:00:03"]), max_size=3, unique=True).map(tuple),
    uuid=st.sampled_from(["", UUID, swap_uuid(UUID), "aa223344-5566-7788-99aa-bbccddeeff00"]),
    serial=st.sampled_from(["", "SN-1", "SN-2"]) | st.text(max_size=5),
    vendor=st.sampled_from(["", "Dell Inc."]) | st.text(max_size=5),
    ipv4=st.sampled_from(["", "192.0.2.7", "junk"]),
)
ANY_HOSTS = st.lists(
    st.builds(
        lambda number, macs, serial, image, boot: Host(
            name=f"h{number}", macs=macs, serial=serial, image=image, boot=boot
        ),
        st.integers(0, 5),
        st.sampled_from([(), (MAC,), (OTHER_MAC,), (MAC, OTHER_MAC)]),
        st.sampled_from(["", "SN-1", "SN-2"]),
        st.sampled_from([None, "lab", "rescue"]),
        st.sampled_from([None, "stateless", "install", "local"]),
    ),
    max_size=4,
    unique_by=lambda host: host.name,
)
ANY_RULES = st.lists(
    st.sampled_from(
        [
            everybody(image="lab"),
            everybody(configuration="base"),
            {"name": "dells", "patterns": ["vendor=Dell Inc."], "items": {"boot": "local"}},
            {"name": "net", "patterns": ["ipv4=192.0.2.1-192.0.2.99"], "items": {"image": "rescue"}},
        ]
    ),
    max_size=3,
).map(tuple)


@given(ANY_FACTS, ANY_HOSTS, ANY_RULES)
def test_every_answer_has_reasons_and_the_same_question_the_same_answer(
    facts: Facts, hosts: list[Host], rules: tuple[dict[str, Any], ...]
) -> None:
    asked = site(*hosts, rules=rules)
    answer: Answer = decide(facts, asked, images={"lab": ()})
    assert answer == decide(facts, asked, images={"lab": ()}), "pure"
    assert answer.reasons
    assert all(answer.reasons)
    assert answer.name
    if answer.action is Action.BOOT:
        assert answer.image == "lab"
    if answer.host:
        assert answer.name == answer.host.name
        claimed = [host for host in hosts if set(host.macs) & set(facts.macs)]
        assert not claimed or claimed == [answer.host]
