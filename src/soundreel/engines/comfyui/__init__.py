"""The comfyui engine: renders a plan on a ComfyUI server, over HTTP and WebSocket."""

from soundreel.engines.comfyui.engine import ComfyUIEngine

__all__ = ["ComfyUIEngine"]
