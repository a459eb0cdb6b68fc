"""`python -m soundreel`."""

from soundreel.cli.app import main

main()
