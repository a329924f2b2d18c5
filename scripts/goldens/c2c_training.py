#!/usr/bin/env python3
"""Ten training steps and fused generations of Cache-to-Cache's own code on two frozen models.

usage: c2c_training.py C2C_SOURCE_TREE OUT_DIR [tiny|all_in_one|include_response|nano|real]        (torch, transformers 4.52.4 as that project pins)

tiny: random models of a few thousand weights, what tests/golden holds. all_in_one: the same with the older class as its all_in_one
recipe has it; include_response: with the response fused (no generations, no optimizer state). nano: the embedded pair with the recipe's projector. real:
random weights of Qwen3-0.6B fused with Qwen2.5-0.5B, the recipe's projector (needs 20 GB of memory and 13 GB of disk). Where nano or
real were written, KVLINGUA_C2C_TRAINING=OUT_DIR has `golden_trainers` follow them.

Writes OUT_DIR/{target,source} (Hugging Face directories), OUT_DIR/initial and OUT_DIR/trained (its checkpoint folders, its optimizer
state in trained/) and OUT_DIR/golden.json (batches, losses, learning rates, temperatures, generated ids). Dropout is off and every
uniform draw of the gates is 0.5, so that another implementation can follow. One defect of the tree is repaired in memory: its forward()
reads two locals that exist only when include_response is set.
"""
import importlib.machinery
import json
import pathlib
import sys
import types

import torch

tree, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
preset = sys.argv[3] if len(sys.argv) > 3 else "tiny"
out.mkdir(parents=True, exist_ok=True)
sys.path.insert(0, str(tree))
for name in ("wandb", "datasets"):
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.load_dataset = module.load_from_disk = None
    module.Dataset = object
    sys.modules.setdefault(name, module)

import transformers  # noqa: E402
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM, get_scheduler  # noqa: E402

wrapper_file = tree / "rosetta/model/wrapper.py"
text = wrapper_file.read_text()
for tail in ("[self.base_model_idx] = clone_kv_cache(base_output_kv_cache)", "[1] = clone_kv_cache(source_output_kv_cache)"):
    line = "self.kv_cache_dict[self.base_model_idx]" + tail
    assert text.count(line) == 1, "the tree differs from the one this script was written for"
    text = text.replace(line, "if self.include_response: " + line)
wrapper = types.ModuleType("rosetta.model.wrapper")
wrapper.__file__ = str(wrapper_file)
import rosetta.model  # noqa: E402

sys.modules["rosetta.model.wrapper"] = wrapper
exec(compile(text, str(wrapper_file), "exec"), wrapper.__dict__)
from rosetta.model.projector import AllInOneProjector, C2CProjector  # noqa: E402
from rosetta.train.dataset_adapters import RosettaDataCollator, generate_kv_cache_index  # noqa: E402
from rosetta.train.model_utils import last_aligned_sources  # noqa: E402
from rosetta.utils.registry import save_object  # noqa: E402

torch.manual_seed(5)
tiny = preset in ("tiny", "all_in_one", "include_response")
if tiny:
    torch.set_num_threads(1)


def random_pair(vocab, target, source, **options):
    common = dict(vocab_size=vocab, tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0, **options)
    return Qwen3ForCausalLM(Qwen3Config(**target, **common)).eval(), Qwen2ForCausalLM(Qwen2Config(**source, **common)).eval()


def shape(hidden, intermediate, layers, heads, kv_heads, **more):
    return dict(hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers, num_attention_heads=heads,
                num_key_value_heads=kv_heads, **more)


if tiny:
    target, source = random_pair(96, shape(32, 48, 3, 4, 2, head_dim=16), shape(24, 40, 2, 3, 1), max_position_embeddings=256,
                                 rope_theta=1e4, initializer_range=0.2)
elif preset == "real":
    target, source = random_pair(151936, shape(1024, 3072, 28, 16, 8, head_dim=128), shape(896, 4864, 24, 14, 2),
                                 max_position_embeddings=4096, rope_theta=1e6, initializer_range=0.05)
else:
    nano = pathlib.Path(__file__).resolve().parents[2] / "checkpoints" / "nano"
    target, source = (transformers.AutoModelForCausalLM.from_pretrained(nano / side, torch_dtype=torch.float32).eval()
                      for side in ("target", "source"))
    for model in (target, source):
        model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 0
VOCAB = target.config.vocab_size
target.save_pretrained(out / "target")
source.save_pretrained(out / "source")
for model in (target, source):
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def heads_of(model):
    """Heads and head size of its cache."""
    heads = model.config.num_key_value_heads
    return heads, model.model.layers[0].self_attn.k_proj.out_features // heads


steps, accumulation, batch_size = 10, 2, 3
common = dict(num_layers=3, dropout=0.0, initial_temperature=1.0, final_temperature=0.001, anneal_steps=8, dtype=torch.float32)
if preset == "all_in_one":
    recipe = json.loads((tree / "recipe/train_recipe/all_in_one.json").read_text())["model"]["projector"]
    assert recipe["type"] == "AllInOneProjector"
    kind, options = AllInOneProjector, recipe["params"] | common | dict(hidden_dim=20, weight_hidden_dim=12)
else:
    width = (20, 24) if tiny else (1024, 1024)
    kind, options = C2CProjector, dict(intermediate_dim=width[0], hidden_dim=width[1]) | common
layers, source_layers = target.config.num_hidden_layers, source.config.num_hidden_layers
(source_heads, source_dim), (target_heads, target_dim) = heads_of(source), heads_of(target)
projectors = []
for _ in range(layers):
    projectors.append(kind(source_dim=source_dim, target_dim=target_dim, source_num_heads=source_heads,
                           target_num_heads=target_heads, **options))
    for part in projectors[-1].modules():  # the older class has one that no option reaches
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
model = wrapper.RosettaModel(model_list=[target, source], base_model_idx=0, projector_list=projectors,
                             include_response=preset == "include_response", multi_source_fusion_mode="sequential")
for layer, sources in last_aligned_sources(layers, source_layers, 1).items():
    for s in sources:
        model.set_projector_config(source_model_idx=1, source_model_layer_idx=s, target_model_idx=0, target_model_layer_idx=layer,
                                   projector_idx=layer)


def save(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for i, p in enumerate(projectors):
        torch.save(p.state_dict(), folder / f"projector_{i}.pt")
        save_object(p, str(folder / f"projector_{i}.json"))
    model.save_projector_config(str(folder / "projector_config.json"))


save(out / "initial")


class Tokenizer:
    pad_token, pad_token_id, eos_token, eos_token_id = "<pad>", 0, "<eos>", 1


collate = RosettaDataCollator(slm_tokenizer=Tokenizer(), max_length=64)
draws = torch.Generator().manual_seed(9)
plain_rand = torch.rand
torch.rand = lambda *size, **options: torch.full(size[0] if isinstance(size[0], tuple) else size, 0.5, dtype=options.get("dtype"))


def sample():
    length = int(torch.randint(10, 20, (1,), generator=draws))
    prompt = int(torch.randint(4, length - 2, (1,), generator=draws))
    return torch.randint(2, VOCAB, (length,), generator=draws).tolist(), prompt


lr, total = 2e-3 if tiny else 1e-4, steps
gate, weight, rest = [], [], []
for name, parameter in model.named_parameters():
    if parameter.requires_grad:
        (gate if "gate" in name else weight if "key_weight" in name or "value_weight" in name else rest).append(parameter)
optimizer = torch.optim.AdamW([{"params": group, "lr": lr} for group in (gate, weight, rest)], weight_decay=0.01)
scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=2, num_training_steps=total)
record = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "learning_rate": lr, "weight_decay": 0.01,
          "warmup_steps": 2, "total_steps": total, "max_grad_norm": 1.0, "uniform": 0.5, "accumulation": accumulation, "steps": []}
model.train()
for step in range(steps):
    rates = scheduler.get_last_lr()
    entry = {"micro": [], "learning_rate": rates[0], "temperature": float(projectors[0].gate_temperature)}
    for _ in range(accumulation):
        # One prompt length in a batch: the tree takes the section pattern of the first sample for all.
        rows = [sample() for _ in range(batch_size)]
        prompt = min(p for _, p in rows)
        features = [{"input_ids": ids, "labels": [-100] * prompt + ids[prompt:], "kv_cache_index": generate_kv_cache_index(prompt, len(ids))}
                    for ids, _ in rows]
        batch = collate(features)
        loss = model.forward(kv_cache_index=batch["kv_cache_index"], input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                             position_ids=batch["position_ids"], labels=batch["labels"], use_cache=True).loss
        (loss / accumulation).backward()
        entry["micro"].append({"rows": [ids for ids, _ in rows], "prompt": prompt, "loss": loss.item()})
    entry["grad_norm"] = float(torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], max_norm=1.0))
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    for p in projectors:
        p.update_temperature(step + 1)
    record["steps"].append(entry)
torch.rand = plain_rand

with torch.no_grad():  # so that evaluation uses the projectors: the strict gate is closed at logit <= 0
    for i, p in enumerate(projectors):
        if kind is AllInOneProjector:
            p.gate_logit.fill_(0.5 if i != 1 else -0.5)
            continue
        p.key_gate_logit.fill_(0.5)
        p.value_gate_logit.fill_(0.5 if i != 1 else -0.5)
save(out / "trained")
if preset == "include_response":
    (out / "golden.json").write_text(json.dumps(record | {"include_response": True}) + "\n")
    sys.exit()
torch.save({"step": steps, "epoch": 0, "optimizer_state_dict": optimizer.state_dict(), "scheduler_state_dict": scheduler.state_dict(),
            "loss": record["steps"][-1]["micro"][-1]["loss"]}, out / "trained" / "training_state.pt")

model.eval()
record["generations"] = []
for _ in range(6):
    ids, _ = sample()
    n = len(ids)
    index = [torch.tensor([[[1, 0]] * (n - 1)]), torch.tensor([[[-1, 0]]])]
    with torch.no_grad():
        full = model.generate(kv_cache_index=index, input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, n),
                              position_ids=torch.arange(n).unsqueeze(0), max_new_tokens=12, do_sample=False, eos_token_id=1, pad_token_id=0)
        alone = target.generate(torch.tensor([ids]), attention_mask=torch.ones(1, n, dtype=torch.long), max_new_tokens=12, do_sample=False)
    record["generations"].append({"prompt": ids, "fused": full[0, n:].tolist(), "alone": alone[0, n:].tolist()})
(out / "golden.json").write_text(json.dumps(record) + "\n")
print("losses", [round(m["loss"], 5) for s in record["steps"] for m in s["micro"]])
print("fused differs from alone in", sum(g["fused"] != g["alone"] for g in record["generations"]), "of", len(record["generations"]))
