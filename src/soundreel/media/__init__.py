"""Sound, picture and video files. PyAV is used here and nowhere else; no program is ever called."""
