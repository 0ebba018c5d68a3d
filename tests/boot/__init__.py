"""Real firmware in virtual machines: the guest, the machines, the networks they boot from. See README.md."""
