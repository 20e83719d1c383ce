"""llama.cpp's own server over one GGUF, until its input ends; prints where it listens.

    python tests/children/llama_server.py FILE.gguf

xllamacpp carries it; this runs in an environment that has that.
"""

from __future__ import annotations

import socket
import sys

import xllamacpp  # type: ignore[import-not-found]  # in no environment of farense's

# Its own choice of a port is 8080, which may be somebody's.
with socket.create_server(("127.0.0.1", 0)) as unused:
    port = unused.getsockname()[1]
settings = xllamacpp.CommonParams()
settings.model.path = sys.argv[1]
settings.n_ctx = 1024
settings.port = port  # of 127.0.0.1
server = xllamacpp.Server(settings)
print(server.listening_address, flush=True)
sys.stdin.read()
