"""The networks: single device, no paths, ranks, prompts or files. They need torch; import them by module."""
