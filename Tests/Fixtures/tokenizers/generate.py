"""Makes the tokenizer fixtures, with the package `tokenizers` as the judge.

    python generate.py                 small tokenizers, trained here on the texts below
    python generate.py NAME…           only these of them
    python generate.py SHARED [PEERS]  also real.json: hashes of what real tokenizers give

SHARED has tokenizers/ and models/, PEERS has minilm/; their files are not part of the project.
Needs: tokenizers 0.23; for SHARED also transformers and sentencepiece.
"""

import json
import math
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

HERE = Path(__file__).parent

POOLS = [
    "The quick brown fox jumps over the lazy dog, doesn't it? They've said we'll see; I'm sure."
    .split(" "),
    list("abcdefghijklmnopqrstuvwxyz") + list("ETAOINSHRDLU"),
    ["0", "7", "42", "365", "1999", "12345", "3.14", "1,000,000", "0x1F", "½", "²", "Ⅷ", "٣"],
    ["'s", "'S", "'t", "'re", "'LL", "'d", "'ſ", "'", "''"],
    ["def f(x):\n    return x ** 2  # square\n", "if (a != b) { c += 1; }", "for i in range(10):",
     "\tx->y", "foo_bar", "fooBar", "https://example.org/a?b=c&d=%20", "<div class=\"a\">", "//"],
    ["漢", "字", "東京", "日本語の文章。", "你好，世界！", "한국어", "가", "각", "テスト", "ー"],
    ["مرحبا", "بالعالم", "العَرَبِيَّة", "،", "؟", "עברית", "שָׁלוֹם"],
    ["Привет", "мир", "Ёлка", "ёж", "Ωμέγα", "Σίσυφος", "ὀδυσσεύς", "हिन्दी", "नमस्ते", "ไทย"],
    ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "😀", "❤️", "🧑🏿‍🚀", "\u200d", "\ufe0f", "™"],
    ["e\u0301", "é", "a\u0300\u0316", "o\u0308", "\u0301", "ñ", "n\u0303", "Å", "\u212b", "ﬁ",
     "ﷺ", "ǅ", "İ", "ß", "ẞ", "\u1100\u1161\u11a8", "\u0958", "café", "naïve", "Ｆｕｌｌ"],
    ["  ", "   ", "        ", "\n", "\n\n", "\r\n", " \n ", "\t", " \t", "\u00a0", "\u2003",
     "\u3000", "\u2028", "\u0085"],
    [chr(c) for c in range(32) if c not in (9, 10, 13)]
    + ["\x7f", "\x80", "\u200b", "\u200e", "\ufeff", "\ufffd", "\u00ad", "\ue000", "\ufffe"],
    list("!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~«»“”‘’…—–"),
    ["<|endoftext|>", "<s>", "</s>", "<unk>", "<|begin_of_text|>", "<|eot_id|>", "[CLS]", "[MASK]",
     "<0x41>", "▁", "▁▁", "Ġ", "##ing", "<|start_header_id|>"],
]


class Stream:
    """xorshift64*; the tests build the same text."""

    def __init__(self, seed):
        self.state = seed

    def next(self, bound):
        x = self.state
        x ^= x >> 12
        x = (x ^ (x << 25)) & 0xFFFFFFFFFFFFFFFF
        x ^= x >> 27
        self.state = x
        return ((x * 0x2545F4914F6CDD1D & 0xFFFFFFFFFFFFFFFF) >> 33) % bound


def mixed_text(seed, size):
    """Runs of one kind of text after another, until there are `size` bytes."""
    stream, parts, count = Stream(seed), [], 0
    while count < size:
        pool = stream.next(len(POOLS) + 1)
        length = 1 + stream.next(12)
        blank = " " if stream.next(3) == 0 else ""
        for _ in range(length):
            if pool == len(POOLS):
                part = chr(0x20 + stream.next(0x2FE0)) + blank
            else:
                part = POOLS[pool][stream.next(len(POOLS[pool]))] + blank
            parts.append(part)
            count += len(part.encode())
    return "".join(parts)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def fnv_ids(ids):
    return fnv(b"".join(i.to_bytes(4, "little") for i in ids))


def write(name, value):
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    (HERE / name).write_text(text.replace('},{"', '},\n{"') + "\n")


# Small tokenizers.

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
          r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(pattern=None, special=("<|endoftext|>",), size=420, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    tokenizer.pre_tokenizer = split if pattern is None else pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated", False), split])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def gpt2():
    return byte_level()


def llama3():
    tokenizer = byte_level(LLAMA3, ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>"])
    tokenizer.model.ignore_merges = True
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", 0)])])
    return tokenizer


def qwen2():
    return byte_level(QWEN2, normalizer=normalizers.NFC())


def o200k():
    return byte_level(O200K)


def sentence_piece(metaspace):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # The trainer sees words, as SentencePiece's does; the tokenizer sees whole texts.
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace("▁")
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=560, limit_alphabet=60, show_progress=False,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]))
    document = json.loads(tokenizer.to_str())
    model = json.loads(trained.to_str())["model"]
    document["model"]["vocab"], document["model"]["merges"] = model["vocab"], model["merges"]
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return tokenizer


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=600, show_progress=False,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def added():
    """Added tokens with every option, a normalizer that changes them, suffixes and cased text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous"),
        pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=500, end_of_word_suffix="</w>", show_progress=False,
        special_tokens=["<unk>"]))
    tokenizer.add_tokens([
        AddedToken("[MASK]", lstrip=True, normalized=False, special=True),
        AddedToken("<s>", rstrip=True, normalized=False),
        AddedToken("ing", single_word=True, normalized=False),
        AddedToken("the", normalized=True),
        AddedToken("FOX", single_word=True, normalized=True, lstrip=True, rstrip=True),
        AddedToken("  ", normalized=False, lstrip=True, rstrip=True),
    ])
    tokenizer.post_processor = processors.RobertaProcessing(("<unk>", 0), ("<s>", 1))
    return tokenizer


def character_map(replacements):
    """The blob of a SentencePiece character map, from {text: its replacement}."""
    texts, places = b"", {}
    for value in replacements.values():
        if value not in places:
            places[value] = len(texts)
            texts += value.encode() + b"\0"
    # A double array (darts-clone): children of a node at `node ^ offset ^ byte`, a leaf's value at byte 0.
    tree = {}
    for key, value in replacements.items():
        node = tree
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = places[value]
    units, used, taken = {0: 0}, {0}, set()
    waiting = [(0, tree)]
    while waiting:
        place, node = waiting.pop(0)
        base = 1
        while base in taken or any((base ^ byte) in used for byte in node):
            base += 1
        taken.add(base)
        offset = base ^ place
        assert offset < 1 << 21
        units[place] |= offset << 10 | (1 << 8 if 0 in node else 0)
        for byte, below in node.items():
            used.add(base ^ byte)
            if byte == 0:
                units[base] = below | 1 << 31
            else:
                units[base ^ byte] = byte
                waiting.append((base ^ byte, below))
    size = (max(units) // 256 + 1) * 256
    blob = b"".join(units.get(i, 0x80000000 | 0xFF).to_bytes(4, "little") for i in range(size))
    return len(blob).to_bytes(4, "little") + blob + texts


def unigram(byte_fallback=False):
    """The tokenizer of XLM-R: a character map, words, Unigram."""
    import unicodedata
    replacements = {}
    for code in [*range(0x80, 0x250), *range(0x300, 0x370), *range(0x2000, 0x2400),
                 *range(0x2460, 0x2500), *range(0x3000, 0x3400), *range(0xF900, 0xFB07),
                 *range(0xFF00, 0xFFF0)]:
        text = unicodedata.normalize("NFKC", chr(code))
        if text != chr(code):
            replacements[chr(code)] = text
    for code in range(0xC0, 0x180):  # letters with an accent of their own, as clusters
        parts = unicodedata.normalize("NFD", chr(code))
        if parts != chr(code):
            replacements[parts] = chr(code)
    for code in [*range(1, 9), *range(14, 32), 0x7F, 0xAD, 0x200B, 0x200E, 0xFEFF]:
        replacements[chr(code)] = ""
    for code in [9, 10, 11, 12, 13, 0x85, 0x2028, 0x2029]:
        replacements[chr(code)] = " "
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(character_map(replacements)),
        normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "always")])
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    # The frequent parts of words; the trainer of the package does not give the same ones each time.
    counts = Counter()
    for text in CORPUS:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)):
            counts.update(word[i:i + n] for n in range(1, 9) for i in range(len(word) - n + 1))
    order = sorted(counts, key=lambda part: (-counts[part] * len(part), part))[:400]
    total = sum(counts[part] for part in order)
    vocabulary = [[token, 0.0] for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary += [[part, round(math.log(counts[part] / total), 6)] for part in order]
    if byte_fallback:
        vocabulary += [[f"<0x{i:02X}>", 0.0] for i in range(256)]
    document = json.loads(tokenizer.to_str())
    document["model"] = dict(
        type="Unigram", unk_id=3, vocab=vocabulary, byte_fallback=byte_fallback)
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_special_tokens(
        ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


def unigram_bytes():
    """As T5 and its kin cut whole texts, with bytes for what is unknown."""
    tokenizer = unigram(byte_fallback=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    return tokenizer


CORPUS = [mixed_text(seed, 3000) for seed in range(1, 9)] + [" ".join(POOLS[0])] * 40

SMALL = [gpt2, llama3, qwen2, o200k, sentence_piece, bert, added, unigram, unigram_bytes]


def expectations(tokenizer, seed):
    texts = ["", " ", "a", " a", "a ", "\n", "The fox", "the  fox<s>  jumps[MASK] over", "ingX ing"]
    texts += [mixed_text(seed * 100 + i, size)
              for i, size in enumerate([20] * 20 + [60] * 20 + [200] * 10 + [3000])]
    encodes = []
    for index, text in enumerate(texts):
        special = index % 3 == 0
        encodes.append({"text": text, "special": special,
                        "ids": tokenizer.encode(text, add_special_tokens=special).ids})
    pairs = []
    for first, second in zip(texts[10:20], texts[20:30]):
        pair = tokenizer.encode(first, second)
        pairs.append({"first": first, "second": second, "ids": pair.ids, "types": pair.type_ids})
    stream, decodes = Stream(seed + 77), []
    for index in range(30):
        ids = [stream.next(tokenizer.get_vocab_size() + 2) for _ in range(stream.next(24) + 1)]
        skip = index % 2 == 0
        decodes.append({"ids": ids, "skip": skip,
                        "text": tokenizer.decode(ids, skip_special_tokens=skip)})
    for case in encodes[20:40]:
        decodes.append({"ids": case["ids"], "skip": True, "text": tokenizer.decode(case["ids"])})
    return {"encode": encodes, "pair": pairs, "decode": decodes}


def small(only=()):
    made = [(maker.__name__, maker) for maker in SMALL
            if maker not in (sentence_piece, unigram, unigram_bytes)]
    made += [("llama2", lambda: sentence_piece(False)), ("mistral", lambda: sentence_piece(True)),
             ("unigram", unigram), ("unigram_bytes", unigram_bytes)]
    for seed, (name, maker) in enumerate(made):
        if only and name not in only:
            continue
        tokenizer = maker()
        path = HERE / f"{name}.json"
        tokenizer.save(str(path), pretty=False)
        write(f"{name}.expected.json", expectations(Tokenizer.from_file(str(path)), seed + 1))


PATTERNS = [
    LLAMA3, QWEN2, O200K, r"\d{1,3}", r"\p{N}{1,3}+", r"\s+", r"\w+|[^\w\s]+", r"\b", r"(?=[A-Z])",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    r"\s++$|\s*[\r\n]|\s+(?!\S)|\s", r"(?<=\s)\S", r"(?<![a-z])[a-z]", r"a*", r"(ab|a)*?c",
    r"(?:[a-z]+\d?)+", r"\R", r"^\s+|\s+$", r"(?>a+)b|.", r"(a|b|)+x", r"[^\P{L}a]", r"(?i)FOX|it",
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{M}&&[^\p{Han}]]+|\s+",
    r"[一-龥\u3040-ゟ゠-ヿ]+", r"[[:space:]]+|[[:punct:]]", r"x{,2}y", r"\x41|\x{6F22}|[\]\-a-c]",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?"
    r"[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]


def regexes():
    """What is left of each text when the matches of a pattern are marked."""
    cases = []
    for index, pattern in enumerate(PATTERNS):
        split = pre_tokenizers.Split(Regex(pattern), "isolated", False)
        text = mixed_text(900 + index, 1500) + " aab abac xxy 12345 FOXit"
        pieces = [piece for piece, _ in split.pre_tokenize_str(text)]
        cases.append({"pattern": pattern, "text": text, "lengths": [len(p.encode()) for p in pieces]})
    write("regex.expected.json", cases)


def scalar_normalizers():
    """Hashes over each scalar by itself, in blocks that did not change since Unicode 9."""
    scalars = [*range(1, 0x0860), *range(0x1E00, 0x2B74), *range(0x2F00, 0x2FD6),
               *range(0x3000, 0x3097), *range(0x30A0, 0x3100), *range(0x3131, 0x318F),
               *range(0x3200, 0x32FF), *range(0xAC00, 0xAD00), *range(0xF900, 0xFAD0),
               *range(0xFB00, 0xFBC2), *range(0xFE30, 0xFFFE), *range(0x1D400, 0x1D800)]
    result = {}
    for name, normalizer in [
            ("NFC", normalizers.NFC()), ("NFD", normalizers.NFD()), ("NFKC", normalizers.NFKC()),
            ("NFKD", normalizers.NFKD()), ("Lowercase", normalizers.Lowercase()),
            ("StripAccents", normalizers.StripAccents()), ("Nmt", normalizers.Nmt()),
            ("BertNormalizer", normalizers.BertNormalizer())]:
        text = "\n".join(normalizer.normalize_str(chr(c)) for c in scalars)
        result[name] = fnv(text.encode())
    write("normalizers.expected.json",
          {"scalars": [[a, b] for a, b in ranges(scalars)], "hashes": result})


def ranges(values):
    start = previous = values[0]
    for value in values[1:]:
        if value != previous + 1:
            yield start, previous
            start = value
        previous = value
    yield start, previous


# Real tokenizers.

def from_json(path):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def from_merges(path):
    from transformers.convert_slow_tokenizer import GPT2Converter
    lines = path.read_text(encoding="utf8").split("\n")[1:]
    merges = [tuple(line.split()) for line in lines if line]
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for merge in merges:
        vocab["".join(merge)] = len(vocab)
    vocab["<|endoftext|>"] = len(vocab)
    tokenizer = GPT2Converter(SimpleNamespace(
        encoder=vocab, bpe_ranks={m: i for i, m in enumerate(merges)})).converted()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def from_ranks(path):
    from transformers.convert_slow_tokenizer import TikTokenConverter
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(251)]
    special = (["<|begin_of_text|>", "<|end_of_text|>"] + reserved[:4]
               + ["<|start_header_id|>", "<|end_header_id|>", reserved[4], "<|eot_id|>"]
               + reserved[5:])
    return TikTokenConverter(vocab_file=str(path), extra_special_tokens=special).converted()


def from_sentence_piece(path):
    from sentencepiece import sentencepiece_model_pb2
    from transformers.convert_slow_tokenizer import LlamaConverter
    from transformers.tokenization_utils_base import generate_merges
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(path.read_bytes())
    vocab = {piece.piece: id for id, piece in enumerate(proto.pieces)}
    # SentencePiece merges by score: Llama 2's runs of blanks come early in the list and last in score.
    scores = {piece.piece: piece.score for piece in proto.pieces}
    tokenizer = Tokenizer(models.BPE(
        vocab, generate_merges(vocab, scores), unk_token=proto.trainer_spec.unk_piece, fuse_unk=True,
        byte_fallback=True))
    converter = LlamaConverter.__new__(LlamaConverter)
    converter.original_tokenizer = SimpleNamespace()
    tokenizer.normalizer = converter.normalizer(proto)
    tokenizer.decoder = converter.decoder("▁", True)
    tokenizer.add_special_tokens([
        AddedToken(piece.piece, normalized=False, special=True)
        for piece in proto.pieces if piece.type in (2, 3)])
    return tokenizer


def real(shared, peers):
    files = [(shared, f"tokenizers/{name}") for name in (
        "gpt-neox-20b.json", "moonshine.json", "gpt2-vocab.bpe", "llama2-tokenizer.model",
        "llama3-tokenizer.model")]
    files += [(shared, f"models/{path}") for path in (
        "lm-6m/tokenizer.json", "lm-29m/tokenizer.json", "stories260k/tok512.model",
        "bitllama3m/tok512.model", "babyllama105/tok105.model")]
    if peers:
        files.append((peers, "minilm/tokenizer.json"))
    results = []
    for seed, (folder, name) in enumerate(files):
        path = folder / name
        read = (from_json if path.suffix == ".json" else from_merges if path.suffix == ".bpe"
                else from_ranks if "llama3-" in name else from_sentence_piece)
        tokenizer = read(path)
        size = 1 << 20
        ids = tokenizer.encode(mixed_text(5000 + seed, size), add_special_tokens=False).ids
        results.append({
            "file": name, "folder": "shared" if folder == shared else "peers",
            "seed": 5000 + seed, "bytes": size, "count": len(ids), "ids": fnv_ids(ids),
            "first": ids[:20],
            "text": fnv(tokenizer.decode(ids, skip_special_tokens=False).encode()),
            "plain": fnv(tokenizer.decode(ids, skip_special_tokens=True).encode())})
    write("real.json", results)


if __name__ == "__main__" and sys.argv[1:] and not Path(sys.argv[1]).is_dir():
    small(sys.argv[1:])
elif __name__ == "__main__":
    write("pools.json", POOLS)
    small()
    regexes()
    scalar_normalizers()
    if len(sys.argv) > 1:
        real(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
