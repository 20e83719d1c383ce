#!/usr/bin/env bash
# TensorBoard: a curve whose values are doubles is in the file, and missing from the page.
#
# Software: tensorboard 2.21.0 with tensorboard-data-server 0.7.2, Python 3.11.
# Input: an event file with two curves of the same values, one with DT_FLOAT tensors, one with
#   DT_DOUBLE, both as the scalars plugin describes them.
# Seen: the server that TensorBoard starts by itself lists the curve of doubles among no scalars and has
#   no points of it. With --load_fast=false both are there, the doubles with all their digits; so they
#   are for TensorBoard's reader in Python. Nothing is logged in either case.
# Expected: the same curves from both servers.
# So: who writes doubles to keep what was measured sees curves in tests, by the Python reader, and
#   none on the page. Values have to be rounded to 32 bits.
# Fails once that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorboard==2.21.0 tensorboard-data-server==0.7.2
"$folder/venv/bin/python" - "$folder/logs" <<'PYTHON'
import pathlib
import sys

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

about = summary_pb2.SummaryMetadata(
    plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="scalars"),
    data_class=summary_pb2.DATA_CLASS_SCALAR,
)
shape = tensor_shape_pb2.TensorShapeProto()
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
with (folder / "events.out.tfevents.1").open("wb") as file:
    records = RecordWriter(file)
    records.write(event_pb2.Event(file_version="brain.Event:2").SerializeToString())
    for step in range(3):
        tensors = {
            "floats": tensor_pb2.TensorProto(
                dtype=types_pb2.DT_FLOAT, tensor_shape=shape, float_val=[step / 3]
            ),
            "doubles": tensor_pb2.TensorProto(
                dtype=types_pb2.DT_DOUBLE, tensor_shape=shape, double_val=[step / 3]
            ),
        }
        values = [
            summary_pb2.Summary.Value(tag=tag, metadata=about, tensor=tensor)
            for tag, tensor in tensors.items()
        ]
        event = event_pb2.Event(
            wall_time=1.0 + step, step=step, summary=summary_pb2.Summary(value=values)
        )
        records.write(event.SerializeToString())
PYTHON
points() { # of a curve, at the server's port
  "$folder/venv/bin/python" - "$1" "$2" <<'PYTHON'
import json
import sys
import time
import urllib.request

port, tag = sys.argv[1:]
there = f"http://127.0.0.1:{port}/data/plugin/scalars"
for _ in range(120):
    time.sleep(0.5)
    try:
        with urllib.request.urlopen(f"{there}/tags") as answer:
            loaded = "floats" in json.load(answer).get(".", {})
        if loaded:
            break
    except OSError:
        pass
with urllib.request.urlopen(f"{there}/scalars?run=.&tag={tag}") as answer:
    print(len(json.load(answer)))
PYTHON
}
found=
for fast in auto false; do
  port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$folder/venv/bin/tensorboard" --logdir "$folder/logs" --host 127.0.0.1 --port "$port" \
    --load_fast "$fast" >"$folder/said" 2>&1 &
  server=$!
  one="$(points "$port" floats) $(points "$port" doubles)"
  echo "--load_fast=$fast: points of the curve of floats and of that of doubles: $one"
  found="$found$one;"
  kill "$server"
  wait "$server" || true
  server=
done
test "$found" = "3 0;3 3;"
