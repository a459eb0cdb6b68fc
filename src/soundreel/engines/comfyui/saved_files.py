"""The files that a graph will save, named before it has run: ComfyUI counts the files of a prefix from 00001 on."""

from soundreel.engines.comfyui.client import Graph, ServerFile


def saved_files(graph: Graph, pictures: int | None) -> tuple[ServerFile, ...]:
    """The files under a prefix that nothing else has; () where the names cannot be known.

    Args:
        graph: a graph with one SaveVideo in mp4, or else one SaveImage.
        pictures: number of pictures that are saved; None: not known.
    """
    savers = [node for node in graph.values() if node["class_type"] in ("SaveVideo", "SaveImage")]
    videos = [node for node in savers if node["class_type"] == "SaveVideo"]
    if len(videos or savers) != 1:
        return ()
    (saver,) = videos or savers
    if not videos and pictures is None:
        return ()
    count, ending = (1, "mp4") if videos else (pictures or 0, "png")
    folder, _, stem = saver["inputs"]["filename_prefix"].rpartition("/")
    return tuple(
        ServerFile(filename=f"{stem}_{number:05d}_.{ending}", subfolder=folder, type="output")
        for number in range(1, count + 1)
    )
