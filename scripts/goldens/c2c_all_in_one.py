#!/usr/bin/env python3
"""AllInOneProjector of Cache-to-Cache's own code under several options: parameters, a small input and what comes out.

usage: c2c_all_in_one.py C2C_SOURCE_TREE OUT.json        (torch, transformers 4.52.4 as that project pins)

Makes tests/golden/data/c2c/all_in_one/options.json. Of each case: evaluation with an open gate, and training with dropout off and
every uniform draw 0.5 (outputs, and gradients of the sum of squares). Numbers are float32, row by row.
"""
import json
import sys

import torch

tree, out = sys.argv[1:3]
sys.path.insert(0, tree)
from rosetta.model.projector import AllInOneProjector  # noqa: E402

CASES = {
    "defaults": {},
    "recipe": dict(num_layers=3, use_swiglu=True, use_concat=True, weight_granularity="head_merged", weight_depends_on_input=True,
                   weight_input_features="target_projected_key", preserve_target_weight=False, scalar_temperature=1.0),
    "one_layer": dict(num_layers=1, weight_init_value=0.3, scalar_temperature=0.5),
    "relu": dict(activation="relu", use_layer_norm=False, use_residual=False, weight_granularity="head_merged", weight_depends_on_input=True,
                 weight_input_features="target_projected_both", scalar_temperature=0.7),
    "silu": dict(activation="silu", num_layers=3, use_concat=True, weight_granularity="head_merged", weight_depends_on_input=True,
                 weight_input_features="both", add_self=False, scalar_temperature=2.0),
    "value": dict(weight_granularity="head_merged", weight_depends_on_input=True, weight_input_features="target_projected_value",
                  use_gumbel=False, scalar_temperature=1.5),
}
torch.manual_seed(3)
torch.rand = lambda *size, **options: torch.full(size[0], 0.5, dtype=options.get("dtype"))
record = {"torch": torch.__version__, "cases": {}}
for name, options in CASES.items():
    source_heads = 2 if name in ("defaults", "one_layer") else 1  # there the widths agree, and the network adds its input
    given = dict(source_dim=3, target_dim=3, source_num_heads=source_heads, target_num_heads=2, hidden_dim=5, weight_hidden_dim=4,
                 dropout=0.0) | options
    projector = AllInOneProjector(**given)
    for part in projector.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    with torch.no_grad():
        projector.gate_logit.fill_(0.4)
        for parameter in projector.parameters():  # norms and weights that are not all ones and zeros
            if parameter is not projector.gate_logit:
                parameter.add_(0.1 * torch.randn_like(parameter))
    source = [torch.randn(2, source_heads, 3, 3) for _ in range(2)]
    target = [torch.randn(2, 2, 3, 3) for _ in range(2)]
    case = {"init_args": given, "source": [x.flatten().tolist() for x in source], "target": [x.flatten().tolist() for x in target],
            "state": {k: [list(v.shape), v.flatten().tolist()] for k, v in projector.state_dict().items()}}
    projector.eval()
    with torch.no_grad():
        case["evaluation"] = [x.flatten().tolist() for x in projector(tuple(source), tuple(target))]
    projector.train()
    projector.update_temperature(500)
    case["temperature"] = float(projector.gate_temperature)
    trained = projector(tuple(source), tuple(target))
    sum(x.square().sum() for x in trained).backward()
    case["training"] = [x.flatten().tolist() for x in trained]
    case["gradients"] = {k: p.grad.flatten().tolist() for k, p in projector.named_parameters() if p.grad is not None}
    record["cases"][name] = case


def short(x):
    return round(x, 7) if isinstance(x, float) else {k: short(v) for k, v in x.items()} if isinstance(x, dict) else \
        [short(v) for v in x] if isinstance(x, list) else x


with open(out, "w") as file:
    json.dump(short(record), file, separators=(",", ":"))
