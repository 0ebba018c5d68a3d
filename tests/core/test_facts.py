"""Facts: merged, never changed; stored and read again; bounded, because packets claim what they like."""

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from midwife.core.facts import Facts, Firmware

TEXT = st.text(max_size=8)
FACTS = st.builds(
    Facts,
    macs=st.lists(st.sampled_from([f"52:54:00:00:00:{n:02x}" for n in range(5)]), unique=True).map(tuple),
    uuid=TEXT,
    serial=TEXT,
    vendor=TEXT,
    oemstrings=st.lists(TEXT, max_size=2).map(tuple),
    hostname=TEXT,
    ipv4=TEXT,
    firmware=st.sampled_from(Firmware),
)


@given(FACTS, FACTS)
def test_the_later_source_wins_where_both_know_something(old: Facts, new: Facts) -> None:
    both = old.merged(new)
    for field in fields(Facts):
        mine, newer, older = (getattr(facts, field.name) for facts in (both, new, old))
        if field.name == "macs":
            assert set(mine) == set(newer) | set(older)
            assert mine[: len(newer)] == newer, "the machine boots from the card that asked last"
        else:
            assert mine == (newer or older)


@given(FACTS)
def test_merging_is_idempotent_and_keeps_what_is_not_said(facts: Facts) -> None:
    assert facts.merged(facts) == facts.merged(Facts()) == facts


@given(FACTS)
def test_stored_and_read_again(facts: Facts) -> None:
    assert Facts.from_json(facts.to_json()) == facts


def test_what_a_newer_version_wrote_is_left_out() -> None:
    data = {"serial": "SN-1", "colour": "blue", "firmware": "risc-v"}
    assert Facts.from_json(data) == Facts(serial="SN-1")


def test_a_caller_that_makes_up_mac_addresses_does_not_fill_the_memory() -> None:
    facts = Facts(macs=("52:54:00:00:00:01",))
    for number in range(200):
        facts = facts.merged(Facts(macs=(f"02:00:00:00:00:{number:02x}",)))
    assert len(facts.macs) == 32
    assert facts.mac == "02:00:00:00:00:c7"


def test_rules_see_only_what_is_known() -> None:
    facts = Facts(macs=("52:54:00:00:00:01",), vendor="Dell Inc.", firmware=Firmware.EFI)
    assert facts.attributes() == {
        "mac": ("52:54:00:00:00:01",),
        "vendor": ("Dell Inc.",),
        "firmware": ("efi",),
    }
