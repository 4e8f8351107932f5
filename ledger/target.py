"""Where a bundle is published: a folder, or whatever fsspec can write to.

A reader of either sees a file as it was or as it is now and never a half: a folder's files
are written beside their place and renamed, and an object store's appear when they are whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from ledger.records import Unavailable


class Target(Protocol):
    """A place that holds files by their path in the bundle."""

    def find(self, path: str) -> bytes | None:
        """The content of a file; None where there is none."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """Put a file there, in the place of one that was."""
        ...


class Folder:
    """A folder of this machine; what is written survives a power cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, path: str) -> bytes | None:
        """The content of a file; None where there is none."""
        try:
            return (self.folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable("bundle", f"{path}: {error.strerror}") from error

    def write(self, path: str, content: bytes) -> None:
        """Write beside the place, bring it to the disk, rename."""
        place = self.folder / path
        beside = place.with_name(f".{place.name}.new")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            beside.replace(place)
            _sync_folder(place.parent)
        except OSError as error:
            raise Unavailable("bundle", f"{path}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    # A rename is in the folder's own blocks: without this the checkpoint could outlive its tiles.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Remote:
    """A file system of fsspec, below one path: memory, S3, GCS, SFTP ..."""

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._root = system, root.rstrip("/")

    def find(self, path: str) -> bytes | None:
        """The content of a file; None where there is none."""
        try:
            content: bytes = self._system.cat_file(f"{self._root}/{path}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable("bundle", f"{path}: {error}") from error
        return content

    def write(self, path: str, content: bytes) -> None:
        """Put a whole file."""
        place = f"{self._root}/{path}"
        try:
            self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(place, content)
        except OSError as error:
            raise Unavailable("bundle", f"{path}: {error}") from error


def open_target(where: Path | str) -> Target:
    """A folder by its path or file:// URL; any other URL by fsspec."""
    if isinstance(where, Path):
        return Folder(where)
    import fsspec

    system, root = fsspec.core.url_to_fs(where)
    # fsspec writes local files in place; ours are renamed.
    return Folder(Path(root)) if "file" in _protocols(system) else Remote(system, root)


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)


def read(target: Target, path: str) -> bytes:
    """The content of a file that has to be there."""
    content = target.find(path)
    if content is None:
        raise Unavailable("bundle", f"{path} is missing")
    return content
