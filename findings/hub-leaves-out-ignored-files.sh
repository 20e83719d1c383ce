#!/usr/bin/env bash
# huggingface_hub's create_commit succeeds although files were left out: those that a .gitignore in
# the repository names. It raises nothing and warns of nothing; the commit that it returns holds the
# other files, and a repository of a model that ignores *.safetensors gets none of its weights.
#
# The hub answers `shouldIgnore` for each file before the commit, and the library drops such files,
# with a line at a log level that nobody sees unless they ask for it. Here a server on this machine
# answers as the hub does, and shows what the commit held.
#
# Needs Python 3.10 to 3.13 and a package index. Ends with 0 as long as it is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "huggingface_hub==2.4.0"
cd "$folder"
export HF_HOME="$folder/hf" HF_HUB_DISABLE_XET=1 NO_PROXY=127.0.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import json
import logging
import os
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

committed = []


class Hub(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = {}
        if "preupload" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            answer["files"] = [
                {"path": p, "uploadMode": "regular", "shouldIgnore": p.endswith(".safetensors")}
                for p in paths
            ]
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            committed.extend(line["value"]["path"] for line in lines[1:])
            answer = {"commitUrl": self.path, "commitOid": "0" * 40}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


said = []


class Heard(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
from huggingface_hub import CommitOperationAdd, HfApi  # noqa: E402

logging.getLogger("huggingface_hub").addHandler(Heard())
print("huggingface_hub", importlib.metadata.version("huggingface_hub"))
names = ["config.json", "model.safetensors"]
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    info = HfApi(token="hf_x").create_commit(
        "maria/model",
        [CommitOperationAdd(name, b"{}") for name in names],
        commit_message="All of it",
    )
server.shutdown()
print("to be sent:", ", ".join(names))
print("in the commit:", ", ".join(committed))
print("raised: nothing; warnings:", len(warned), "; log lines seen:", len(said))
assert committed == ["config.json"], "this finding is out of date"
assert info.oid == "0" * 40 and not warned and not said, "this finding is out of date"
PYTHON
echo "It is still so."
