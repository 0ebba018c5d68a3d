"""A site directory to break: whole, small, with one of everything."""

from collections.abc import Callable
from pathlib import Path

import pytest

from midwife.site.load import LoadedSite, SiteError, load

MAIN = """\
server:
  address: 192.0.2.2
secrets:
  esx-root: env:ESX_ROOT
images:
  rescue:
    kernel: files/vmlinuz
    initrd:
      - files/initrd.img
    options: console=ttyS0
  lab:
    imported: 8.0U3
"""

HOST = """\
macs:
  - 52:54:00:12:34:56
image: rescue
vars:
  vlan: 010
"""

CONFIGURATION = """\
steps:
  - name: host name
    esxcli: system hostname set --host={{ host.name }}
  - upload: motd.j2
    template: true
    to: /etc/motd
  - run: |
      echo "{{ secret('esx-root') }}" |
      passwd --stdin root
  - wait-online: 5m
"""

RULES = """\
rules:
  - name: dells
    patterns: [vendor=Dell Inc.]
    items: {image: lab}
  - name: rest
    patterns: all
    items:
      configuration: base
      boot: stateless
"""


class SiteFolder:
    """A site directory; ``write`` replaces a file, ``problems`` loads it and gives what is printed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in {
            "midwife.yaml": MAIN,
            "hosts/esx-01.yaml": HOST,
            "host-configurations/base.yaml": CONFIGURATION,
            "rules.yaml": RULES,
            "files/vmlinuz": "a kernel",
            "files/initrd.img": "an initial RAM disk",
            "bundles/motd.j2": "{{ host.name }}\n",
        }.items():
            self.write(name, text)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def load(self) -> LoadedSite:
        return load(self.root, imported={"8.0U3"}, environ={"ESX_ROOT": "not read"})

    def problems(self) -> list[str]:
        try:
            return [str(problem) for problem in self.load().warnings]
        except SiteError as error:
            return [str(problem) for problem in error.problems]


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    return SiteFolder(tmp_path)


@pytest.fixture(scope="session")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], SiteFolder]:
    """For property tests: one folder, written afresh by each call."""
    root = tmp_path_factory.mktemp("site")
    return lambda: SiteFolder(root)
