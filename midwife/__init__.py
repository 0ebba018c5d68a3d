"""midwife: brings ESXi hosts to life over the network.

The packages, from pure to impure: ``wire`` (bytes to values), ``site`` (the user's files), ``images``,
``rules``, ``core`` (decisions, no I/O), ``serve`` (sockets), ``engine`` and ``customize`` (pushing),
``store`` (what was observed), ``cli``. Imports go in that direction only; docs/explain/architecture.md
draws the picture.
"""

__all__ = ["__version__"]
__version__ = "0.1.0"
