"""``midwife`` and ``python -m midwife``. The only place that exits."""

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    from midwife.cli.main import cli

    cli.main(prog_name="midwife")


if __name__ == "__main__":
    main()
