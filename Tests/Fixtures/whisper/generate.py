"""Tiny Whisper models: one with random weights, and one that has learned a few words; what transformers makes of them.

usage: python generate.py [DIGITS]    (torch 2.13.0, transformers 5.24.0, tokenizers; one thread)

DIGITS: a folder with 0_george_0.wav, 3_jackson_5.wav, 7_lucas_9.wav and 9_nicolas_20.wav of the Free Spoken Digit Dataset,
which the second model learns beside the sounds that are made here. Without it the second model stays as it is.
"""

import json
import shutil
import sys
import wave
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent
WORDS = "zero one two three four five seven nine".split()
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|haw|>", "<|translate|>", "<|transcribe|>",
           "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
TIMES = [f"<|{time:.2f}|>" for time in (0, 0.02, 0.04)]
POSITIONS = 100  # two seconds


def tokenizer():
    """Byte-level BPE whose whole words with a blank before them are single tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    text = [" " + word for word in WORDS] * 3
    bpe.train_from_iterator(text, trainers.BpeTrainer(vocab_size=60, show_progress=False))
    bpe.add_special_tokens(SPECIAL)
    bpe.add_tokens(TIMES)
    return bpe


BPE = tokenizer()
ID = BPE.token_to_id
VOCABULARY = BPE.get_vocab_size()


def config(**changes):
    return transformers.WhisperConfig(**{**dict(
        vocab_size=VOCABULARY, num_mel_bins=80, max_source_positions=POSITIONS, max_target_positions=24,
        activation_function="gelu", dropout=0.0, pad_token_id=ID("<|endoftext|>"),
        bos_token_id=ID("<|endoftext|>"), eos_token_id=ID("<|endoftext|>"),
        decoder_start_token_id=ID("<|startoftranscript|>"), suppress_tokens=None, begin_suppress_tokens=None),
        **changes})


def generation(suppressed):
    languages = {name: ID(name) for name in ("<|en|>", "<|de|>", "<|haw|>")}
    return transformers.GenerationConfig(
        decoder_start_token_id=ID("<|startoftranscript|>"), eos_token_id=ID("<|endoftext|>"),
        pad_token_id=ID("<|endoftext|>"), bos_token_id=ID("<|endoftext|>"), is_multilingual=True,
        lang_to_id=languages, no_timestamps_token_id=ID("<|notimestamps|>"),
        task_to_id=dict(translate=ID("<|translate|>"), transcribe=ID("<|transcribe|>")), max_length=24,
        return_timestamps=False, suppress_tokens=suppressed,
        begin_suppress_tokens=[BPE.encode(" one").ids[0], ID("<|endoftext|>")])


def write(name, model, generated, dtype):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tensors = {key: value.to(dtype).contiguous() for key, value in model.state_dict().items() if key != "proj_out.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(
        json.dumps(json.loads(model.config.to_json_string(use_diff=False)), indent=2, sort_keys=True) + "\n")
    (folder / "generation_config.json").write_text(
        json.dumps(json.loads(generated.to_json_string(use_diff=False)), indent=2, sort_keys=True) + "\n")
    BPE.save(str(folder / "tokenizer.json"))
    again = transformers.WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    return folder, again


def greedy(model, features, **options):
    found = model.generate(input_features=features, do_sample=False, num_beams=1, task="transcribe", **options)[0]
    return found


def margin(model, features, prompt, found, suppressed):
    """How far the chosen tokens, and the end behind them, are from a tie with others that are not suppressed."""
    ids, end = torch.cat([prompt, found]), torch.tensor([ID("<|endoftext|>")])
    is_open = len(ids) == model.config.max_target_positions
    with torch.no_grad():
        logits = model(input_features=features, decoder_input_ids=ids[None]).logits[0][len(prompt) - 1:]
    logits, found = (logits[:-1], found) if is_open else (logits, torch.cat([found, end]))
    logits[:, suppressed] = -torch.inf
    logits[0, model.generation_config.begin_suppress_tokens] = -torch.inf
    assert (logits.argmax(-1) == found).all()
    top = logits.topk(2, dim=-1).values
    return (top[:, 0] - top[:, 1]).min().item()


def random_model(seed):
    """False when the seed shows too little: a transcript that ends, one that does not, two languages, clear choices."""
    generator = torch.Generator().manual_seed(seed)
    model = transformers.WhisperForConditionalGeneration(config(
        d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=4,
        encoder_ffn_dim=24, decoder_ffn_dim=20, num_mel_bins=20, max_source_positions=30)).eval()
    for name, parameter in model.named_parameters():
        value = 0.3 * torch.randn(parameter.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            value = 1 + value
        if "decoder.embed_positions" in name or "encoder_attn.out_proj" in name:
            value = 3 * value
        if "embed_tokens" in name:  # the head's too: a token's own row would be the likeliest next one
            value = 0.5 * value
        parameter.data = value
    suppressed = [ID(token) for token in SPECIAL[1:] + TIMES] + BPE.encode(" two").ids
    folder, model = write("random", model, generation(suppressed), torch.float32)
    features = torch.randn(2, 20, 60, generator=generator)
    prompt = [ID(token) for token in ("<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>")]
    texts = torch.randint(0, 30, (2, 9), generator=generator)
    ids = torch.cat([torch.tensor([prompt, prompt]), texts], 1)
    with torch.no_grad():
        result = model(input_features=features, decoder_input_ids=ids)
    expected = dict(
        features=features.permute(0, 2, 1).contiguous(), ids=ids,
        encoder=result.encoder_last_hidden_state.contiguous(), logits=result.logits.contiguous())
    ends, margins = set(), []
    for place in range(2):
        own = features[place:place + 1]
        detected = model.detect_language(own, generation_config=model.generation_config)
        expected[f"language-{place}"] = detected
        for language in ("en", None):
            found = greedy(model, own, **({} if language is None else dict(language=language)))
            expected[f"generated-{language or 'detected'}-{place}"] = found
            start = [prompt[0], ID("<|en|>") if language else detected.item(), *prompt[2:]]
            margins.append(margin(model, own, torch.tensor(start), found, suppressed))
            ends.add(len(found) < model.config.max_target_positions - len(start))
    kinds = {expected[f"language-{place}"].item() for place in range(2)}
    if len(ends) < 2 or min(margins) < 5e-3 or len(kinds) < 2:
        return False
    print(seed, min(margins), kinds, [expected[key].tolist() for key in expected if key.startswith("gen")])
    save_file(expected, folder / "expected.safetensors")
    return True


# MARK: words

RATE = 8000
# Frequencies of two tones at the start, the middle and the end of a word, in Hz.
SOUNDS = {"one": [(300, 900), (600, 1200), (300, 2400)], "two": [(2000, 3000), (800, 1500), (300, 800)],
          "four": [(500, 2500), (500, 1000), (900, 1400)], "five": [(1500, 3500), (700, 1100), (1200, 2200)]}
SENTENCES = {"one-two": "one two", "four": "four", "five-one-four": "five one four", "two-five": "two five"}
DIGITS = {"0_george_0": "zero", "3_jackson_5": "three", "7_lucas_9": "seven", "9_nicolas_20": "nine"}


def word(name, rate=RATE, stretch=1.0):
    count = int(0.35 * rate * stretch)
    at = np.linspace(0, 2, count)
    sound = np.zeros(count)
    for tone in range(2):
        frequency = np.interp(at, [0, 1, 2], [pair[tone] for pair in SOUNDS[name]])
        sound += np.sin(2 * np.pi * np.cumsum(frequency) / rate)
    return 0.3 * sound * np.sin(np.pi * at / 2) ** 0.5


def sentence(text, random=None):
    parts = []
    for name in text.split():
        stretch = 1.0 if random is None else random.uniform(0.85, 1.15)
        pause = 0.08 if random is None else random.uniform(0.04, 0.2)
        parts += [word(name, stretch=stretch), np.zeros(int(pause * RATE))]
    return np.concatenate(parts)


def read(path):
    with wave.open(str(path), "rb") as file:
        width = file.getsampwidth()
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2" if width == 2 else np.uint8)
        assert file.getframerate() == RATE and file.getnchannels() == 1
    return data / 32768 if width == 2 else (data.astype(float) - 128) / 128


def learn(digits):
    recordings = HERE / "recordings"
    shutil.rmtree(recordings, ignore_errors=True)
    recordings.mkdir()
    for name, text in SENTENCES.items():
        sound = np.round(127 * sentence(text) + 128).astype(np.uint8)
        with wave.open(str(recordings / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(1)
            file.setframerate(RATE)
            file.writeframes(sound.tobytes())
    (recordings / "transcripts.tsv").write_text("".join(f"{name}.wav\t{text}\n" for name, text in SENTENCES.items()))

    extractor = transformers.WhisperFeatureExtractor(chunk_length=2)
    random = np.random.default_rng(5)

    def features(sound):
        # Twice the rate by lines between the samples' spectrum: the Fourier transform with zeros above.
        spectrum = np.fft.rfft(sound)
        wide = np.fft.irfft(spectrum, 2 * (len(sound) // 2) * 2) * 2
        return extractor(wide.astype(np.float32), sampling_rate=16000, return_tensors="pt")["input_features"][0]

    spoken = {name: read(digits / f"{name}.wav") for name in DIGITS}
    items = []
    for text in DIGITS.values():
        name = next(key for key, value in DIGITS.items() if value == text)
        for copy in range(60):
            items.append((spoken[name], text))
    words = list(SOUNDS)
    for copy in range(400):
        text = " ".join(random.choice(words, random.integers(1, 4)))
        items.append((None, text))
    prepared = []
    for sound, text in items:
        if sound is None:
            sound = sentence(text, random)
        shift = np.zeros(random.integers(0, 1600))
        sound = np.concatenate([shift, random.uniform(0.5, 1.2) * sound])[:2 * RATE]
        sound = np.concatenate([sound, np.zeros(2 * RATE - len(sound))])
        sound = sound + 10 ** random.uniform(-4, -1.7) * random.normal(size=len(sound))
        prepared.append((features(sound), text))
    for name, text in list(DIGITS.items()) * 10:  # as they are
        prepared.append((features(spoken[name]), text))
    for name, text in list(SENTENCES.items()) * 10:
        prepared.append((features(read(recordings / f"{name}.wav")), text))

    torch.manual_seed(3)
    model = transformers.WhisperForConditionalGeneration(config(
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64))
    prompt = [ID(token) for token in ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")]
    inputs = torch.stack([features for features, _ in prepared])
    labels = torch.full((len(prepared), 9), -100)
    decoder = torch.full((len(prepared), 9), ID("<|endoftext|>"))
    for row, (_, text) in enumerate(prepared):
        ids = BPE.encode(" " + text).ids + [ID("<|endoftext|>")]
        decoder[row, :4 + len(ids) - 1] = torch.tensor(prompt + ids[:-1])
        labels[row, 3:3 + len(ids)] = torch.tensor(ids)
        labels[row, 0] = ID("<|en|>")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    steps, size = 1600, 24
    for step in range(steps):
        chosen = torch.randint(0, len(prepared), (size,))
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 100) * (1 - step / steps)
        logits = model(input_features=inputs[chosen], decoder_input_ids=decoder[chosen]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[chosen].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 0:
            print(step, loss.item(), flush=True)
    generated = generation([ID(token) for token in SPECIAL[1:]])
    generated.begin_suppress_tokens = [ID("<|endoftext|>")]
    folder, model = write("words", model.eval(), generated, torch.float16)
    for name, text in {**DIGITS, **SENTENCES}.items():
        sound = spoken[name] if name in DIGITS else read(recordings / f"{name}.wav")
        found = BPE.decode(greedy(model, features(sound)[None]).tolist(), skip_special_tokens=True)
        print(f"{name:16} {found!r}")
        assert found.strip() == text, (found, text)


torch.set_num_threads(1)
next(seed for seed in range(36, 2000) if random_model(seed))  # earlier ones show too little
if len(sys.argv) > 1:
    learn(Path(sys.argv[1]))
