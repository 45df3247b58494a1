"""Makes the tiny checkpoints of this folder and what transformers computes from them.

usage: python generate.py [NAME…]    (versions in README.md; writes next to itself, same bytes each time)

Every checkpoint is random. Norms and biases are random too, so that no step of a forward pass is
trivially one or zero. Expected values are float32, eager attention, whole sequences, no cache; each
is also computed in float64, and a variant whose float32 result is not stable is refused.
"""

import json
import runpy
import shutil
import sys
from pathlib import Path

import torch
import transformers
from transformers.utils import logging
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
LENGTH = 40
BASE = dict(
    vocab_size=80, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None, initializer_range=0.3)

ROPE = {
    "llama3": dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=16),
    "linear": dict(rope_type="linear", factor=4.0),
    "dynamic": dict(rope_type="dynamic", factor=4.0),
    "yarn": dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16,
                 beta_fast=4.0, beta_slow=1.0),
}


def rope(kind, theta=10000.0):
    return dict(rope_parameters=dict(ROPE[kind], rope_theta=theta))


# name: (config class, differences from BASE, how it is stored)
DECODERS = {
    "llama": ("Llama", dict(tie_word_embeddings=False), {}),
    "llama-tied": ("Llama", dict(tie_word_embeddings=True), {}),
    "llama-head-dim": ("Llama", dict(head_dim=12, tie_word_embeddings=False), {}),
    "llama-rope-llama3": ("Llama", dict(rope("llama3", 500000.0), tie_word_embeddings=True), {}),
    # the same weights as llama-rope-llama3, with the config as transformers 4 writes it
    "llama-rope-llama3-v4": (
        "Llama", dict(rope("llama3", 500000.0), tie_word_embeddings=True),
        dict(seed="llama-rope-llama3", writing=4)),
    "llama-rope-linear": ("Llama", dict(rope("linear"), tie_word_embeddings=True),
                          dict(writing=4, rope_key="type")),
    # the dynamic rule starts where max_position_embeddings ends
    "llama-rope-dynamic": (
        "Llama",
        dict(rope("dynamic"), max_position_embeddings=16, tie_word_embeddings=True), {}),
    "llama-rope-yarn": ("Llama", dict(rope("yarn"), tie_word_embeddings=True), {}),
    "llama-bf16": ("Llama", dict(tie_word_embeddings=False), dict(dtype="bfloat16")),
    "llama-f16": ("Llama", dict(tie_word_embeddings=False), dict(dtype="float16")),
    "llama-sharded": ("Llama", dict(tie_word_embeddings=False), dict(shard="36KB")),
    "smollm": ("Llama", dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True), {}),
    "mistral": ("Mistral", dict(sliding_window=8, tie_word_embeddings=False), {}),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True), {}),
    "qwen2-sliding": (
        "Qwen2", dict(use_sliding_window=True, sliding_window=8, max_window_layers=1,
                      tie_word_embeddings=True), {}),
    # the same, with the config as transformers 4 writes it: no layer_types
    "qwen2-sliding-v4": (
        "Qwen2", dict(use_sliding_window=True, sliding_window=8, max_window_layers=1,
                      tie_word_embeddings=True),
        dict(seed="qwen2-sliding", writing=4)),
    "qwen3": ("Qwen3", dict(head_dim=12, tie_word_embeddings=False), {}),
    "gemma": ("Gemma", dict(head_dim=12), {}),
    # every second layer has a window
    "gemma2": ("Gemma2", dict(head_dim=12, sliding_window=8, query_pre_attn_scalar=20,
                              attn_logit_softcapping=2.0, final_logit_softcapping=3.0), {}),
    # three layers of which the second sees everything, with a rotation of its own
    "gemma3": ("Gemma3", dict(head_dim=12, sliding_window=8, query_pre_attn_scalar=20,
                              num_hidden_layers=3,
                              layer_types=["sliding_attention", "full_attention",
                                           "sliding_attention"],
                              rope_parameters=dict(
                                  full_attention=dict(rope_type="linear", factor=2.0,
                                                      rope_theta=100000.0),
                                  sliding_attention=dict(rope_type="default",
                                                         rope_theta=1000.0))), {}),
    "phi3": ("Phi3", dict(tie_word_embeddings=False, sliding_window=8), {}),
    # 40 positions, of which the model first knew 16: the long factors; half of a head is rotated
    "phi3-longrope": ("Phi3", dict(
        tie_word_embeddings=False, original_max_position_embeddings=16,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.5,
                             original_max_position_embeddings=16,
                             short_factor=[1.0, 1.2], long_factor=[1.5, 3.0])), {}),
    "gpt2": ("GPT2", dict(n_embd=32, n_layer=2, n_head=4, n_positions=64,
                          scale_attn_by_inverse_layer_idx=True), dict(base=False)),
    "mixtral": ("Mixtral", dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=None,
                                tie_word_embeddings=False), dict(saved=True)),
    # the second layer has no experts
    "qwen2-moe": ("Qwen2Moe", dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24,
                                   shared_expert_intermediate_size=28, norm_topk_prob=False,
                                   mlp_only_layers=[1], tie_word_embeddings=False),
                  dict(saved=True)),
    "qwen3-moe": ("Qwen3Moe", dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24,
                                   norm_topk_prob=True, head_dim=12, mlp_only_layers=[],
                                   tie_word_embeddings=False),
                  dict(saved=True, seed="qwen3-moe-2")),
}
# Names of classes that do not follow from the family's.
CONFIGS = {"Gemma3": "Gemma3TextConfig"}
CLASSES = {"GPT2": "GPT2LMHeadModel"}


def seed_of(name):
    return sum(byte * (position + 1) for position, byte in enumerate(name.encode()))


def randomise(model, generator):
    """Norm weights around one, biases around zero, both visibly random."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        elif "norm" in name.lower() or ".ln_" in name:
            # Gemma's are stored as the distance from one.
            one = 0 if type(model).__name__.startswith("Gemma") else 1
            parameter.data = one + 0.3 * torch.randn(parameter.shape, generator=generator)
        else:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)


def write_config(folder, config, writing, rope_key, dtype, architecture):
    values = json.loads(config.to_json_string(use_diff=False))
    if writing == 4:
        parameters = values.pop("rope_parameters")
        values["rope_theta"] = parameters.pop("rope_theta")
        kind = parameters.pop("rope_type")
        values["rope_scaling"] = None if kind == "default" else {rope_key: kind, **parameters}
        values["torch_dtype"] = dtype
        values.pop("dtype", None)
        values.pop("layer_types", None)
        values.pop("head_dim", None)  # both such families have hidden_size / num_attention_heads
        values["transformers_version"] = "4.46.0"
    else:
        values["dtype"] = dtype
    values["architectures"] = [architecture]
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def decoder(name, family, changes, storage):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed_of(storage.get("seed", name)))
    base = BASE if storage.get("base", True) else dict(
        vocab_size=80, bos_token_id=1, eos_token_id=2, pad_token_id=None, initializer_range=0.3)
    config = getattr(transformers, CONFIGS.get(family, family + "Config"))(**{**base, **changes})
    config._attn_implementation = "eager"
    model = getattr(transformers, CLASSES.get(family, family + "ForCausalLM"))(config).eval()
    randomise(model, generator)
    dtype = storage.get("dtype", "float32")
    stored = model.to(getattr(torch, dtype))
    if storage.get("saved"):  # experts one by one, as checkpoints have them
        stored.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
    elif shard := storage.get("shard"):
        stored.save_pretrained(folder, max_shard_size=shard)
        (folder / "generation_config.json").unlink(missing_ok=True)
    else:
        tensors = {key: value.contiguous() for key, value in stored.state_dict().items()
                   if not (config.tie_word_embeddings and key == "lm_head.weight")}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_config(folder, config, storage.get("writing", 5), storage.get("rope_key", "rope_type"),
                 dtype, type(model).__name__)

    # What counts is what the folder says: it is read back, as a user would read it.
    ids = torch.randint(3, config.vocab_size, (2, LENGTH), generator=generator)
    logits = {}
    for computed in (torch.float64, torch.float32):
        experts = dict(experts_implementation="eager") if storage.get("saved") else {}
        again = type(model).from_pretrained(
            folder, dtype=computed, attn_implementation="eager", **experts)
        with torch.no_grad():
            logits[computed] = again.eval()(input_ids=ids, use_cache=False).logits
    drift = (logits[torch.float32] - logits[torch.float64]).abs().max().item()
    top = logits[torch.float64].topk(2, dim=-1).values
    margin = (top[..., 0] - top[..., 1]).min().item()
    spread = logits[torch.float32].std().item()
    print(f"{name:24} drift {drift:.1e}  margin {margin:.1e}  spread {spread:.2f}")
    assert drift < 4e-5 and margin > 4e-4 and spread > 0.3, name
    # The options under test must matter: without them the result is another one.
    option = {"rope_parameters": None, "sliding_window": None, "use_sliding_window": False,
              "attn_logit_softcapping": None}
    if storage.get("saved") or family == "Gemma3":
        option = {}
    if family == "Gemma2":
        option.pop("sliding_window")
    off = {key: value for key, value in option.items() if key in changes}
    if off:
        kept = {key: value for key, value in {**base, **changes}.items() if key not in off}
        bare = type(config)(**kept, **{k: v for k, v in off.items() if k != "rope_parameters"})
        bare._attn_implementation = "eager"
        plain = type(model)(bare).eval()
        plain.load_state_dict(model.float().state_dict())
        with torch.no_grad():
            difference = plain(input_ids=ids, use_cache=False).logits - logits[torch.float32]
        assert difference.abs().max() > 0.05, (name, difference.abs().max())
    save_file({"input_ids": ids, "logits": logits[torch.float32].contiguous()},
              folder / "expected.safetensors")
    return logits[torch.float32]


# MARK: encoders

SENTENCES = [
    "A cat sat on the mat.",
    "The dog runs!",
    "Tea",
    "In the old house, a man and a woman read books about rivers, stones and the long cold winter "
    "of the north while the cat slept.",
    "CAFÉ naïve, résumé 2024: 中文 and ☃ x",
    "unbelievable running (quickly) isn't over-rated",
]
WORDS = """a the cat dog sat on mat runs tea in old house man and woman read books about rivers
stones long cold winter of north while slept cafe resume un run over quick is rated""".split()
PIECES = "##s ##ing ##ly ##ning ##able ##ed ##er ##t ##believ".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
# name: (family, pooling, normalized, as which sentence-transformers writes modules.json, width of a dense layer)
ENCODERS = {
    "bert-mean": ("Bert", "mean", True, "old", 0),
    "bert-cls": ("Bert", "cls", True, "new", 0),
    "bert-not-normalized": ("Bert", "mean", False, "new", 0),
    "roberta-max": ("Roberta", "max", True, "new", 0),
    "xlm-roberta-dense": ("XLMRoberta", "cls", True, "new", 20),
    "distilbert-mean": ("DistilBert", "mean", False, "new", 24),
}


def wordpiece():
    from tokenizers import Tokenizer, models
    from tokenizers.decoders import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing

    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *".,!():'-",
               *("##" + letter for letter in LETTERS[:26]), *PIECES, *WORDS]
    vocabulary = {entry: index for index, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])])
    tokenizer.decoder = WordPiece(prefix="##")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=32)


def byte_level():
    """The tokenizer of RoBERTa: <s> A </s>, padding 1."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(SENTENCES * 4, trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", cls_token="<s>",
        bos_token="<s>", eos_token="</s>", sep_token="</s>", mask_token="<mask>",
        model_max_length=30)


def unigram():
    """The tokenizer of XLM-R: Unigram over a character map, words marked with U+2581."""
    tokenizer = runpy.run_path(str(HERE.parent / "tokenizers" / "generate.py"))["unigram"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), unk_token="<unk>", pad_token="<pad>", cls_token="<s>",
        bos_token="<s>", eos_token="</s>", sep_token="</s>", mask_token="<mask>",
        model_max_length=30)


TOKENIZERS = {"Bert": wordpiece, "DistilBert": wordpiece, "Roberta": byte_level, "XLMRoberta": unigram}


def encoder_config(family, vocabulary):
    if family == "DistilBert":
        return transformers.DistilBertConfig(
            vocab_size=vocabulary, dim=32, hidden_dim=40, n_layers=2, n_heads=4,
            max_position_embeddings=32)
    # RoBERTa's rows of positions start after the padding's.
    positions = dict(Bert=dict(max_position_embeddings=32)).get(
        family, dict(max_position_embeddings=32, type_vocab_size=1, pad_token_id=1,
                     layer_norm_eps=1e-5))
    return getattr(transformers, family + "Config")(**{**dict(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, layer_norm_eps=1e-12), **positions})


def encoder(name, family, pooling, normalized, writing, dense):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers import models as modules

    folder, bare = HERE / name, HERE / (name + ".bare")
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = TOKENIZERS[family]()
    generator = torch.Generator().manual_seed(seed_of(name))
    config = encoder_config(family, len(tokenizer))
    model_class = getattr(transformers, family + "Model")
    model = model_class(config).eval()
    randomise(model, generator)
    model.save_pretrained(bare)
    tokenizer.save_pretrained(bare)
    transformer = modules.Transformer(str(bare), max_seq_length=24)
    parts = [transformer, modules.Pooling(32, pooling_mode=pooling)]
    if dense:
        layer = modules.Dense(
            32, dense, activation_function=torch.nn.Tanh() if normalized else torch.nn.Identity(),
            bias=normalized)
        randomise(layer, generator)
        parts.append(layer)
    if normalized:
        parts.append(modules.Normalize())
    SentenceTransformer(modules=parts, device="cpu").save(str(folder), create_model_card=False)
    shutil.rmtree(bare)
    if writing == "old":
        old = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        entries = [dict(idx=i, name=str(i), path=path, type="sentence_transformers.models." + kind)
                   for i, (path, kind) in enumerate(old)]
        (folder / "modules.json").write_text(json.dumps(entries, indent=2) + "\n")
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(dict(
            word_embedding_dimension=32, pooling_mode_cls_token=pooling == "cls",
            pooling_mode_mean_tokens=pooling == "mean", pooling_mode_max_tokens=False,
            pooling_mode_mean_sqrt_len_tokens=False), indent=2) + "\n")
        (folder / "sentence_bert_config.json").write_text(json.dumps(
            dict(max_seq_length=24, do_lower_case=False), indent=2) + "\n")
        (folder / "2_Normalize").mkdir(exist_ok=True)
        (folder / "2_Normalize" / ".gitkeep").touch()

    values = {}
    for computed in (torch.float64, torch.float32):
        sentence = SentenceTransformer(
            str(folder), device="cpu",
            model_kwargs=dict(dtype=computed, attn_implementation="eager"))
        batch = sentence.tokenizer(
            SENTENCES, padding=True, truncation=True, max_length=24, return_tensors="pt")
        pooler = {} if family == "DistilBert" else dict(add_pooling_layer=False)
        bert = model_class.from_pretrained(
            folder, dtype=computed, attn_implementation="eager", **pooler).eval()
        with torch.no_grad():
            inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
            hidden = bert(**inputs).last_hidden_state * batch["attention_mask"][..., None]
        embeddings = sentence.encode(SENTENCES, convert_to_tensor=True, batch_size=8)
        values[computed] = (hidden, embeddings)
    drift = max((a - b).abs().max().item()
                for a, b in zip(values[torch.float32], values[torch.float64]))
    lengths = batch["attention_mask"].sum(1).tolist()
    print(f"{name:24} drift {drift:.1e}  tokens {lengths}")
    assert drift < 4e-5 and max(lengths) == 24, name
    hidden, embeddings = values[torch.float32]
    save_file({"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"],
               "last_hidden_state": hidden.contiguous(), "embeddings": embeddings.contiguous()},
              folder / "expected.safetensors")
    (folder / "sentences.json").write_text(
        json.dumps(SENTENCES, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    wanted = sys.argv[1:] or [*DECODERS, *ENCODERS]
    results = {name: decoder(name, *DECODERS[name]) for name in wanted if name in DECODERS}
    for name in ("llama-rope-llama3", "qwen2-sliding"):
        if name in results and name + "-v4" in results:
            assert torch.equal(results[name], results[name + "-v4"]), name
    for name in wanted:
        if name in ENCODERS:
            encoder(name, *ENCODERS[name])
    total = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    print(f"{total} bytes in all")
