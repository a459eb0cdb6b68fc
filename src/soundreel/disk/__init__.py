"""Files on the disk: whole or not there, one process per folder, and what a file holds as a short text."""
