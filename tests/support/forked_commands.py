"""The command line, started once: a script of forty commands need not import everything forty times.

`serve(path)` imports what commands need and forks a process for each that asks at the socket `path`: its arguments,
environment, folder and files are the asker's. `CLIENT` is who asks, as a program for `python -c`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CLIENT = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    asked = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(s, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    s.sendall(asked)
    answer = s.recv(1)
sys.exit(answer[0] if answer else 70)
"""


@contextlib.contextmanager
def serving(path: Path, environ: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", __name__, str(path)], env=environ, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def serve(path: str) -> None:
    import eth_account  # noqa: F401

    from fairmark import chain_status, feeds, governing, reporters  # noqa: F401
    from fairmark.cli import main

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + ".new")
    listener.listen(4)
    Path(path + ".new").rename(path)  # it is there once it listens
    while True:
        asker, _ = listener.accept()
        with asker:
            head, files, _, _ = socket.recv_fds(asker, 4, 3)
            asked = b""
            while len(asked) < int.from_bytes(head, "big"):
                asked += asker.recv(1 << 16)
            arguments, folder, environ = json.loads(asked)
            child = os.fork()
            if child == 0:
                for number, file in enumerate(files):
                    os.dup2(file, number)
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environ)
                sys.argv = ["fairmark", *arguments]
                code = 1
                try:
                    main()
                except SystemExit as ended:
                    code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            for file in files:
                os.close(file)
            _, status = os.waitpid(child, 0)
            asker.sendall(bytes([os.waitstatus_to_exitcode(status) & 0xFF]))


if __name__ == "__main__":
    serve(sys.argv[1])
