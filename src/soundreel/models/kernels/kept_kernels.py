"""What Triton keeps compiled kernels with: as it does by itself, but a disk that becomes full stops no render."""

import os
import shutil
from pathlib import Path
from typing import Any

from triton.runtime.cache import FileCacheManager

from soundreel.models.kernels.compile_cache import leave


class KeptKernels(FileCacheManager):
    """Files of one kernel, which go on in another folder where Triton's takes no more, as do all that come later."""

    def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
        self._kind = {"override": override, "dump": dump}
        try:
            super().__init__(key, **self._kind)
        except OSError as error:
            self._go_on(error)

    def put(self, data: Any, filename: str, binary: bool = True) -> str:
        """Write a file of the kernel, and return where it is."""
        try:
            path: str = super().put(data, filename, binary)
        except OSError as error:
            for begun in Path(self.cache_dir).glob(f"tmp.pid_{os.getpid()}_*"):
                shutil.rmtree(begun, ignore_errors=True)
            self._go_on(error)
            path = super().put(data, filename, binary)
        return path

    def _go_on(self, error: OSError) -> None:
        """In another folder, from the start; raises `error` where none takes anything."""
        if any(self._kind.values()) or not leave(Path(self.cache_dir).parent, error.strerror or str(error)):
            raise error
        super().__init__(self.key)
