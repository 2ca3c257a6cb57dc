"""A model of what a power cut leaves: which states of the disk a recorded trace may end in.

The trace is what ``edged.osutil.atomic`` shows its recorder. The model is weaker than any file
system people use, so that what survives it survives them:

- a file's bytes and size are safe once the file was synced after they were written;
- a name (made, moved or removed) is safe once its folder was synced after that;
- until then each change by itself may be on the disk or not, whatever came before or after it;
- a moved name takes its file along, with what of its bytes is on the disk.

A state is a choice, for the first ``length`` operations, of which unsafe ones are lost.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from edged.osutil.atomic import Operation

_DATA = ("write", "truncate")
_MAKES = ("create", "mkdir")
_ROOT = 0  # the watched folder's number

File = bytearray
Folder = dict[str, int]  # numbers of what is in it, by name
Content = Mapping[str, "bytes | None"]


@dataclass
class Change:
    """An operation that a power cut may undo, with what it was done to.

    Attributes:
        operation: as it was recorded.
        node: number of the file or folder that is written, made, moved or removed.
        folders: numbers of those whose names it changes; for bytes none.
        safe_at: how many operations had been done when it was safe.
    """

    operation: Operation
    node: int
    folders: tuple[int, ...]
    safe_at: float = math.inf


class Trace:
    """A recorded run, from a known state of the disk on.

    Args:
        root: the folder that was watched; paths outside it are an error.
        before: its content when the recording began, which is safe: bytes by relative path, None
            for folders.
        operations: as they were recorded.
    """

    def __init__(self, root: Path, before: Content, operations: Sequence[Operation]) -> None:
        self.operations = tuple(operations)
        self.length = len(self.operations)
        self._before = dict(before)
        self._changes: dict[int, Change] = {}
        nodes = _tree(self._before)
        for index, operation in enumerate(self.operations):
            if operation.kind in ("sync", "sync_folder"):
                self._settle(operation, _find(nodes, root, operation.path), index + 1)
            else:
                self._changes[index] = _see(nodes, root, operation)

    def _settle(self, sync: Operation, node: int, done: int) -> None:
        for change in self._changes.values():
            if change.safe_at == math.inf and _settles(sync, node, change):
                change.safe_at = done

    def unsafe(self, length: int) -> list[int]:
        """Returns which of the first ``length`` operations a power cut then may undo."""
        return [i for i, c in self._changes.items() if i < length < c.safe_at]

    def state(self, length: int, lost: Collection[int] = ()) -> dict[str, bytes | None]:
        """Returns what is there after a cut: bytes by relative path, None for folders.

        Args:
            length: how many operations were done.
            lost: of them, those that did not reach the disk.
        """
        nodes = _tree(self._before)
        for index, change in self._changes.items():
            if index >= length:
                break
            # Even where its making was lost, a file's bytes may be there, under a later name.
            _fresh(nodes, change)
            if index not in lost:
                _do(nodes, change)
        return dict(_walk(nodes, _ROOT, ""))

    def choices(self, length: int) -> Iterator[frozenset[int]]:
        """Yields none, all, and each single unsafe operation lost."""
        unsafe = self.unsafe(length)
        yield frozenset()
        if len(unsafe) > 1:
            yield frozenset(unsafe)
        for index in unsafe:
            yield frozenset((index,))

    def sample(self, random: Random) -> tuple[int, frozenset[int]]:
        """Returns a length and a choice at random."""
        length = random.randint(0, self.length)
        part = random.random()
        return length, frozenset(i for i in self.unsafe(length) if random.random() < part)


def _settles(sync: Operation, node: int, change: Change) -> bool:
    """Whether a sync of ``node`` makes a change safe."""
    if sync.kind == "sync":
        return change.operation.kind in _DATA and change.node == node
    # A move is safe when the folder that it goes to is: the name there is what anybody relies on.
    return bool(change.folders) and change.folders[-1] == node


def _see(nodes: dict[int, File | Folder], root: Path, operation: Operation) -> Change:
    """Does an operation as it was done; returns what it was done to."""
    kind, path = operation.kind, operation.path
    if kind in _DATA:
        change = Change(operation, _find(nodes, root, path), ())
    else:
        folders = [_find(nodes, root, path.parent)]
        if operation.target is not None:
            folders.append(_find(nodes, root, operation.target.parent))
        node = len(nodes) if kind in _MAKES else _find(nodes, root, path)
        change = Change(operation, node, tuple(folders))
    _fresh(nodes, change)
    _do(nodes, change)
    return change


def _find(nodes: dict[int, File | Folder], root: Path, path: Path) -> int:
    number = _ROOT
    for part in path.relative_to(root).parts:
        number = _folder(nodes, number)[part]
    return number


def _folder(nodes: dict[int, File | Folder], number: int) -> Folder:
    folder = nodes[number]
    assert isinstance(folder, dict)
    return folder


def _fresh(nodes: dict[int, File | Folder], change: Change) -> None:
    if change.operation.kind in _MAKES:
        nodes[change.node] = File() if change.operation.kind == "create" else {}


def _do(nodes: dict[int, File | Folder], change: Change) -> None:
    """Does a change where what it was done to may be elsewhere by now, or not there."""
    operation = change.operation
    if operation.kind in _DATA:
        file = nodes[change.node]
        assert isinstance(file, File)
        _write(file, operation)
        return
    names, name = _folder(nodes, change.folders[0]), operation.path.name
    if operation.kind in _MAKES:
        names[name] = change.node
        return
    if names.get(name) == change.node:
        del names[name]
    if operation.target is not None:
        _folder(nodes, change.folders[1])[operation.target.name] = change.node


def _write(file: File, operation: Operation) -> None:
    size, offset = len(file), operation.offset
    if operation.kind == "truncate":
        del file[offset:]
        file.extend(bytes(max(0, offset - size)))
        return
    file.extend(bytes(max(0, offset - size)))  # a hole, where what comes before was lost
    file[offset : offset + len(operation.data)] = operation.data


def _tree(content: Content) -> dict[int, File | Folder]:
    nodes: dict[int, File | Folder] = {_ROOT: {}}
    for name, data in sorted(content.items()):
        path = Path("/", name)
        folder = _folder(nodes, _find(nodes, Path("/"), path.parent))
        folder[path.name] = number = len(nodes)
        nodes[number] = {} if data is None else File(data)
    return nodes


def _walk(
    nodes: dict[int, File | Folder], number: int, prefix: str
) -> Iterator[tuple[str, bytes | None]]:
    for name, each in _folder(nodes, number).items():
        node = nodes[each]
        if isinstance(node, dict):
            yield prefix + name, None
            yield from _walk(nodes, each, f"{prefix}{name}/")
        else:
            yield prefix + name, bytes(node)


def read_tree(root: Path) -> dict[str, bytes | None]:
    """Returns what is in a folder, as ``Trace.state`` does."""
    paths = sorted(root.rglob("*"))
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in paths
    }


def write_tree(root: Path, content: Content) -> None:
    """Makes a new folder with that content."""
    root.mkdir()
    for name, data in sorted(content.items()):
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)
