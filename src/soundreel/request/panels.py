"""Headings of the command line's help, under which fields of a request stand."""

WHAT, LENGTH, PICTURE, MODEL, SPEED, SERVER, OUTPUT = (
    "What", "Length", "Picture", "Model", "Speed (native)", "ComfyUI server", "Output",
)  # fmt: skip
