"""Acceptance levels: their order, their two names, and the old ones."""

import pytest

from midwife.images.objects.acceptance import AcceptanceLevel


def test_from_the_strictest_down() -> None:
    assert [level.documented for level in sorted(AcceptanceLevel, reverse=True)] == [
        "VMwareCertified",
        "VMwareAccepted",
        "PartnerSupported",
        "CommunitySupported",
    ]


@pytest.mark.parametrize("level", AcceptanceLevel)
def test_both_names_in_any_case(level: AcceptanceLevel) -> None:
    for name in (str(level), level.documented):
        assert AcceptanceLevel.parse(f" {name.upper()} ") is level


def test_names_of_the_first_tools() -> None:
    assert AcceptanceLevel.parse("signed") is AcceptanceLevel.PARTNER
    assert AcceptanceLevel.parse("unsigned") is AcceptanceLevel.COMMUNITY


def test_another_name_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match="there are: community, partner, accepted, certified"):
        AcceptanceLevel.parse("vmware")
