"""Figures for README and docs: `python -m benchmarks` prints all tables that this machine can make."""
