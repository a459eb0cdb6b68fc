"""`python -m soundreel`, and the command `soundreel`: who is stopped while it is loaded says so, too."""

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from soundreel.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("soundreel: cancelled\n")
        exec("")  # noqa: S102 - see `soundreel.cli.signals.forget_interrupt`, which may not be loaded
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
