"""Image Builder in Python: its objects here, what reads, keeps, composes and exports them in the modules below.

The objects have the names of the vendor's documentation, their attributes Python's. Importing this package
loads no XML library and touches no file.
"""

from midwife.images.errors import FormatError, ImageError, ProfileError, SignatureError
from midwife.images.objects.acceptance import AcceptanceLevel
from midwife.images.objects.constraint import SoftwareConstraint, SoftwareProvide
from midwife.images.objects.diff import ImageProfileDiff
from midwife.images.objects.package import SoftwarePackage
from midwife.images.objects.profile import ImageProfile
from midwife.images.objects.version import SoftwareVersion

__all__ = [
    "AcceptanceLevel",
    "FormatError",
    "ImageError",
    "ImageProfile",
    "ImageProfileDiff",
    "ProfileError",
    "SignatureError",
    "SoftwareConstraint",
    "SoftwarePackage",
    "SoftwareProvide",
    "SoftwareVersion",
]
