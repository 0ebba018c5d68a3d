"""A rule hangs on what only iPXE can tell: the machine is asked, on a path that began with PXELINUX.

Real loaders, real firmware; SMBIOS family and OEM strings are read by iPXE itself.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .guest import Guest
from .lab import Lab
from .scenario import HOST, in_lab, snippet
from .service import MIDWIFE
from .test_boots_bios import PXELINUX_FOR_IPXE
from .vm import Firmware

pytestmark = [pytest.mark.firmware, pytest.mark.timeout(400)]

RULE = {
    "name": "cribs",
    "patterns": ["family=Cribs", "oemstring==$SPT:lab, one", "asset!=A-1"],
    "items": {"configuration": "lab"},
}


def test_pxelinux_loads_ipxe_which_tells_family_and_oem_strings(
    make_lab: Callable[..., Lab], guest: Guest, tmp_path: Path
) -> None:
    pasted = snippet("--bios", "pxelinux.0", change=PXELINUX_FOR_IPXE)
    scene = in_lab(make_lab, guest, tmp_path, Firmware.BIOS, dhcp=pasted)
    (scene.service.site / "rules.yaml").write_text(yaml.safe_dump({"rules": [RULE]}))
    scene.lab.run(*MIDWIFE, "reload", str(scene.service.site))
    scene.service.log.wait_for("event=reloaded", 30)
    scene.machine.smbios = ("type=1,family=Cribs", "type=11,value=first,value=$SPT:lab,, one")
    scene.machine.start()
    scene.wait_event("asked", text="its family, oemstring and asset are not known")
    scene.wait_ready()
    facts = scene.service.rows("SELECT facts FROM hosts WHERE id = ?", HOST)[0][0]
    assert '"family": "Cribs"' in facts
    assert "$SPT:lab, one" in facts
    scene.prove_ready(proto="http", proxied=False)
