"""A ComfyUI server for tests: real HTTP and WebSocket, the captured shapes, no model."""

from comfyui_server.faults import Odd
from comfyui_server.graphs import read_label
from comfyui_server.server import ContractServer

__all__ = ["ContractServer", "Odd", "read_label"]
