"""Frames between frames: from one rate to a higher one, by motion compensation or a network."""
