"""The project's own code against reference inputs and outputs: `make parity`, `make parity GOLDEN=DIR`."""
