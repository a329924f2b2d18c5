#!/usr/bin/env python3
"""What transformers makes of tokenizer_config.json and its companions: tests/golden/data/text/tokenizer_config.json.

usage: tokenizer_config.py OUT    needs transformers (5.23.0) and tokenizers; reads the embedded pair's tokenizer
"""
import importlib.metadata
import json
import pathlib
import shutil
import sys
import tempfile

from transformers import AutoTokenizer

nano = pathlib.Path(__file__).resolve().parents[2] / "checkpoints/nano/source"
base = json.loads((nano / "tokenizer_config.json").read_text())
base.pop("chat_template", None)
known = base["added_tokens_decoder"]
last = max(int(i) for i in known)
TEXTS = ["hello there", " a <|im_start|>b<|im_end|> c", "x <new> y<new>z", "the  <|extra|>  end", "<img>one<img>", "and the <|endoftext|>", "don't", ""]


def token(content, **rules):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True, **rules}


def config(drop=(), **changes):
    made = {k: v for k, v in base.items() if k not in drop}
    made.update(changes)
    return made


FAST = "PreTrainedTokenizerFast"
CASES = {
    "as it is": (config(), {}),
    "as it is, plain class": (config(tokenizer_class=FAST), {}),
    "a new token in added_tokens_decoder": (config(tokenizer_class=FAST, added_tokens_decoder={**known, str(last + 1): token("<new>")}), {}),
    "a new word in added_tokens_decoder": (config(added_tokens_decoder={**known, str(last + 1): token("<new>", special=False, normalized=True)}), {}),
    "other rules in added_tokens_decoder": (config(tokenizer_class=FAST, added_tokens_decoder={**known, "796": token("<|im_start|>", lstrip=True, rstrip=True)}), {}),
    "additional_special_tokens": (config(tokenizer_class=FAST, additional_special_tokens=["<|extra|>", "<new>"]), {}),
    "extra_special_tokens": (config(tokenizer_class=FAST, extra_special_tokens=["<new>", "<|extra|>"]), {}),
    "extra_special_tokens by name": (config(tokenizer_class=FAST, extra_special_tokens={"image_token": "<img>"}), {}),
    "a token of its own": (config(tokenizer_class=FAST, image_token="<img>"), {}),
    "an end that is a word": (config(tokenizer_class=FAST, eos_token="the"), {}),
    "an end that is new": (config(tokenizer_class=FAST, eos_token="<new>"), {}),
    "split_special_tokens": (config(tokenizer_class=FAST, split_special_tokens=True), {}),
    "add_prefix_space": (config(add_prefix_space=True, tokenizer_class="Qwen2Tokenizer"), {}),
    "add_prefix_space, plain class": (config(add_prefix_space=True, tokenizer_class=FAST), {}),
    "add_bos_token": (config(tokenizer_class=FAST, add_bos_token=True, bos_token="<|endoftext|>"), {}),
    "add_bos_token without one": (config(tokenizer_class=FAST, add_bos_token=True, bos_token=None), {}),
    "add_eos_token": (config(tokenizer_class=FAST, add_eos_token=True, eos_token="<|im_end|>"), {}),
    "older files": (config(drop=("added_tokens_decoder", "additional_special_tokens", "eos_token"), tokenizer_class=FAST),
                    {"special_tokens_map.json": {"eos_token": "<|im_end|>", "additional_special_tokens": ["<new>"]}, "added_tokens.json": {"<|extra|>": last + 1}}),
}
rows = []
for name, (made, files) in CASES.items():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        shutil.copy(nano / "tokenizer.json", folder)
        shutil.copy(nano / "config.json", folder)
        (folder / "tokenizer_config.json").write_text(json.dumps(made))
        for file, content in files.items():
            (folder / file).write_text(json.dumps(content))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        row = {"name": name, "config": made, "files": files, "eos": tokenizer.eos_token_id, "class": type(tokenizer).__name__,
               "ids": [tokenizer(t)["input_ids"] for t in TEXTS], "plain": [tokenizer(t, add_special_tokens=False)["input_ids"] for t in TEXTS]}
        rows.append(row)
with tempfile.TemporaryDirectory() as folder:  # saved after a call that cut and padded
    tokenizer = AutoTokenizer.from_pretrained(nano)
    tokenizer(["a b c d e f g h", "x"], truncation=True, max_length=4, padding=True)
    tokenizer.save_pretrained(folder)
    saved = json.loads((pathlib.Path(folder) / "tokenizer.json").read_text())
    again = AutoTokenizer.from_pretrained(folder)
    cut = {"truncation": saved["truncation"], "padding": saved["padding"], "ids": [again(t)["input_ids"] for t in TEXTS]}
versions = {name: importlib.metadata.version(name) for name in ("transformers", "tokenizers")}
pathlib.Path(sys.argv[1]).write_text(json.dumps({"versions": versions, "texts": TEXTS, "rows": rows, "saved after a call": cut}, ensure_ascii=False) + "\n")
