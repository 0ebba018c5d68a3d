"""What the signatures of a profile's VIBs prove, and whatever else is wrong with it: one call for every command.

Knows depots and anchors; nothing of files of the site or of exports.
"""

from collections.abc import Callable, Mapping

from midwife.images.depot.depot import Depot
from midwife.images.depot.kept.stored import StoredDepot
from midwife.images.errors import ImageError, ProfileError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.profile.catalogue import Catalogue
from midwife.images.profile.resolved import Finding, ResolvedProfile
from midwife.images.profile.validate import validate
from midwife.images.vib.content import Vib
from midwife.images.vib.signing.signature import Anchors, Proof, prove

__all__ = ["Inspector", "vibs_of"]


def vibs_of(resolved: ResolvedProfile, depots: Mapping[str, Depot]) -> Callable[[str], Vib]:
    """Gives each VIB of the profile out of the depot it was found in; raises ImageError for any other."""

    def vib(vib_id: str) -> Vib:
        depot = depots.get(resolved.depots.get(vib_id, ""))
        if depot is None:
            raise ProfileError(
                f"{vib_id} is in no depot: midwife image validate {resolved.profile.name} tells more"
            )
        return depot.vib(vib_id)

    return vib


class Inspector:
    """Finds everything that is wrong with profiles. A VIB's signature is looked at once."""

    def __init__(self, depots: Mapping[str, Depot], catalogue: Catalogue, anchors: Anchors) -> None:
        self._depots = depots
        self._catalogue = catalogue
        self._anchors = anchors
        self._proofs: dict[tuple[str, str], Proof] = {}

    def findings(self, resolved: ResolvedProfile, *, download: bool = False) -> tuple[Finding, ...]:
        """As ``validate``, with signatures unless the profile says that they are not checked.

        Of a VIB that an online depot has not downloaded yet there is no signature to look at; ``download``
        brings it.
        """
        proofs = self.proofs(resolved, download=download) if resolved.profile.signature_check else {}
        return validate(resolved, self._catalogue, proofs)

    def proofs(self, resolved: ResolvedProfile, *, download: bool = False) -> dict[str, Proof]:
        """By VIB id, of those that can be looked at. Raises ImageError only where downloading fails."""
        found = {}
        for vib_id, name in resolved.depots.items():
            depot = self._depots.get(name)
            if depot is None or vib_id not in resolved.packages:
                continue
            if not download and isinstance(depot, StoredDepot) and not depot.stored(vib_id).here:
                continue
            if (vib_id, name) not in self._proofs:
                self._proofs[vib_id, name] = self._prove(depot, vib_id, resolved)
            found[vib_id] = self._proofs[vib_id, name]
        return found

    def _prove(self, depot: Depot, vib_id: str, resolved: ResolvedProfile) -> Proof:
        try:
            return prove(depot.vib(vib_id), self._anchors)
        except ImageError as error:
            claimed = resolved.packages[vib_id].acceptance_level
            return Proof(AcceptanceLevel.COMMUNITY, claimed, reason=str(error))
