"""What can go wrong with images, VIBs, depots and profiles; every text says what, where, and what to do.

ImageError                 anything a command or the service tells its user
├── FormatError            bytes are not what they claim to be: the one error of every parser here
├── SignatureError         a VIB's signature does not prove its acceptance level
└── ProfileError           an image profile cannot be made, changed or used like that
"""

__all__ = ["FormatError", "ImageError", "ProfileError", "SignatureError"]


class ImageError(Exception):
    """An image cannot be imported, found, changed or served; the text says what, where, and what to do."""


class FormatError(ImageError):
    """Bytes that are no VIB, descriptor, archive, depot or profile; the text names the place in them."""


class SignatureError(ImageError):
    """A signature is missing, broken, or does not lead to an anchor of the level that is claimed."""


class ProfileError(ImageError):
    """An image profile refuses a change, or cannot be used as it is."""
