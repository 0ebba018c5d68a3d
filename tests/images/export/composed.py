"""The look-alike ESXi as a resolved profile, and its VIBs read out of memory."""

import io
from collections.abc import Callable
from dataclasses import replace

from midwife.images.depot.formats.profilexml import parse_profile
from midwife.images.objects.package import SoftwarePackage
from midwife.images.profile.resolved import ResolvedProfile
from midwife.images.vib.container import VibFile
from midwife.images.vib.content import Vib
from midwife.images.vib.descriptor import parse_descriptor
from tests.peers.depotmaker import profile_xml
from tests.peers.esximage import Content, MadeVib

__all__ = ["in_memory", "resolved_profile", "with_vibs"]


def resolved_profile(content: Content) -> ResolvedProfile:
    """The standard profile."""
    return with_vibs(content, content.standard)


def with_vibs(content: Content, vibs: tuple[MadeVib, ...]) -> ResolvedProfile:
    """A profile of these VIBs."""
    xml = profile_xml(content, content.profile_name, [one.id for one in vibs])
    return ResolvedProfile(parse_profile(xml), dict(map(_package, vibs)))


def renamed(resolved: ResolvedProfile, name: str) -> ResolvedProfile:
    return replace(resolved, profile=replace(resolved.profile, name=name))


def in_memory(content: Content) -> Callable[[str], Vib]:
    """Opens a VIB of the look-alike by id."""
    everything = content.everything
    return lambda vib_id: VibFile.from_stream(io.BytesIO(everything[vib_id].data), vib_id)


def _package(vib: MadeVib) -> tuple[str, SoftwarePackage]:
    return vib.id, parse_descriptor(vib.descriptor).package
