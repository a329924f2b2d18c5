#!/usr/bin/env python3
"""Golden data of the io layer: files as the reference libraries write them. Run in an environment with torch, safetensors and
tensorboard; writes tests/golden/data/io/."""
import hashlib
import importlib.metadata
import json
import pathlib
import tempfile

import torch
from safetensors.torch import save
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter

out = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/data/io"
out.mkdir(parents=True, exist_ok=True)
versions = {name: importlib.metadata.version(name) for name in ("torch", "safetensors", "tensorboard", "protobuf")}


def write_json(name, value):
    (out / name).write_text(json.dumps(value, indent=1) + "\n")


# ---- safetensors: every dtype torch can save, a scalar, tensors of no elements, odd sizes, names beyond ASCII, metadata ----
torch.manual_seed(0)
names = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool, "C64": torch.complex64,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}
tensors = {}
for name, dtype in names.items():
    source = torch.randn(3, 5) * 3
    if dtype == torch.bool:
        tensors[name] = source > 0
    elif dtype in (torch.uint8, torch.uint16, torch.uint32, torch.uint64):
        tensors[name] = (source.abs() * 20).to(torch.int64).to(dtype)
    elif dtype == torch.float8_e8m0fnu:
        tensors[name] = source.abs().to(dtype)
    else:
        tensors[name] = source.to(dtype)
tensors["scalar"] = torch.tensor(2.5)
tensors["empty"] = torch.zeros(0, dtype=torch.float32)
tensors["empty.3x0x2"] = torch.zeros(3, 0, 2, dtype=torch.int8)
tensors["wörter.\u4e2d.weight"] = torch.arange(7, dtype=torch.uint8)
tensors["quote\"back\\slash\ttab"] = torch.arange(2, dtype=torch.int16)


def described(contents):
    rows = {}
    for name, tensor in contents.items():
        raw = tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() and tensor.numel() else (
            tensor.numpy().tobytes() if tensor.numel() else b"")
        dtype = next(key for key, value in names.items() if value == tensor.dtype)
        rows[name] = {"dtype": dtype, "shape": list(tensor.shape), "sha256": hashlib.sha256(raw).hexdigest()}
    return rows


for file, metadata in (("all_dtypes", None), ("with_metadata", {"format": "pt \u00e9\n"})):
    contents = tensors if metadata is None else {"weight": tensors["BF16"]}
    (out / f"{file}.safetensors").write_bytes(save(contents, metadata=metadata))
    write_json(f"{file}.json", {"versions": versions, "metadata": metadata or {}, "tensors": described(contents)})

# ---- event files ----
events = [
    Event(wall_time=1700000000.25, file_version="brain.Event:2"),
    Event(wall_time=1700000000.25, step=300, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=1700000001.5, step=300, summary=Summary(value=[Summary.Value(tag="train/loss", simple_value=1.8421)])),
    Event(wall_time=1700000002.5, step=0, summary=Summary(value=[Summary.Value(tag="zero", simple_value=0.0)])),
    Event(wall_time=1700000003.5, step=2**33, summary=text_pb("recipe", "a *long* text\n" * 20)),
]
path = out / "events.bin"
with open(path, "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    writer.flush()

# The file means to TensorBoard what it should: a restart at step 300 drops what came at and after it.
with tempfile.TemporaryDirectory() as folder:
    with open(f"{folder}/events.out.tfevents.1600000000.first", "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())
        for step in (299, 300, 301):
            value = Summary.Value(tag="train/loss", simple_value=float(step))
            writer.write(Event(wall_time=1.0, step=step, summary=Summary(value=[value])).SerializeToString())
        writer.flush()
    (pathlib.Path(folder) / "events.out.tfevents.1700000000.kvlingua").write_bytes(path.read_bytes())
    accumulator = EventAccumulator(folder)
    accumulator.Reload()
    seen = [(e.step, round(e.value, 4)) for e in accumulator.Scalars("train/loss")]
    assert seen == [(299, 299.0), (300, 1.8421)], seen
    assert accumulator.Tensors("recipe")[0].tensor_proto.string_val[0].startswith(b"a *long* text\n")
write_json("events.json", {"versions": versions, "records": len(events)})
print("written", *sorted(p.name for p in out.iterdir()))
