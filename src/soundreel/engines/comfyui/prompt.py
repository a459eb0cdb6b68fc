"""The prompt that a server is given: files, models, and the graph that puts them together."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from soundreel.engines.comfyui.client import Client, Graph
from soundreel.engines.comfyui.graph import LARGEST_BATCH, Saving, compose, dropped_by_client
from soundreel.engines.comfyui.inventory import PLAIN_VIDEO, Inventory, ModelNames, find_models, official_models
from soundreel.engines.comfyui.material import InputFiles
from soundreel.engines.comfyui.user_graph import check_outputs, fill, read_graph
from soundreel.request import Request
from soundreel.types import Plan

CHAIN_NODES = ("WanSoundImageToVideo", "WanSoundImageToVideoExtend", "AudioEncoderLoader", "AudioEncoderEncode")
"""What a server too old for sound to video lacks; asked for before the rest, for the clearest message."""


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What one server can do for a request."""

    version: str
    models: ModelNames | None  # None: the user's own graph names them
    video: Mapping[str, Any]  # format inputs of SaveVideo, at its best

    @classmethod
    def survey(cls, client: Client, inventory: Inventory, request: Request) -> Self:
        """Ask the server for what `request` needs.

        Raises:
            EngineError: no ComfyUI server, or one without the nodes.
            WeightsError: model files are missing there.
        """
        version = client.version()
        if request.server.workflow is None:
            inventory.check_nodes(CHAIN_NODES, version)
            models = find_models(inventory, request)
        else:
            models = None
        return cls(version=version, models=models, video=inventory.video_format())

    @classmethod
    def unknown(cls, request: Request) -> Self:
        """For a server that cannot be asked: official names, and settings that every version takes."""
        return cls(version="", models=official_models(request), video=PLAIN_VIDEO)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One shot on one server."""

    plan: Plan
    files: InputFiles
    abilities: Abilities
    as_video: bool = False  # even where the version cannot be told to keep the quality

    def graph(self, prefix: str, names: Mapping[str, str] | None = None) -> Graph:
        """The graph that saves under `prefix`; `names` are the server's for the uploaded files."""
        saving = Saving(prefix=prefix, video=self.abilities.video if self._saves_video else None)
        material = self.files.material(names)
        if self.own_graph is not None:
            return fill(self.own_graph, self.plan, material, saving)
        assert self.abilities.models is not None, "without a graph of the user's the models were looked up"
        return compose(self.plan, self.abilities.models, material, saving)

    @property
    def _saves_video(self) -> bool:
        return self.as_video or any(name.endswith("crf") for name in self.abilities.video)

    @property
    def own_graph(self) -> Graph | None:
        """The user's graph, if there is one."""
        workflow = self.plan.request.server.workflow
        return None if workflow is None else read_graph(workflow)

    @property
    def hash(self) -> str:
        """The same for the same work, whatever the files are called on the server."""
        return hashlib.sha256(json.dumps(self.graph(""), sort_keys=True).encode()).hexdigest()

    @property
    def skip(self) -> int:
        """Pictures that come before the video's first in what the server saves."""
        return 0 if self.own_graph is not None else dropped_by_client(self.plan)

    @property
    def is_cut_there(self) -> bool:
        """Whether the server saves exactly the video's pictures."""
        return self.own_graph is None and self.plan.frames <= LARGEST_BATCH

    def check(self, inventory: Inventory) -> None:
        """Raise `EngineError` or `InputError` where the server would refuse the graph or it saves nothing."""
        graph = self.graph("soundreel")
        inventory.check_graph(graph, self.abilities.version)
        check_outputs(graph, inventory)
