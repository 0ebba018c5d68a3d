"""Two descriptions of one VIB: what may differ, what must not, and which one wins."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest

from midwife.images.depot.merge import differences, merge
from midwife.images.errors import FormatError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.package import Checksum, Payload, SoftwarePackage, SoftwarePlatform
from midwife.images.objects.version import SoftwareVersion
from midwife.images.vib.container import VibFile

REAL = Path(__file__).parents[2] / "data" / "ghettoVCB"
AGENT = SoftwarePackage(
    name="agent",
    version_object=SoftwareVersion.parse("1.0-1"),
    vendor="Lab",
    summary="An agent",
    release_date=datetime(2024, 1, 1, tzinfo=UTC),
    files=("opt/agent/run", "opt/agent/stop"),
    payloads=(Payload("agent", "tgz", 100, (Checksum("sha-256", "aa"), Checksum("sha-1", "bb", "gunzip"))),),
)


def test_the_newer_text_wins() -> None:
    newer = replace(AGENT, summary="The agent", release_date=datetime(2025, 1, 1, tzinfo=UTC))
    undated = replace(AGENT, summary="An old agent", release_date=None)
    assert merge(AGENT, newer) is merge(newer, AGENT) is newer
    assert merge(AGENT, undated) is merge(undated, AGENT) is AGENT


def test_of_two_with_the_same_date_the_first_wins() -> None:
    as_a_depot_tells_it = replace(AGENT, software_platforms=(SoftwarePlatform(version="8.*"),))
    assert merge(as_a_depot_tells_it, AGENT) is as_a_depot_tells_it


def test_order_does_not_matter_where_it_means_nothing() -> None:
    (payload,) = AGENT.payloads
    other = replace(
        AGENT, files=AGENT.files[::-1], payloads=(replace(payload, checksums=payload.checksums[::-1]),)
    )
    assert differences(AGENT, other) == ()


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("type", {"type": "locker"}),
        ("name", {"name": "other"}),
        ("version", {"version_object": SoftwareVersion.parse("1.00-1")}),
        ("vendor", {"vendor": "lab"}),
        ("acceptance level", {"acceptance_level": AcceptanceLevel.PARTNER}),
        ("file list", {"files": ("opt/agent/run",)}),
        ("overlay", {"overlay": True}),
        ("payloads", {"payloads": (replace(AGENT.payloads[0], size=101),)}),
        ("payloads", {"payloads": ()}),
    ],
)
def test_what_must_be_equal(what: str, change: dict[str, object]) -> None:
    other = replace(AGENT, **change)  # type: ignore[arg-type]
    assert differences(AGENT, other) == (what,)
    with pytest.raises(FormatError, match=f"id Lab_bootbank_agent_1.0-1: they differ in {what}"):
        merge(AGENT, other)


def test_eleven_real_contents_of_one_id() -> None:
    packages = []
    for file in sorted(REAL.glob("*.vib")):
        with VibFile(file) as vib:
            packages.append(vib.package)
    same = [one for one in packages if one.id == "virtuallyGhetto_bootbank_ghettoVCB_1.0.0-0.0.0"]
    assert len(same) == 11
    for a, b in combinations(same, 2):
        assert "payloads" in differences(a, b)
