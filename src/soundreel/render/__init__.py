"""A render, from a checked request to a published file: what is decided, kept, post-processed, and written."""
