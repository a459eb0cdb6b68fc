"""The command line: options become a `Request`, errors one message and an exit code."""
