"""`python -m soundreel`."""

from soundreel.cli import main

main()
