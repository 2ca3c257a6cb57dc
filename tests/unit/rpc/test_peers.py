"""Who is at the other end of a socket is the kernel's word."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from edged.rpc.peers import Peer, connected, which

CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as end:
    end.connect(sys.argv[1])
    print("there", flush=True)
    sys.stdin.read()
"""


def test_a_process_is_told_from_others_only_if_it_is_one_of_them(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as own:
        listening.bind(str(path))
        listening.listen()
        assert connected(path) == set()
        own.connect(str(path))
        ours = listening.accept()[0]
        us = Peer(os.getpid(), os.getuid())
        assert connected(path) == {us}
        assert which(path, None) == us, "there is no other"
        command = [sys.executable, "-c", CONNECT, str(path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with ours, subprocess.Popen(command, text=True, **pipes) as other:  # type: ignore[call-overload]
            assert other.stdout.readline() == "there\n"
            with listening.accept()[0]:
                them = Peer(other.pid, os.getuid())
                assert connected(path) == {us, them}
                assert which(path, str(other.pid)) == them
                assert which(path, str(us.pid)) == us
                for lie in (None, "1", "0", "-5", "x", "9" * 30):
                    assert which(path, lie) is None, lie
                other.stdin.close()
    assert connected(path) == set()
