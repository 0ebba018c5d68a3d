"""A site with a depot that holds a signed miniature of ESXi, and ``midwife image`` as somebody types it."""

import json
import shutil
from pathlib import Path

from click.testing import Result

from midwife.images.depot.kept.library import DepotLibrary
from tests.cli.sites import midwife
from tests.peers.esximage import Content, Pki, look_alike_profile, write_bundle

DEPOT = "VMware-ESXi-8.0.3"


def make_site(root: Path) -> Content:
    """A site whose library has a miniature of ESXi 8.0.3, and whose trust folder knows the signers."""
    pki = Pki.make()
    for level, identity in (("certified", pki.certified), ("accepted", pki.root), ("partner", pki.root)):
        (root / "trust" / level).mkdir(parents=True)
        (root / "trust" / level / "anchor.pem").write_bytes(identity.pem)
    content = look_alike_profile("8.0.3", pki=pki)
    bundle = write_bundle(root.parent / f"{root.name}-depot.zip", content)
    DepotLibrary(root / "data").add(str(bundle), DEPOT)
    (root / "midwife.yaml").write_text("server:\n  address: 192.0.2.2\n")
    return content


def copy_site(made: Path, target: Path) -> Path:
    """One of its own for a test."""
    return Path(shutil.copytree(made, target))


def image(site: Path, *words: str | Path, env: dict[str, str] | None = None) -> Result:
    return midwife("image", *words, "--site", site, env=env)


def data(site: Path, *words: str | Path) -> dict[str, object]:
    """What the command says in JSON; it must have worked."""
    done = image(site, *words, "-o", "json")
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def cells(line: str) -> list[str]:
    return line.split()


def text(site: Path, name: str = "lab") -> str:
    return (site / "image-profiles" / f"{name}.yaml").read_text()
