"""One transformer on several devices, a process for each: from outside, the network's own files know nothing of it.

Read `shares` (who has which tokens), `exchange` (how attention sees all of them), then `tokens` (the whole).
"""
