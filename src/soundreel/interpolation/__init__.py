"""Frame interpolation: from one frame rate to a higher one, by motion compensation or a network.

`frames` converts the rate of a stream of frames, `network` runs a frame interpolation network, `video` interpolates a
whole video file.
"""
