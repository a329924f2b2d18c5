#!/usr/bin/env python3
"""Makes tests/golden/data/c2c: .pt files as torch.save writes them, and hostile ones. usage: c2c.py OUT_DIR (needs torch)"""
import collections
import io
import os
import pathlib
import pickle
import sys
import zipfile

import torch

out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
g = torch.Generator().manual_seed(1)
state = collections.OrderedDict()
state["key_in.weight"] = torch.randn(3, 4, generator=g).to(torch.bfloat16)
state["key_in.bias"] = torch.arange(3, dtype=torch.float32) / 8
state["gate"] = torch.tensor(0.25, dtype=torch.float16)
state["strided"] = torch.arange(6, dtype=torch.float32).view(2, 3).t()
state["double"] = torch.tensor([1.5, -2.5], dtype=torch.float64)
torch.save(state, out / "state.pt")

# A module's state_dict carries _metadata (a BUILD opcode) and parameters.
linear = torch.nn.Linear(2, 2)
with torch.no_grad():
    linear.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    linear.bias.copy_(torch.tensor([5.0, 6.0]))
torch.save(linear.state_dict(), out / "module.pt")
torch.save({"parameter": linear.weight, "step": 7, "loss": 1.25, "betas": (0.9, 0.999), "none": None, "flags": [True, False],
            "big": 1 << 40, "negative": -3}, out / "mixed.pt")


class Evil:
    def __reduce__(self):
        return os.system, ("echo pwned > /tmp/kvlingua-pwned",)


torch.save({"x": Evil()}, out / "hostile_call.pt")


def rewrite(source, target, change, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as a, zipfile.ZipFile(target, "w", compression) as b:
        for name in a.namelist():
            data = change(name, a.read(name))
            if data is not None:
                b.writestr(zipfile.ZipInfo(name), data, compress_type=compression)


rewrite(out / "state.pt", out / "hostile_missing_storage.pt", lambda n, d: None if n.endswith("data/0") else d)
rewrite(out / "state.pt", out / "hostile_short_storage.pt", lambda n, d: d[:-2] if n.endswith("data/0") else d)
rewrite(out / "state.pt", out / "hostile_compressed.pt", lambda n, d: d, zipfile.ZIP_DEFLATED)
raw = (out / "state.pt").read_bytes()
(out / "hostile_truncated.pt").write_bytes(raw[: len(raw) // 2])
where = raw.find(b"ctorch._utils\n_rebuild_tensor_v2")
print("torch", torch.__version__, "pickle protocol", pickle.DEFAULT_PROTOCOL, "state.pt", len(raw), where)
(out / "VERSIONS").write_text(f"torch {torch.__version__}, python {sys.version.split()[0]}\n")
