"""Image Builder's objects, by the names of the vendor's documentation. No I/O, no XML."""
