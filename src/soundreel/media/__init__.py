"""Sound, image and video files. PyAV is imported in this package only, and no external program is run.

Sound in: `demuxing` finds the best sound stream and seeks in it, `windows_media` knows what WMA files do not say,
`timestamps` turns packet times into sample positions, `framing` recognises truncated files, `sound_file` decodes to
blocks with positions, and `audio` cuts a window out of them, at any rate or as the mono 16 kHz signal of the model.
Images in: `image` reads any format as upright sRGB pixels, and scales and crops them.
Video in: `video` probes files and decodes frames; `pose` matches the frames of a pose video to those of the model.
Video out: `video.SegmentWriter` encodes frames to H.264 segments; `mux` joins segments, adds the sound track (`downmix`
for surround sound) and verifies the result; `joining` makes one video of several, packet by packet.
Frame interpolation: `cuts` detects hard cuts, `motion` computes frames between two frames, `remux` replaces the
pictures of a video and copies its sound.
Shared: `containers` opens and creates files through PyAV, `files` checks paths, `codecs` lists missing encoders.
"""
