#!/usr/bin/env python3
"""Makes the goldens of the text layer: tests/golden/data/text/. Needs `tokenizers`, `transformers` and `jinja2`.

usage: text.py [--chat] [--real DIR]     (DIR: a folder with smollm2-135m-instruct, refreshes smollm2_real.json)

Small tokenizers are trained in the style of four families (the layout of their tokenizer.json, with its exact regular expressions),
then every string is encoded and decoded with `tokenizers`, and message lists are rendered by transformers from the families'
own Jinja templates (chat_templates/, see its README).
"""
import argparse
import json
import pathlib
import random
import unicodedata

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/data/text"
VERSIONS = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__,
            "unicodedata": unicodedata.unidata_version}

QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
              r"|\s+(?!\S)|\s+")
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
                r"|\s+(?!\S)|\s+")

PROSE = """The quick brown fox jumps over the lazy dog. It wasn't the first time, and it won't be the last; they've said so.
When two systems communicate they exchange what they know, and each of them keeps a cache of keys and values.
She sells sea shells by the sea shore, he'll say, but I'd rather not; we're here and you're there.
In 1969 people walked on the moon, 384400 kilometres away, with 4 kilobytes of memory and 72 of code.
The capital of France is Paris, the capital of Italy is Rome, the capital of Japan is Tokyo.
My name is Lyra and I live in a small town near the river, where my grandmother kept bees and wrote letters.
Energy can be neither created nor destroyed; it can only be changed from one form to another.
    for (int i = 0; i < n; ++i) { sum += values[i] * weights[i]; }
    def encode(self, text: str) -> list[int]: return [self.vocab[t] for t in self.split(text)]
"""

WORDS = ("the of and a to in is you that it he was for on are as with his they I at be this have from or one had by word but "
         "not what all were we when your can said there use an each which she do how their if will up other about out many "
         "then them these so some her would make like him into time has look two more write go see number no way could").split()


def fixed_strings():
    s = ["", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\t\t x", " \n ", "  \n\n  a", "a  b   c    d", "end ", "end  ",
         "end\n", " start", "   start", "\u00a0nbsp\u00a0", "em\u2003space", "ideographic\u3000space", "zero\u200bwidth",
         "line\u2028sep\u2029para", "nel\u0085x", "ogham\u1680x", "mvs\u180ex", "vt\x0bff\x0cx", "bom\ufeffx", "\ufeff"]
    s += ["Hello", "Hello world", "hello, world!", "The capital of France is", "My name is Lyra and I live in a small town.",
          "don't", "Don'T", "I'LL", "we've we're I'm he'd it's", "o'clock 'tis rock'n'roll", "'s't're", "it\u2019s", "'\u017f",
          "can''t", "x's y'S", "'''", "''re", "'RE'VE", "\u212Aelvin"]
    s += ["0", "12", "123", "1234", "1234567890", "3.14159", "1,000,000", "2024-07-26", "0x1F", "v1.2.3", "a1b2c3", "½ ¾ ⅓",
          "\u0661\u0662\u0663", "\u0967\u0968\u0969", "Ⅳ Ⅻ", "①②③", "x²+y³", "10%", "$5.00", "５６７", "1st 2nd 3rd", "𝟏𝟐𝟑"]
    s += ["def f(x):\n    return x + 1\n", "int main() { return 0; }", "for (auto& x : v) {\n\tx *= 2;\n}", "a->b::c<d>",
          "#include <vector>\n#include \"x.h\"", "SELECT * FROM t WHERE a = 'b';", "<html><body class=\"x\">&amp;</body></html>",
          "{\"key\": [1, 2, {\"n\": null}]}", "if x != y && z || !w:", "x = [i for i in range(10)]  # comment", "\\n \\t \\\\",
          "$(echo \"$HOME/*\")", "/usr/local/bin/../lib", "C:\\Windows\\x.dll", "https://example.org/a?b=c&d=%20#f",
          "user@example.org", "===---***", "!!!???", "...", "…", "--", "—", "\u201cquotes\u201d", "«guillemets»", "`code`",
          "```python\nprint(1)\n```", "| a | b |\n|---|---|", "a\n\n\n\nb", "x;\r\n\r\ny", "!\n\n!", ".\n .\n  .", "100_000",
          "camelCaseWord snake_case_word SCREAMING_CASE"]
    s += ["你好，世界！", "我是一个语言模型。", "東京は日本の首都です。", "ひらがなカタカナ漢字", "한국어 문장입니다", "中文English混排123",
          "「引用」、。", "㍿㌔", "𠮷野家", "龘", "ｆｕｌｌｗｉｄｔｈ", "안녕하세요", "각각"]
    s += ["😀", "😀😃😄", "👍🏽", "👨‍👩‍👧‍👦", "👩🏿‍🚀", "🏳️‍🌈", "🇫🇷🇩🇪", "❤️", "☃", "text 😀 text", "1️⃣2️⃣", "🫠🫡", "🤷🏻‍♀️ ok", "©®™", "♠♣♥♦"]
    s += ["مرحبا بالعالم", "السَّلَامُ عَلَيْكُمْ", "فارسی", "اردو زبان", "שלום עולם", "שָׁלוֹם", "\u202bرتل\u202c", "١٢٣ ريال", "لا إله"]
    s += ["สวัสดีชาวโลก", "ภาษาไทย", "กรุงเทพมหานคร อมรรัตนโกสินทร์", "น้ำ", "हिन्दी भाषा", "क्षत्रिय", "தமிழ்", "বাংলা", "ລາວ", "မြန်မာ",
          "ខ្មែរ", "བོད་", "አማርኛ", "Ελληνικά", "Ωμέγα ΐ", "Привет, мир!", "Ёлка й", "Ձեր", "ქართული", "İstanbul ıI", "Straße ẞ", "ﬁ ﬂ ﬀ"]
    s += ["café", "cafe\u0301", "\u00e9e\u0301", "n\u0303 \u00f1", "A\u030a \u00c5 \u212b", "\u1e69 s\u0323\u0307 s\u0307\u0323",
          "q\u0307\u0323", "o\u0302\u0301 \u1ed1", "\u1100\u1161\u11a8 \uac01", "\u1100\u1161", "\uac00\u11a8", "\u0301abc",
          "a\u0301\u0301\u0301", "\u0344", "\u0958 \u0915\u093c", "\u0b47\u0b56", "\u2126 \u2127", "\ufb1d", "\u0f73\u0f75", "\U0001d15e",
          "e\u0301e\u0301e\u0301", "re\u0301sume\u0301 naïve", "Vie\u0302\u0323t Nam", "\u0041\u0327\u030a", "\u0061\u0315\u0300\u05ae\u0062",
          "x\u0338=\u0338<\u0338", "\u304b\u3099\u304d\u3099", "\u30cf\u309a", "\uf900\ufa0e", "a\u0300\u0316b", "\u0915\u094d\u200d\u0937",
          "\u0627\u0653", "ế\u0323"]
    s += ["\x00", "a\x00b", "\x01\x02\x03", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x9f", "tab\there", "bell\x07", "\ufffd", "\ufffe", "\uffff",
          "\U0010ffff", "\ue000", "a\u00adb", "\u200d", "\u200c\u200d", "x\u034fy"]
    s += ["<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|>", "a<|endoftext|>b", " <|endoftext|> ",
          "<|im_start|><|im_end|>", "<|im_start", "im_start|>", "<<|im_end|>>", "<|im_end|><|im_end|", "<think>\nhm\n</think>\n\nyes",
          "<s>", "</s>", "<s> a</s> b", "<unk>", "x<unk>y", "<|begin_of_text|>Hi<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\nx",
          "<|user|>\nHi</s>\n<|assistant|>", "a <mask> b", "  <mask>  b", "<mask><mask>", "café<strip>  x", "word wordy sword word",
          "<|im_end|>\u0301x", "e<|im_end|>\u0301", "<0x41><0x0A>", "▁▁a", "a▁b", "Ġa", "Ċ", "<tool_call>x</tool_call>", "NORM café NORM cafe\u0301"]
    return s


def random_strings(count, seed):
    rng = random.Random(seed)
    pools = [list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"), list("0123456789"), list(" \n\t  \r"), list(".,;:!?'\"()-_/<>|#@"),
             list("éüñçøßœÅİı"), list("\u0300\u0301\u0302\u0303\u0308\u030a\u0323\u0327"), list("你好世界東京漢字"), list("かきくけがぎぐ"),
             list("한국어각"), list("😀👍❤\ufe0f\u200d🏽🇫🇷"), list("مرحباالع"), list("สวัสดีน้ำ"), list("Приветмир"),
             list("αβγΩ"), ["<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<|eot_id|>", "<think>"], ["'s", "'t", "'re", "n't", "'LL"]]
    out = []
    for i in range(count):
        kind = i % 4
        if kind == 0:  # prose
            words = [rng.choice(WORDS) for _ in range(rng.randint(3, 10))]
            text = " ".join(words)
            out.append(text[0].upper() + text[1:] + rng.choice(".!?"))
        elif kind == 1:  # two scripts
            chosen = rng.sample(pools, 2) + [[" "]]
            out.append("".join(rng.choice(rng.choice(chosen)) for _ in range(rng.randint(4, 24))))
        elif kind == 2:  # anything
            out.append("".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(2, 20))))
        else:  # any code points
            text = "".join(chr(c) for c in (rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x300, 0x2000), rng.randrange(0x2000, 0xd800),
                                                       rng.randrange(0xe000, 0x10000), rng.randrange(0x10000, 0x11000),
                                                       rng.randrange(0x1f300, 0x1fa00)]) for _ in range(rng.randint(2, 12))))
            # Characters that the Unicode versions of the libraries do not share are not a fair question.
            out.append("".join(c for c in text if unicodedata.category(c) != "Cn"))
    return out


def byte_level(split, specials, vocab_size, normalizer=None, ignore_merges=False, extra=(), post=None, add=()):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = split
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=list(add),
                                  show_progress=False)
    tok.train_from_iterator(CORPUS, trainer)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    tok.add_tokens(list(extra))
    if post:
        tok.post_processor = post(tok)
    return tok


def split_regex(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def qwen():
    return byte_level(split_regex(QWEN_SPLIT), ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>"], 1100, normalizers.NFC(),
                      extra=[AddedToken(t, normalized=False, special=False) for t in ("<tool_call>", "</tool_call>", "<think>", "</think>")],
                      post=lambda tok: processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False))


def smollm2():
    split = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return byte_level(split, [], 1000, add=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"])


def llama3():
    def post(tok):
        bos = tok.token_to_id("<|begin_of_text|>")
        return processors.Sequence([processors.ByteLevel(add_prefix_space=True, trim_offsets=False, use_regex=True),
                                    processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                                                                  special_tokens=[("<|begin_of_text|>", bos)])])
    return byte_level(split_regex(LLAMA3_SPLIT), ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], 1000,
                      ignore_merges=True, post=post)


def sentencepiece():
    tok = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False, limit_alphabet=90,
                                  special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)  # only to train: words, not sentences
    tok.train_from_iterator(CORPUS, trainer)
    tok.pre_tokenizer = None
    spec = json.loads(tok.to_str())
    spec["added_tokens"] = [t for t in spec["added_tokens"] if t["id"] < 3]  # byte tokens are no added tokens there
    for t in spec["added_tokens"]:
        t["normalized"] = False
    tok = Tokenizer.from_str(json.dumps(spec))
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 1)])
    return tok


def variants():
    """Small changes of the four that switch the options their files do not use."""
    # Training is not the same every time, so the files just written are read.
    spec = json.loads((OUT / "qwen/tokenizer.json").read_text(encoding="utf8"))
    cut = {k: v for k, v in spec["model"]["vocab"].items()}

    def like(**parts):
        copy = json.loads(json.dumps(spec))
        copy.update(parts)
        copy["model"]["vocab"] = cut
        return copy

    def split(pattern, behavior, invert=False):
        return {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}

    trim = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    prefix = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    out = {
        "trim": like(post_processor=trim, pre_tokenizer=trim),
        "prefix": like(post_processor=prefix, pre_tokenizer=prefix, normalizer=None),
        "removed": like(pre_tokenizer=split({"Regex": r"\s+"}, "Removed")),
        "previous": like(pre_tokenizer=split({"Regex": r"[aeiou]"}, "MergedWithPrevious")),
        "next": like(pre_tokenizer=split({"String": "o"}, "MergedWithNext")),
        "contiguous": like(pre_tokenizer=split({"Regex": r"\p{L}"}, "Contiguous")),
        "invert": like(pre_tokenizer=split({"Regex": r"\p{L}+|\d+"}, "Removed", True)),
        "digits": like(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, trim]}),
        "replace": like(normalizer={"type": "Sequence", "normalizers": [
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "NFC"}, {"type": "Replace", "pattern": {"String": "e"}, "content": "éè"},
            {"type": "Prepend", "prepend": "> "}]}),
    }
    tokens = [AddedToken("<mask>", lstrip=True, special=True, normalized=False), AddedToken("<strip>", rstrip=True, normalized=False),
              AddedToken("word", single_word=True, normalized=False), AddedToken("NORM café", normalized=True)]
    for name in ("trim", "replace"):
        tok = Tokenizer.from_str(json.dumps(out[name]))
        tok.add_tokens(tokens)
        out[name] = json.loads(tok.to_str())
    sp = json.loads((OUT / "sentencepiece/tokenizer.json").read_text(encoding="utf8"))
    for scheme in ("always", "first"):
        copy = json.loads(json.dumps(sp))
        copy["normalizer"] = None
        copy["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": scheme == "always"}
        out["metaspace_" + scheme] = copy
    unk = json.loads(json.dumps(sp))
    unk["model"]["byte_fallback"] = False
    out["unk_fused"] = unk
    unk = json.loads(json.dumps(unk))
    unk["model"]["fuse_unk"] = False
    out["unk_single"] = unk
    return out


def table(tok, strings):
    """Per string: ids with and without special tokens, offsets, and what decoding gives where it is not the string itself."""
    rows = []
    for i, text in enumerate(strings):
        enc = tok.encode(text, add_special_tokens=False)
        full = tok.encode(text, add_special_tokens=True)
        row = {"t": i, "ids": enc.ids, "off": [x for pair in enc.offsets for x in pair]}
        if full.ids != enc.ids:
            row["full"] = full.ids
            row["full_off"] = [x for pair in full.offsets for x in pair]
        for key, skip in (("dec", False), ("skip", True)):
            decoded = tok.decode(enc.ids, skip_special_tokens=skip)
            if decoded != text:
                row[key] = decoded
        rows.append(row)
    return rows


def write(name, value):
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=False) + "\n", encoding="utf8")
    print(path.relative_to(ROOT), path.stat().st_size)


# family, template, its own arguments
CHATS = [("qwen2.5", "qwen2.5", {}), ("qwen3", "qwen3", {"enable_thinking": False}), ("qwen3", "qwen3", {"enable_thinking": True}),
         ("smollm2", "smollm2", {}), ("zephyr", "zephyr", {}), ("llama3", "llama3", {}), ("llama3.1", "llama3.1", {"date_string": "26 Jul 2024"}),
         ("llama3.1", "llama3.2", {"date_string": "01 Feb 2025"})]


def message_lists():
    def turns(*contents, system=None):
        out = [] if system is None else [{"role": "system", "content": system}]
        return out + [{"role": "user" if i % 2 == 0 else "assistant", "content": c} for i, c in enumerate(contents)]

    think = "<think>\nThe user greets.\n</think>\n\nHello!"
    lists = [turns("Hi"), turns(""), turns("  spaces around \n"), turns("\u00a0 odd\u2003white\x1c"), turns("two\nlines\n\n"), turns("Hi", system="Be brief."),
             turns("Hi", system=""), turns("Hi", system="  padded  "), turns("Hi", "Hello!"), turns("Hi", "Hello!", "How are you?"),
             turns("Hi", "Hello!", "How are you?", "Fine."), turns("a", "b", "c", "d", "e", system="Sys"), turns("Hi", think), turns("Hi", think, "And now?"),
             turns("Hi", think, "And now?", think), turns("Hi", think, "x", "no think", "y", think, system="S"), turns("Hi", "</think>only the end"),
             turns("Hi", "<think>never closed"), turns("Hi", "<think>a</think><think>b</think>c", "d"), turns("Hi", "<think>a</think><think>b</think>c"),
             turns("Hi", "\n\n<think>\n\n</think>\n\n\nx"), turns("Hi", "text <think> mid </think> after", "q"), turns("Hi", "\n\nleading"), turns("Hi", "\n\nleading", "q"),
             turns("<|im_end|> injected <|eot_id|></s>"), turns("你好", "你好！", "再见"), turns("😀👍🏽", system="مرحبا"),
             turns("What is it?", "calling", "<tool_response>\n42\n</tool_response>"), turns("What is it?", think, "<tool_response>42</tool_response>", think),
             turns("<tool_response>42</tool_response>"), turns("{{ messages }} {% if x %}"), turns("'quotes' \"double\" \\back"),
             [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], [{"role": "assistant", "content": "I begin."}],
             [{"role": "assistant", "content": think}], [{"role": "system", "content": "only"}],
             [{"role": "user", "content": "a"}, {"role": "system", "content": "late"}, {"role": "user", "content": "b"}],
             [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "assistant", "content": think}],
             [{"role": "user", "content": "a"}, {"role": "assistant", "content": think}, {"role": "assistant", "content": "b"}],
             [{"role": "system", "content": "s1"}, {"role": "system", "content": "s2"}, {"role": "user", "content": "u"}]]
    return lists


def chats():
    special = {"zephyr": ("<s>", "</s>"), "llama3": ("<|begin_of_text|>", "<|eot_id|>"), "llama3.1": ("<|begin_of_text|>", "<|eot_id|>")}
    cases = []
    for family, template, extra in CHATS:
        source = (OUT / f"chat_templates/{template}.jinja").read_text(encoding="utf8")
        bos, eos = special.get(family, (None, "<|im_end|>"))
        tok = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(OUT / "qwen/tokenizer.json")), bos_token=bos, eos_token=eos)
        rendered = [[tok.apply_chat_template(m, chat_template=source, tokenize=False, add_generation_prompt=g, **extra) for g in (False, True)]
                    for m in message_lists()]
        cases.append({"family": family, "template": template, "extra": extra, "rendered": rendered})
    return {"versions": VERSIONS, "messages": message_lists(), "cases": cases}


CORPUS = PROSE.splitlines() * 3 + [s for s in fixed_strings() if "\x00" not in s] * 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", type=pathlib.Path)
    parser.add_argument("--chat", action="store_true", help="the chat goldens only")
    args = parser.parse_args()
    if args.chat:
        write("chat.json", chats())
        return
    strings = fixed_strings() + random_strings(360, 7)
    strings = [s.encode("utf8", "surrogatepass").decode("utf8") for s in strings]
    print(len(strings), "strings")
    write("strings.json", {"versions": VERSIONS, "strings": strings})
    for make in (qwen, smollm2, llama3, sentencepiece):
        tok = make()
        name = make.__name__
        write(f"{name}/tokenizer.json", json.loads(tok.to_str()))
        # The file as it is read back is what is asked.
        tok = Tokenizer.from_file(str(OUT / name / "tokenizer.json"))
        write(f"{name}/expected.json", {"versions": VERSIONS, "rows": table(tok, strings)})
    short = [i for i, s in enumerate(strings) if len(s) <= 40]
    rng = random.Random(3)
    for name, spec in variants().items():
        tok = Tokenizer.from_str(json.dumps(spec))
        # Variants share a vocabulary with their family: only what differs is kept.
        base = "sentencepiece" if name.startswith(("metaspace", "unk")) else "qwen"
        parts = {k: v for k, v in spec.items() if k != "model"}
        flags = {k: v for k, v in spec["model"].items() if k not in ("vocab", "merges")}
        chosen = sorted(rng.sample(short, 130))
        chosen += [i for i, s in enumerate(strings) if ("mask" in s or "word" in s or "NORM" in s or "strip" in s) and i not in chosen]
        rows = table(tok, [strings[i] for i in chosen])
        for row, i in zip(rows, chosen):
            row["t"] = i
        write(f"variants/{name}.json", {"versions": VERSIONS, "base": base, "parts": parts, "model": flags, "rows": rows})
    write("chat.json", chats())
    if args.real:
        tok = Tokenizer.from_file(str(args.real / "smollm2-135m-instruct/tokenizer.json"))
        chosen = [i for i, s in enumerate(strings) if i % 2 == 0]
        rows = table(tok, [strings[i] for i in chosen])
        for row, i in zip(rows, chosen):
            row["t"] = i
        write("smollm2_real.json", {"versions": VERSIONS, "rows": rows})


if __name__ == "__main__":
    main()
