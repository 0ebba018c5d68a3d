"""Checks that need more than one value: across files, against the disk, against this machine.

Each takes a ``Draft`` and yields problems; none raises and none reads what another one found.
"""
