"""A resident server: a queue on the disk, workers that keep their networks loaded, and an HTTP API before them.

Reading order: `app` (what is put together), `api` (the doors), `queue` (the truth about jobs), `supervisor` (who works
on what), `worker` (the process that renders).
"""
