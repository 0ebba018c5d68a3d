"""Whether two VIBs of one id have the same contents, which an id alone does not prove.

Source: the rule by which ESXi merges descriptions of one VIB, and life: one community VIB was published with
eleven contents under one id. Descriptors come from metadata, from VIBs and from image databases, which repeat
them in other words; so only what decides is compared.
"""

from midwife.images.objects.package import Payload, SoftwarePackage

__all__ = ["differences", "same_content"]


def differences(a: SoftwarePackage, b: SoftwarePackage) -> tuple[str, ...]:
    """What differs: ``payload NAME``, ``files``, ``acceptance level``, …; empty if they are the same VIB."""
    found = []
    if (a.vendor, a.type, a.name, a.version) != (b.vendor, b.type, b.name, b.version):
        found.append("id")
    if a.acceptance_level != b.acceptance_level:
        found.append("acceptance level")
    if a.overlay != b.overlay:
        found.append("overlay")
    if {file.lstrip("/") for file in a.files} != {file.lstrip("/") for file in b.files}:
        found.append("files")
    theirs = {payload.name: payload for payload in b.payloads}
    mine = {payload.name: payload for payload in a.payloads}
    found += [
        f"payload {name}"
        for name in sorted(mine.keys() | theirs.keys())
        if name not in mine or name not in theirs or not _same_payload(mine[name], theirs[name])
    ]
    return tuple(found)


def same_content(a: SoftwarePackage, b: SoftwarePackage) -> bool:
    """Whether nothing in ``differences`` speaks against it."""
    return a is b or not differences(a, b)


def _same_payload(a: Payload, b: Payload) -> bool:
    """Type and size, and no sum that both have may differ: a database may have fewer kinds of sums."""
    if (a.type, a.size) != (b.type, b.size):
        return False
    sums = {(one.kind, one.process): one.value for one in a.checksums}
    return all(sums.get((one.kind, one.process), one.value) == one.value for one in b.checksums)
