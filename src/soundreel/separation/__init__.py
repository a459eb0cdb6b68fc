"""The voice in a song: separated from its accompaniment, and where it is heard."""
