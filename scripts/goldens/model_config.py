#!/usr/bin/env python3
"""Golden data of ModelConfig: what transformers makes of config.json files. Run in an environment with torch and transformers.

    scripts/goldens/model_config.py            writes tests/golden/data/model_config/cases.json
    scripts/goldens/model_config.py --written  checks that transformers reads tests/golden/data/model_config/written/*.json, which
                                               golden_model writes under KVLINGUA_UPDATE_GOLDENS=1, as it reads the originals
"""
import copy
import importlib.metadata
import json
import logging
import pathlib
import sys
import tempfile

import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

logging.disable(logging.WARNING)
out = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/data/model_config"
versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}

small = {"vocab_size": 101, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 4096}
llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **small}
qwen2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **small}
qwen3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **small, "head_dim": 32}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
cases = {
    "llama_bare": llama,
    "llama_no_kv_heads": without(llama, "num_key_value_heads"),
    "llama_null_kv_heads": {**llama, "num_key_value_heads": None},
    "llama_head_dim": {**llama, "head_dim": 24},
    "llama_biases_tied": {**llama, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "llama_no_positions_eps": {**without(llama, "max_position_embeddings"), "rms_norm_eps": 1e-5},
    "llama_null_ids": {**llama, "eos_token_id": None, "bos_token_id": None},
    "llama_linear_legacy": {**llama, "rope_theta": 5000.0, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "llama_llama3": {**llama, "rope_theta": 500000.0, "rope_scaling": {**llama3, "original_max_position_embeddings": 1024}},
    "llama_llama3_no_original": {**llama, "rope_parameters": {**llama3, "rope_theta": 500000.0}},
    "llama_yarn": {**llama, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}},
    "llama_yarn_mscale": {**llama, "rope_scaling": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 256,
                                                    "mscale": 1.0, "mscale_all_dim": 0.5, "beta_fast": 16, "beta_slow": 2}},
    "llama_yarn_attention_factor": {**llama, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.25,
                                                              "truncate": False, "original_max_position_embeddings": 1024}},
    "llama_yarn_top_level_original": {**llama, "original_max_position_embeddings": 2048,
                                      "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1024}},
    "llama_yarn_null_factor": {**llama, "rope_scaling": {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 1024}},
    "llama_yarn_zero_betas": {**llama, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 0, "beta_slow": 0, "mscale": 0,
                                                        "mscale_all_dim": 1.0, "original_max_position_embeddings": 1024}},
    "llama_theta_inside_wins": {**llama, "rope_theta": 123.0, "rope_parameters": {"rope_type": "default", "rope_theta": 456.0}},
    "llama_scaling_before_parameters": {**llama, "rope_scaling": {"rope_type": "linear", "factor": 3.0},
                                        "rope_parameters": {"rope_type": "default", "rope_theta": 456.0}},
    "llama_ignores_windows": {**llama, "sliding_window": 16, "use_sliding_window": True},
    "qwen2_bare": qwen2,
    "qwen2_head_dim": {**qwen2, "head_dim": 32, "rope_theta": 1000000.0, "tie_word_embeddings": True},
    "qwen2_ignores_bias_keys": {**qwen2, "attention_bias": False, "mlp_bias": True},
    "qwen2_no_kv_heads": {**without(qwen2, "num_key_value_heads"), "num_attention_heads": 64, "hidden_size": 256},
    "qwen2_null_kv_heads": {**qwen2, "num_key_value_heads": None},
    "qwen2_window_beyond_layers": {**qwen2, "use_sliding_window": True, "sliding_window": 128, "max_window_layers": 3},
    "qwen2_eos_list": {**qwen2, "eos_token_id": [5, 6], "bos_token_id": 7},
    "qwen3_bare": qwen3,
    "qwen3_no_head_dim": without(qwen3, "head_dim"),
    "qwen3_bias": {**qwen3, "attention_bias": True, "rope_theta": 1000000},
    "qwen3_yarn": {**qwen3, "rope_theta": 1000000, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}},
    "qwen3_layer_types": {**qwen3, "layer_types": ["full_attention"] * 3},
}


def understood(config_json):
    """The facts that decide a model, as transformers has them."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(config_json))
        config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    # Not through the model: on the meta device its inv_freq has no values.
    type_ = config.rope_parameters["rope_type"]
    if type_ == "default":
        dim = attention.head_dim
        inv_freq = 1.0 / (config.rope_parameters["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.int64).float() / dim))
        factor = 1.0
    else:
        # Qwen2's config class has no head_dim; the functions then derive it.
        inv_freq, factor = ROPE_INIT_FUNCTIONS[type_](config, "cpu")
    eos = config.eos_token_id
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "head_dim": attention.head_dim,
        "kv_heads": attention.k_proj.out_features // attention.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "tied": bool(config.tie_word_embeddings),
        "qkv_bias": attention.q_proj.bias is not None,
        "o_bias": attention.o_proj.bias is not None,
        "mlp_bias": mlp.gate_proj.bias is not None,
        "qk_norm": hasattr(attention, "q_norm"),
        "eos_ids": [] if eos is None else eos if isinstance(eos, list) else [eos],
        "bos_id": -1 if config.bos_token_id is None else config.bos_token_id,
        "rope_type": type_,
        "rope_theta": config.rope_parameters["rope_theta"],
        "attention_factor": factor,
        "inv_freq": inv_freq.tolist(),
    }


if "--written" in sys.argv:
    for name, config in cases.items():
        path = out / "written" / f"{name}.json"
        theirs, ours = understood(copy.deepcopy(config)), understood(json.loads(path.read_text()))
        assert theirs == ours, (name, {k: (theirs[k], ours[k]) for k in theirs if theirs[k] != ours[k]})
    print(f"transformers {versions['transformers']} reads all {len(cases)} written configs as the originals")
else:
    out.mkdir(parents=True, exist_ok=True)
    rows = {name: {"config": config, "understood": understood(copy.deepcopy(config))} for name, config in cases.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    (out / "cases.json").write_text(f'{{"versions": {json.dumps(versions)}, "cases": {{\n{lines}\n}}}}\n')
    print(len(rows), "cases")
