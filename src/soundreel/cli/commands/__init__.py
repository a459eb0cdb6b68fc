"""The commands, as functions that typer reads; `soundreel.cli.app` gives them their names."""
