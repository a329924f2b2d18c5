#!/usr/bin/env python3
"""Aligned chats of Cache-to-Cache's own aligner, on the small tokenizers of tests/golden/data/text.

usage: c2c_alignment.py C2C_SOURCE_TREE OUT_FILE        (transformers 4.52.4 as that project pins)
"""
import importlib.util
import json
import pathlib
import sys

import transformers
from transformers import PreTrainedTokenizerFast

tree, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
spec = importlib.util.spec_from_file_location("aligner", tree / "rosetta/model/aligner.py")
aligner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(aligner)

data = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/data/text"
TEMPLATES = {"qwen": "qwen3", "smollm2": "smollm2"}
CHATS = [
    [("user", "What is the capital of France?"), ("assistant", "The capital of France is Paris.")],
    [("system", "Be brief."), ("user", "Tokenization differs, naïvely: 12345 <b>x</b>"), ("assistant", "Yes — 67890 wörter.")],
    [("user", "Hello"), ("assistant", "Hello"), ("user", "Hello hello\n\n  Hello"), ("assistant", "Good-bye \U0001f600 now")],
]


def tokenizer(name):
    t = PreTrainedTokenizerFast(tokenizer_file=str(data / name / "tokenizer.json"), eos_token="<|im_end|>", pad_token="<|endoftext|>")
    t.chat_template = (data / "chat_templates" / f"{TEMPLATES[name]}.jinja").read_text()
    return t


cases = []
for target, source in [("qwen", "smollm2"), ("smollm2", "qwen")]:
    for strategy in ("first", "longest"):
        a = aligner.TokenAligner(tokenizer(target), tokenizer(source), strategy=strategy)
        for chat in CHATS:
            messages = [{"role": role, "content": content} for role, content in chat]
            r = a.align_chat_messages(messages, add_generation_prompt=False, enable_thinking=False)
            cases.append({"target": target, "source": source, "strategy": strategy, "messages": messages,
                          "target_ids": r["slm_ids_padded"], "source_ids": r["llm_ids_padded"],
                          "message": [int(x) for x in r["message_mask"]],
                          "target_padding": [int(x) for x in r["slm_padding_mask"]],
                          "source_padding": [int(x) for x in r["llm_padding_mask"]]})
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(json.dumps({"versions": {"transformers": transformers.__version__}, "cases": cases}, ensure_ascii=False) + "\n")
print(len(cases), "cases")
