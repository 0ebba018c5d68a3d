"""The boot image library: imported ESXi images and Linux pairs, as `serve` gives them to hosts."""
