"""The ``midwife`` command: a list of names, each loaded from its own module when it is called.

Nothing but click is imported before that: ``midwife status`` must answer at once on a slow machine.
"""

import importlib

import click

from midwife import __version__

__all__ = ["COMMANDS", "cli"]

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("midwife.cli.init", "Write a small, commented site directory."),
    "check": ("midwife.cli.check", "Prove a site directory: every error at once, with its place."),
    "serve": ("midwife.cli.serve", "Serve a site: TFTP, HTTP, callbacks, proxyDHCP."),
    "reload": ("midwife.cli.reload", "Let a running service read its site again."),
    "status": ("midwife.cli.status", "Every host: state, progress, what comes next."),
    "events": ("midwife.cli.events", "The timeline of a host, or of all."),
    "push": ("midwife.cli.push", "Customize a host that is up now, without waiting for its call."),
    "explain": ("midwife.cli.explain", "What a machine gets, why, and the exact answers it will see."),
    "render": ("midwife.cli.render", "The exact bytes a host would get: boot.cfg, pxelinux, ipxe."),
    "dhcp-snippet": ("midwife.cli.dhcp_snippet", "What to paste into the DHCP server that is there."),
    "depot": ("midwife.cli.depot", "Add, list, show and remove depots: where VIBs come from."),
    "image": ("midwife.cli.image.command", "Images and image profiles: compose, compare, export, serve."),
    "vib": ("midwife.cli.vib.command", "List, show, verify, extract and build VIBs."),
    "rule": ("midwife.cli.rule.command", "Rules: made, copied, listed; who gets what."),
    "ruleset": ("midwife.cli.ruleset.command", "Order rules in the working set, compare, activate."),
    "fetch": ("midwife.cli.fetch", "Fetch a URL as a host would: tftp:// or http://."),
}
"""Command: the module that has it as ``command``, and its line in ``--help`` (which loads no module)."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which one needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module now."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name][0]} has no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="midwife")
def cli() -> None:
    """Brings ESXi hosts to life over the network.

    A site is a directory with midwife.yaml; commands use the one given by --site, in $MIDWIFE_SITE, or the
    current directory.
    """
