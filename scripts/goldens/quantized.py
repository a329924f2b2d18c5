#!/usr/bin/env python3
"""What bitsandbytes makes of numbers and of a tiny model -> tests/golden/data/quantized/.

usage: quantized.py OUT_DIR [MODEL_DIR]     MODEL_DIR: tests/golden/data/model/qwen2_untied_sharded_bf16

nf4.safetensors, for each case c of random, outlier, constant, ties, bf16 and f16:
  c.values; c.codes and c.absmax as quantize_4bit makes them; c.float32, c.bfloat16, c.float16: dequantised by the plain C functions of
  libbitsandbytes_cpu;
  c.nested.absmax, .nested_absmax, .nested_map, .offset and c.nested.float32: the same with double quantisation
MODEL_nf4/ and MODEL_nf4_double/: the model's directory with its projections as bitsandbytes serialises them.
Needs torch, bitsandbytes and safetensors; their versions go into the metadata. The CPU library is enough.
"""
import ctypes as ct
import json
import pathlib
import shutil
import sys

sys.path.pop(0)  # this folder holds a statistics.py, which is not the standard library's

import bitsandbytes
import bitsandbytes.functional as F
import safetensors
import torch
from safetensors.torch import load_file, save_file

VERSIONS = {"torch": torch.__version__, "bitsandbytes": bitsandbytes.__version__, "safetensors": safetensors.__version__}
LIB = ct.CDLL(str(pathlib.Path(bitsandbytes.__file__).parent / "libbitsandbytes_cpu.so"))
NF4 = F.get_4bit_type("nf4", device="cpu")
KINDS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def pointer(t):
    return ct.c_void_p(t.data_ptr())


def quantize(values, code, block):
    """cquantize_blockwise: codes of any table of up to 256 ascending values."""
    table = torch.cat([code, torch.full((256 - len(code),), code[-1].item())]).contiguous()
    n = values.numel()
    codes, absmax = torch.empty(n, dtype=torch.uint8), torch.empty(-(-n // block))
    getattr(LIB, f"cquantize_blockwise_cpu_{KINDS[values.dtype]}")(pointer(table), pointer(values), pointer(absmax), pointer(codes),
                                                                  ct.c_longlong(block), ct.c_longlong(n))
    return codes.clamp(max=len(code) - 1), absmax


def dequantize(codes, absmax, n, dtype):
    out = torch.empty(n, dtype=dtype)
    getattr(LIB, f"cdequantize_blockwise_cpu_nf4_{KINDS[dtype]}")(pointer(codes), pointer(absmax), pointer(out), ct.c_longlong(64),
                                                                 ct.c_longlong(n // 64), ct.c_longlong(64))
    return out


def cases():
    g = torch.Generator().manual_seed(1)
    random = torch.randn(64 * 600, generator=g) * 0.03
    outlier = random[: 64 * 40].clone()
    outlier[torch.arange(0, len(outlier), 97)] *= 300
    constant = torch.cat([torch.full((64,), v) for v in (0.0, 1.0, -0.25, 3e-5, -7e4, 0.0, 1e-30)])
    middle = (NF4[:-1] + NF4[1:]) / 2
    ties = torch.cat([torch.cat([torch.ones(1), middle, torch.nextafter(middle, torch.ones(15)), torch.nextafter(middle, -torch.ones(15)), NF4,
                                 torch.zeros(2)])] * 4) * torch.tensor([1.0, 0.5, 2.0, 0.125]).repeat_interleave(64)
    return {"random": random, "outlier": outlier, "constant": constant, "ties": ties, "bf16": random[: 64 * 40].bfloat16(),
            "f16": random[: 64 * 40].half()}


def numbers(out):
    tensors = {}
    for name, values in cases().items():
        theirs, state = F.quantize_4bit(values, quant_type="nf4", compress_statistics=False)
        packed, absmax = theirs.flatten(), state.absmax
        # The C function of any table rounds a scaled value to 2^-15 first: a few codes near a middle differ, the scales do not.
        by_table, by_table_absmax = quantize(values, NF4, 64)
        assert torch.equal(by_table_absmax, absmax), name
        other = (((by_table[::2] << 4) | by_table[1::2]) != packed).float().mean().item()
        assert other < 1e-3 or name in ("constant", "ties"), (name, other)
        for dtype in KINDS:
            tensors[f"{name}.{str(dtype)[6:]}"] = dequantize(packed, absmax, values.numel(), dtype)
        again = F.dequantize_4bit(theirs, state).float().flatten()
        assert torch.equal(again, tensors[f"{name}.{str(values.dtype)[6:]}"].float()), name
        theirs, state = F.quantize_4bit(values, quant_type="nf4", compress_statistics=True)
        nested, scale = quantize((absmax - absmax.mean()).contiguous(), F.create_dynamic_map(), 256)
        assert torch.equal(nested, state.absmax) and torch.equal(scale, state.state2.absmax), name
        tensors |= {f"{name}.values": values, f"{name}.codes": theirs.flatten(), f"{name}.absmax": absmax,
                    f"{name}.nested.absmax": nested, f"{name}.nested.nested_absmax": scale, f"{name}.nested.nested_map": state.state2.code.clone(),
                    f"{name}.nested.offset": state.offset.reshape(1).clone(),
                    f"{name}.nested.float32": F.dequantize_4bit(theirs, state).float().flatten(),
                    f"{name}.nested.scales": F.dequantize_blockwise(state.absmax, state.state2) + state.offset}
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "nf4.safetensors", metadata=VERSIONS)


def directory(source, out, double):
    """As transformers saves a model loaded with BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    tensors = {}
    for file in sorted(source.glob("model*.safetensors")):
        for name, t in load_file(file).items():
            if not name.endswith("_proj.weight"):
                tensors[name] = t
                continue
            codes, state = F.quantize_4bit(t, quant_type="nf4", compress_statistics=double)
            tensors[name] = codes
            for key, value in state.as_dict(packed=True).items():
                tensors[f"{name}.{key}"] = value
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "model.safetensors", metadata=VERSIONS | {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4",
                                     "bnb_4bit_use_double_quant": double, "bnb_4bit_compute_dtype": "bfloat16", "llm_int8_skip_modules": None}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
numbers(out)
if len(sys.argv) > 2:
    model = pathlib.Path(sys.argv[2])
    directory(model, out / f"{model.name}_nf4", False)
    directory(model, out / f"{model.name}_nf4_double", True)
