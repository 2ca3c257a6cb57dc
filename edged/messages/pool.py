"""Message classes from ``descriptors.bin``, in a descriptor pool of their own.

Invariants:
- Nothing is registered in protobuf's default pool, so ``tensorflow`` and ``tensorflow-serving-api``
  may be imported before or after: they register messages of the same names there.
- ``descriptors.bin`` is made from ``protos/`` by ``protos/generate``.

The module does not know what any message is for.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import cast

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

DESCRIPTORS = Path(__file__).with_name("descriptors.bin")


def load(path: Path = DESCRIPTORS) -> DescriptorPool:
    """Returns a new pool with every file of the descriptor set at ``path``."""
    pool = DescriptorPool()
    # The set lists imports before the files that need them.
    for file in FileDescriptorSet.FromString(path.read_bytes()).file:
        pool.Add(file)
    return pool


def message(pool: DescriptorPool, name: str) -> type[Message]:
    """Returns the class of the message with this full name."""
    return GetMessageClass(pool.FindMessageTypeByName(name))


def enumeration(pool: DescriptorPool, name: str) -> type[enum.IntEnum]:
    """Returns the enumeration with this full name as a Python one."""
    descriptor = pool.FindEnumTypeByName(name)
    members = [(value.name, value.number) for value in descriptor.values]
    # Checkers read the functional form with a computed name as a look-up of one member.
    return cast("type[enum.IntEnum]", enum.IntEnum(descriptor.name, members, module=__package__))
