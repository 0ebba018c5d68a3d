"""What a host boots: ESXi images out of ISO files, kernel and initrd pairs, boot.cfg, the boot module."""
