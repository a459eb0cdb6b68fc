"""The prompt for one shot: its input files, and the graph with the server's models."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from soundreel.engines.comfyui.answers import NodeClasses
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.graph import (
    FIRST_CHUNK,
    LARGEST_BATCH,
    NEXT_CHUNK,
    OutputFormat,
    compose,
    dropped_by_client,
)
from soundreel.engines.comfyui.input_files import InputFile, InputFiles
from soundreel.engines.comfyui.inventory import PLAIN_VIDEO, Inventory, ModelNames, find_models, official_models
from soundreel.engines.comfyui.official_nodes import official_nodes
from soundreel.engines.comfyui.user_graph import as_graph, check_outputs, fill, read_workflow
from soundreel.request import Request
from soundreel.types import Plan

S2V_NODES = (FIRST_CHUNK, NEXT_CHUNK, "AudioEncoderLoader", "AudioEncoderEncode")
"""Node classes that a server too old for sound to video lacks; checked first, for the clearest message."""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a server has for a request."""

    version: str
    models: ModelNames | None  # None: the user's own graph names them
    video: Mapping[str, Any]  # format inputs of SaveVideo at the best quality
    nodes: NodeClasses  # all its node classes

    @classmethod
    def of(cls, version: str, inventory: Inventory, request: Request) -> Self:
        """What a server of this version has for `request`.

        Raises:
            EngineError: it lacks the nodes.
            WeightsError: it lacks model files.
        """
        if request.server.workflow is None:
            inventory.check_nodes(S2V_NODES, version)
            models = find_models(inventory, request)
        else:
            models = None
        return cls(version=version, models=models, video=inventory.video_format(), nodes=inventory.nodes)

    @classmethod
    def unknown(cls, request: Request) -> Self:
        """For a server that cannot be reached: official names, and settings that every version accepts."""
        return cls(version="", models=official_models(request), video=PLAIN_VIDEO, nodes=official_nodes())


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One shot as a prompt for one server."""

    plan: Plan
    files: InputFiles
    capabilities: Capabilities
    played: InputFile | None = None  # sound of a video that is to be shown as it is, encoded as the request says

    def graph(self, prefix: str, names: Mapping[str, str] | None = None) -> Graph:
        """The graph, which saves under `prefix`; `names` are our names of the input files → the server's."""
        played = None if self.played is None else self.played.name
        output = OutputFormat(prefix=prefix, video=self._video, sound=played)
        files = self.files.names(names)
        if self.own_graph is not None:
            return fill(self.own_graph, self.plan, files, output)
        assert self.capabilities.models is not None, "without the user's own graph, models have been looked up"
        return compose(self.plan, self.capabilities.models, files, output)

    @property
    def _video(self) -> Mapping[str, Any] | None:
        """Inputs of SaveVideo; None where it has none for the quality, so that pictures are saved."""
        best = self.capabilities.video
        if self.played is not None:
            crf = float(self.plan.request.output.crf)
            return {name: crf if name.endswith("crf") else value for name, value in best.items()}
        return best if any(name.endswith("crf") for name in best) else None

    @property
    def own_graph(self) -> Graph | None:
        """The user's own graph; None where soundreel composes it."""
        workflow = self.plan.request.server.workflow
        return None if workflow is None else as_graph(read_workflow(workflow), self.capabilities.nodes)

    @property
    def hash(self) -> str:
        """Digest of the graph, independent of the server's names of the input files."""
        return hashlib.sha256(json.dumps(self.graph(""), sort_keys=True).encode()).hexdigest()

    @property
    def skip(self) -> int:
        """Number of pictures before the video's first that the server saves."""
        return 0 if self.own_graph is not None else dropped_by_client(self.plan)

    @property
    def saved_pictures(self) -> int | None:
        """Number of pictures that the server saves; None where that is not known."""
        if not self.is_cut_there:
            return None
        return self.skip + self.plan.frames

    @property
    def is_cut_there(self) -> bool:
        """Whether the server saves exactly the pictures of the plan, and no more."""
        return self.own_graph is None and self.plan.frames <= LARGEST_BATCH

    def check(self, inventory: Inventory) -> None:
        """Check that the server will take the graph, and that the graph saves something.

        Raises:
            EngineError, WeightsError: the server would refuse it.
            InputError: there is no output node.
        """
        graph = inventory.complete(self.graph("soundreel"))
        inventory.check_graph(graph, self.capabilities.version)
        check_outputs(graph, inventory)
