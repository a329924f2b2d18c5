"""Factors of torch.amp.GradScaler over a run in which some gradients are not finite. usage: loss_scale.py OUT.json  (torch 2.11.0)

Step by step: whether the gradient is finite, the gradient after unscaling and the factor of the next step, at the steps that are kept."""
import json
import sys

import torch

scaler = torch.amp.GradScaler(device="cpu")
weight = torch.nn.Parameter(torch.zeros(3))
optimizer = torch.optim.SGD([weight], lr=0.0)
broken = {0, 1, 5, 1200, 3300, 3301, 5400}
kept, skipped = [], 0
for step in range(5500):
    optimizer.zero_grad()
    loss = (weight * torch.tensor([0.3, -2.0, 1e-3])).sum()
    scaler.scale(loss).backward()
    if step in broken:
        weight.grad[1] = float("inf") if step % 2 else float("nan")
    scaler.unscale_(optimizer)
    gradient = weight.grad.tolist()
    scaler.step(optimizer)
    scaler.update()
    skipped += step in broken
    if step in broken or step - 1 in broken or step % 500 == 499 or scaler._get_growth_tracker() == 0:
        kept.append({"step": step, "gradient": None if step in broken else gradient, "factor": scaler.get_scale(),
                     "finite_steps": scaler._get_growth_tracker(), "skipped": skipped})
json.dump({"torch": torch.__version__, "steps": 5500, "broken": sorted(broken), "kept": kept}, open(sys.argv[1], "w"), indent=1)
