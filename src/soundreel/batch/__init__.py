"""`soundreel batch`: the rows of a manifest become a video each, on all devices of this machine or of a Ray cluster.

`lines` and `manifest` read the rows, `kept` tells which of them are only to be printed, `rows` keeps them on the disk
until it is their turn, `results` notes what became of them.
`actors` is what renders, `cluster` asks Ray for it, and `driver` hands out the rows.
"""
