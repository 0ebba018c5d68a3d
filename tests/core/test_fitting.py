"""Hardware requirements: whoever does not fit is refused with the reason, whoever has not told is asked."""

import pytest

from midwife.core.facts import ASKABLE, Facts
from midwife.core.fitting import Fitting, fit
from midwife.images.objects.profile import HardwareRule
from midwife.images.profile.hardware import CONFLICTING

CISCO = HardwareRule("Cisco Systems Inc")
DELL = HardwareRule("Dell Inc.", ("PowerEdge R630", "PowerEdge R730"))


@pytest.mark.parametrize(
    ("rules", "facts"),
    [
        ((), Facts()),
        ((CISCO,), Facts(vendor=" cisco systems inc")),
        ((CISCO, DELL), Facts(vendor="Dell Inc.", model="POWEREDGE R730")),
        ((DELL, HardwareRule("Dell Inc.")), Facts(vendor="Dell Inc.")),
    ],
)
def test_machines_that_fit(rules: tuple[HardwareRule, ...], facts: Facts) -> None:
    assert fit("lab", rules, facts) == Fitting()


@pytest.mark.parametrize(
    ("rules", "facts", "reason"),
    [
        ((CISCO,), Facts(vendor="Dell Inc."), "Cisco Systems Inc machines; this one is Dell Inc."),
        (
            (DELL, CISCO),
            Facts(vendor="Dell Inc.", model="R640"),
            "Dell Inc. PowerEdge R630, PowerEdge R730; Cisco Systems Inc machines; this one is Dell Inc. R640",
        ),
        ((CISCO,), Facts(asked=ASKABLE), "Cisco Systems Inc machines; this one tells no vendor"),
        (
            (DELL,),
            Facts(vendor="Dell Inc.", asked=ASKABLE),
            "Dell Inc. PowerEdge R630, PowerEdge R730 machines; this one tells no model",
        ),
    ],
)
def test_machines_that_do_not(rules: tuple[HardwareRule, ...], facts: Facts, reason: str) -> None:
    assert fit("lab", rules, facts) == Fitting(f"image lab is for {reason}")


def test_vibs_that_exclude_each_other_are_for_no_machine() -> None:
    assert "is for no machine" in fit("lab", (CONFLICTING,), Facts(vendor="conflicting vendors")).refused


@pytest.mark.parametrize(
    ("rules", "facts", "missing"),
    [
        ((CISCO,), Facts(), ("vendor",)),
        ((CISCO, DELL), Facts(), ("vendor", "model")),
        ((DELL,), Facts(vendor="Dell Inc."), ("model",)),
    ],
)
def test_machines_that_have_not_told(
    rules: tuple[HardwareRule, ...], facts: Facts, missing: tuple[str, ...]
) -> None:
    assert fit("lab", rules, facts) == Fitting("", missing)
