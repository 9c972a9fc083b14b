#!/usr/bin/env python3
"""A worker in plain Python: create a session, push a dense and a sparse gradient, read the variables.

Nothing but the standard library, so that it shows what any language needs: HTTP, JSON, and safetensors, which is
eight bytes of header length, a JSON header, and the numbers. Run it against a server: python3 quickstart.py [URL]
"""

import json
import struct
import sys
import urllib.request

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
SESSION = URL + "/v1/sessions/quickstart"
SAFETENSORS = "application/vnd.safetensors"
FORMATS = {"F32": "f", "I32": "i", "I64": "q"}  # dtype to the letter that struct calls it by


def encode(tensors):
    """{name: (dtype, shape, flat values)} to the bytes of a safetensors file."""
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        begin = len(data)
        data += struct.pack(f"<{len(values)}{FORMATS[dtype]}", *values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # aligns the data
    return struct.pack("<Q", len(text)) + text + data


def decode(file):
    """The bytes of a safetensors file to ({name: flat values}, metadata)."""
    start = 8 + struct.unpack_from("<Q", file)[0]
    header = json.loads(file[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        letter = FORMATS[entry["dtype"]]
        count = (end - begin) // struct.calcsize("<" + letter)
        tensors[name] = struct.unpack_from(f"<{count}{letter}", file, start + begin)
    return tensors, metadata


def request(method, path, body=None, content_type=SAFETENSORS):
    headers = {"Accept": SAFETENSORS}
    if body is not None:
        headers["Content-Type"] = content_type
    with urllib.request.urlopen(urllib.request.Request(SESSION + path, body, headers, method=method)) as response:
        return response.read()


def show(what, file):
    tensors, metadata = decode(file)
    print(f"{what} (iterations {metadata['iterations']})")
    for name, values in tensors.items():
        print(f"  {name}: {[round(value, 4) for value in values]}")


definition = {
    "optimizer": {"class_name": "Adamax", "config": {"learning_rate": 0.1}},
    "variables": {
        "kernel": {"shape": [2, 2], "initializer": {"class_name": "Ones"}},
        "embedding": {"shape": [1000, 2]},
    },
}
request("PUT", "", json.dumps(definition).encode(), "application/json")
try:
    # Dense: one tensor named as the variable. The first Adamax step moves each value by the learning rate.
    dense = {"kernel": ("F32", [2, 2], [0.5, -0.5, 2.0, 0.0])}
    show("pushed a dense gradient; the reply", request("POST", "/gradients?worker=python", encode(dense)))

    # Sparse: row numbers and rows. Row 7 is named twice, so its gradients are summed; other rows do not change.
    sparse = {
        "embedding:indices": ("I64", [3], [7, 42, 7]),
        "embedding:values": ("F32", [3, 2], [1.0, -1.0, 0.5, 0.5, 1.0, -1.0]),
    }
    show("pushed a sparse gradient; the reply", request("POST", "/gradients?worker=python", encode(sparse)))

    show("read one variable", request("GET", "/variables?name=kernel"))
    rows = {"embedding:indices": ("I64", [3], [7, 8, 42])}
    show("looked up three rows", request("POST", "/lookup", encode(rows)))
finally:
    request("DELETE", "")
