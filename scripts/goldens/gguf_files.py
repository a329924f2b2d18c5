#!/usr/bin/env python3
"""GGUF files and what the gguf package, transformers and tokenizers make of them -> tests/golden/data/gguf/.

usage: gguf_files.py OUT_DIR TINY_DIR     TINY_DIR: tests/golden/data/model

blocks.safetensors   of every type T random blocks T.bytes [n, bytes of a block] and what gguf.quants makes of them, T.floats
llama3_rope*.gguf    TINY_DIR/llama_gqa_f16 with Llama 3.1's rope, and with one of another context
NAME.gguf            the tiny model TINY_DIR/NAME as llama.cpp's converter writes it, in its own type of weights
mixed.gguf           a Llama with a matrix of every type of blocks; mixed.safetensors: tokens, logits, keys and values as
                     transformers computes them with the dequantised weights
tokenizer_NAME.gguf  small vocabularies alone; tokenizer_NAME.json: texts and the ids that `tokenizers` gives
Needs torch, transformers, tokenizers, safetensors and gguf; their versions go into the metadata.
"""
import json
import pathlib
import sys

sys.path.pop(0)  # this folder holds a statistics.py, which is not the standard library's

import gguf
import numpy
import safetensors
import tokenizers
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VERSIONS = {m.__name__: m.__version__ for m in (torch, transformers, safetensors, tokenizers)} | {"gguf": "0.19.0"}
BLOCKS = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q4_K, Type.Q5_K, Type.Q6_K]
HALVES = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2],
          Type.Q6_K: [208]}  # where a block holds float16 numbers
MODULES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
           "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
           "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, module = name.split(".", 3)
    module, kind = module.rsplit(".", 1)
    return f"blk.{layer}.{MODULES[module]}.{kind}"


def permute(rows, heads):
    """convert_hf_to_gguf.py, LlamaModel.permute: the halves of each head interleaved."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def random_blocks(kind, n, random, scale=None):
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = random.integers(0, 256, (n, size), dtype=numpy.uint8)
    for at in HALVES[kind]:
        values = random.normal(0, 1, n) * (scale if scale else 10.0 ** random.uniform(-7, 3, n))
        blocks[:, at : at + 2] = values.astype(numpy.float16).view(numpy.uint8).reshape(n, 2)
    return blocks


def write_blocks(out):
    random = numpy.random.default_rng(1)
    tensors = {}
    for kind in BLOCKS:
        blocks = random_blocks(kind, 24, random)
        tensors[f"{kind.name}.bytes"] = torch.from_numpy(blocks)
        tensors[f"{kind.name}.floats"] = torch.from_numpy(gguf.quants.dequantize(blocks, kind).copy())
    halves = numpy.arange(0, 0x7C00, 7, dtype=numpy.uint16)
    halves = numpy.concatenate([halves, halves | 0x8000])
    tensors["F16.bytes"] = torch.from_numpy(halves.view(numpy.uint8).reshape(-1, 2))
    tensors["F16.floats"] = torch.from_numpy(halves.view(numpy.float16).astype(numpy.float32))
    brains = random.integers(0, 0x7F80, 500, dtype=numpy.uint16)
    tensors["BF16.bytes"] = torch.from_numpy(brains.view(numpy.uint8).reshape(-1, 2))
    tensors["BF16.floats"] = torch.from_numpy(gguf.quants.dequantize(brains.view(numpy.uint8).reshape(1, -1), Type.BF16).reshape(-1).copy())
    save_file(tensors, out / "blocks.safetensors", metadata=VERSIONS)


def write_config(writer, config):
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config.get("rope_parameters") or config
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    if config["model_type"] == "llama":
        writer.add_rope_dimension_count(head)
        writer.add_vocab_size(config["vocab_size"])
    if config.get("head_dim"):
        writer.add_key_length(head)
        writer.add_value_length(head)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama3_divisors(config):
    """What llama.cpp's converter stores of Llama 3's rope, from the frequencies that transformers computes."""
    plain = config["rope_theta"] ** -(torch.arange(0, config["head_dim"], 2, dtype=torch.float64) / config["head_dim"])
    scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](transformers.LlamaConfig(**config), "cpu")
    return (plain / scaled.double()).float().numpy()


LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def write_model(out, directory, name=None, **changes):
    config = json.loads((directory / "config.json").read_text()) | changes
    writer = gguf.GGUFWriter(out / f"{name or directory.name}.gguf", config["model_type"])
    write_config(writer, config)
    if config.get("rope_scaling"):
        writer.add_tensor("rope_freqs.weight", llama3_divisors(config))
    for name, tensor in sorted(load_file(directory / "model.safetensors").items()):
        values = tensor.numpy()
        if values.ndim == 1:
            values = values.astype(numpy.float32)
        for module, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if config["model_type"] == "llama" and module in name:
                values = permute(values, config[heads])
        writer.add_tensor(gguf_name(name), numpy.ascontiguousarray(values))
    finish(writer)


def write_mixed(out):
    """Blocks are drawn as they are, since gguf quantises no K types; the twin's weights are what they stand for."""
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=64, hidden_size=256, intermediate_size=256, num_hidden_layers=1,
                  num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
                  tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    kinds = {"model.embed_tokens.weight": Type.Q8_0, "self_attn.q_proj.weight": Type.Q4_K, "self_attn.k_proj.weight": Type.Q5_K,
             "self_attn.v_proj.weight": Type.Q6_K, "self_attn.o_proj.weight": Type.Q4_0, "mlp.gate_proj.weight": Type.Q4_1,
             "mlp.up_proj.weight": Type.Q5_0, "mlp.down_proj.weight": Type.Q5_1}
    typical = {Type.Q8_0: 70, Type.Q4_K: 8 * 30, Type.Q5_K: 16 * 30, Type.Q6_K: 20 * 70, Type.Q4_0: 5, Type.Q4_1: 8, Type.Q5_0: 10, Type.Q5_1: 16}
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**config), attn_implementation="eager").eval()
    writer = gguf.GGUFWriter(out / "mixed.gguf", "llama")
    write_config(writer, config)
    random = numpy.random.default_rng(2)
    with torch.no_grad():
        for name, p in model.named_parameters():
            kind = kinds.get(name.removeprefix("model.layers.0."))
            if kind is None:  # norms
                p.copy_(torch.from_numpy(1 + 0.2 * random.normal(size=p.shape)))
                writer.add_tensor(gguf_name(name), p.numpy())
                continue
            per_block, size = gguf.GGML_QUANT_SIZES[kind]
            wanted = 0.4 if "embed" in name else 1.5 / p.shape[1] ** 0.5
            blocks = random_blocks(kind, p.numel() // per_block, random, wanted / typical[kind]).reshape(p.shape[0], -1)
            values = gguf.quants.dequantize(blocks, kind)
            p.copy_(torch.from_numpy(values.copy()))
            for module, heads in (("q_proj", 8), ("k_proj", 2)):
                if module in name:  # rows move whole, and a row is whole blocks
                    blocks = numpy.ascontiguousarray(permute(blocks, heads))
            writer.add_tensor(gguf_name(name), blocks, raw_dtype=kind)
    finish(writer)
    tokens = torch.from_numpy(random.integers(0, 64, 40))
    with torch.no_grad():
        result = model(tokens[None], use_cache=True)
    layers = result.past_key_values.layers
    save_file({"tokens": tokens, "logits": result.logits[0].contiguous(), "keys": torch.stack([l.keys[0] for l in layers]).contiguous(),
               "values": torch.stack([l.values[0] for l in layers]).contiguous()}, out / "mixed.safetensors", metadata=VERSIONS)


TEXTS = ["", "Hello world", "  two  spaces\n\n and a line\tend  ", "I'll say: don't! 12345 +/- 6.7", "caf\u00e9 cafe\u0301 \u4f60\u597d \U0001f600\U0001f468\u200d\U0001f469",
         "<|im_start|>user\nWhat is 2+2?<|im_end|>\n", "a <|im_end|> b<tool_call>{}</tool_call>", "the cat sat on the mat, the dog too",
         "\u00a0odd\u3000spaces \r\n x"]
QWEN2 = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")
CORPUS = ["the cat sat on the mat and the dog ate the hat", "don't you'll we've said hello world 12345 678", "What is the answer to this question?",
          "over and over again it is said that they are there"] * 20


def byte_level_twin(pre):
    twin = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if pre == "smollm":
        twin.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        pattern = QWEN2 if pre == "qwen2" else LLAMA3
        twin.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), plain])
    if pre == "qwen2":
        twin.normalizer = normalizers.NFC()
        twin.post_processor = processors.ByteLevel(trim_offsets=False)
    twin.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>"]
    first = special if pre == "smollm" else []  # SmolLM2's special tokens stand first, the others' last
    twin.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=first))
    twin.add_special_tokens(special)
    twin.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False)])
    if pre == "llama-bpe":
        bos = ("<|begin_of_text|>", twin.token_to_id("<|begin_of_text|>"))
        twin.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
                                                   processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="$A $B", special_tokens=[bos])])
    return twin


def sentencepiece_twin(random):
    """Pieces and scores as SentencePiece has them; the merges by transformers' own rule."""
    space = "\u2581"
    letters = sorted(set("".join(TEXTS + CORPUS).replace(" ", space)) - set("\u4f60\U0001f600"))
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)] + [(f"<0x{b:02X}>", 0.0) for b in range(256)]
    words = {space + w[:n] for text in CORPUS for w in text.split() for n in range(1, len(w) + 1)} | {w[i:j] for text in CORPUS for w in text.split()
                                                                                           for i in range(len(w)) for j in range(i + 2, len(w) + 1)}
    words = sorted(w for w in words if len(w) > 1)
    pieces += [(w, -float(i)) for i, w in enumerate(random.permutation(words))] + [(c, -1e4 - i) for i, c in enumerate(letters)]
    vocab = {piece: i for i, (piece, _) in enumerate(pieces)}
    from transformers.convert_slow_tokenizer import generate_merges
    twin = Tokenizer(models.BPE(vocab, generate_merges(vocab, dict(pieces)), unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    twin.normalizer = normalizers.Sequence([normalizers.Prepend(space), normalizers.Replace(" ", space)])
    twin.decoder = decoders.Sequence([decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    twin.add_special_tokens(["<unk>", "<s>", "</s>"])
    twin.post_processor = processors.TemplateProcessing(single="<s> $A", pair="$A $B", special_tokens=[("<s>", 1)])
    return twin, [score for _, score in pieces]


def write_tokenizer(out, name, twin, scores=None):
    written = json.loads(twin.to_str())
    model = written["model"]
    added = {t["id"]: t for t in written["added_tokens"]}
    size = twin.get_vocab_size()
    tokens = [twin.id_to_token(i) for i in range(size)] + ["[PAD0]", "[PAD1]"]
    kinds = [(gguf.TokenType.CONTROL if added[i]["special"] else gguf.TokenType.USER_DEFINED) if i in added else
             gguf.TokenType.BYTE if scores and tokens[i].startswith("<0x") else gguf.TokenType.NORMAL for i in range(size)]
    kinds += [gguf.TokenType.UNUSED] * 2
    if scores:
        kinds[0] = gguf.TokenType.UNKNOWN
    writer = gguf.GGUFWriter(out / f"tokenizer_{name}.gguf", "llama")
    writer.add_tokenizer_model("llama" if scores else "gpt2")
    if not scores:
        writer.add_tokenizer_pre(name)
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    else:
        writer.add_token_scores(scores + [0.0, 0.0])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(twin.token_to_id("<s>" if scores else "<|begin_of_text|>"))
    writer.add_eos_token_id(twin.token_to_id("</s>" if scores else "<|im_end|>"))
    writer.add_chat_template("{{ messages }}")
    finish(writer)
    cases = []
    for text in TEXTS:
        e = twin.encode(text)
        cases.append({"text": text, "ids": e.ids, "offsets": e.offsets, "decoded": twin.decode(e.ids, skip_special_tokens=False)})
    (out / f"tokenizer_{name}.json").write_text(json.dumps({"versions": VERSIONS, "vocab_size": size, "cases": cases}, indent=1) + "\n")


def main():
    out, tiny = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    write_blocks(out)
    for name in ("qwen2_tied", "qwen3_head_dim", "llama_gqa_f16"):
        write_model(out, tiny / name)
    # Llama 3.1's rope over the same weights; and one whose context is not Llama 3.1's.
    for name, context in (("llama3_rope", 8192), ("llama3_rope_4096", 4096)):
        write_model(out, tiny / "llama_gqa_f16", name, rope_theta=500000.0,
                    rope_scaling=LLAMA3_ROPE | {"original_max_position_embeddings": context}, max_position_embeddings=131072)
    write_mixed(out)
    for pre in ("qwen2", "smollm", "llama-bpe"):
        write_tokenizer(out, pre, byte_level_twin(pre))
    write_tokenizer(out, "sentencepiece", *sentencepiece_twin(numpy.random.default_rng(3)))


main()
