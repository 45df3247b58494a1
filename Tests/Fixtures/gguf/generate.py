"""Makes the GGUF fixtures with other programs: PyPI `gguf` 0.x writes small files, llama-quantize chooses types.

usage: python generate.py LLAMA_BIN      (in a virtual environment with gguf, numpy, safetensors)
  small-NAME.gguf   the families' checkpoints of ../families, named and ordered by the package's own maps
  types.json        for each file type: the type of every matrix, as llama-quantize chose it
  keep.gguf         every kind of metadata value
"""
import json, os, subprocess, sys, tempfile
import gguf
import numpy as np
from safetensors.numpy import load_file

here = os.path.dirname(os.path.abspath(__file__))
families = os.path.join(here, "..", "families")


def permuted(weight, heads):
    """Rows of rotated heads, as llama.cpp's converter orders them."""
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def small(name, architecture):
    folder = os.path.join(families, name)
    config = json.load(open(os.path.join(folder, "config.json")))
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    writer = gguf.GGUFWriter(os.path.join(here, f"small-{name}.gguf"), architecture)
    heads = config["num_attention_heads"]
    key_heads = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = config.get("rope_theta") or parameters.get("rope_theta") or 10000.0
    writer.add_rope_freq_base(base)
    if parameters.get("rope_type") == "llama3":
        # As in llama.cpp's conversion: what each frequency is divided by.
        frequencies = 1.0 / (base ** (np.arange(0, size, 2, dtype=np.float64) / size))
        low = parameters["original_max_position_embeddings"] / parameters["low_freq_factor"]
        high = parameters["original_max_position_embeddings"] / parameters["high_freq_factor"]
        factors = []
        for frequency in frequencies:
            length = 2 * np.pi / frequency
            if length < high:
                factors.append(1)
            elif length > low:
                factors.append(parameters["factor"])
            else:
                smooth = (parameters["original_max_position_embeddings"] / length - parameters["low_freq_factor"]) / (
                    parameters["high_freq_factor"] - parameters["low_freq_factor"])
                factors.append(1 / ((1 - smooth) / parameters["factor"] + smooth))
        writer.add_tensor("rope_freqs.weight", np.array(factors, dtype=np.float32))
    if parameters.get("rope_type") == "linear" or parameters.get("type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(parameters["factor"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.upper()], config["num_hidden_layers"])
    for key, value in tensors.items():
        if key.endswith("inv_freq") or (key == "lm_head.weight" and config.get("tie_word_embeddings")):
            continue
        value = value.astype(np.float32)
        if architecture == "llama" and ".q_proj." in key:
            value = permuted(value, heads)
        if architecture == "llama" and ".k_proj." in key:
            value = permuted(value, key_heads)
        writer.add_tensor(names.get_name(key, (".weight", ".bias")), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def shapes(width, inner, heads, key_heads, vocabulary, layers, tied):
    result = {"token_embd.weight": (vocabulary, width), "output_norm.weight": (width,)}
    if not tied:
        result["output.weight"] = (vocabulary, width)
    key = width // heads * key_heads
    for layer in range(layers):
        for part, shape in {
            "attn_norm": (width,), "ffn_norm": (width,), "attn_q": (width, width), "attn_k": (key, width),
            "attn_v": (key, width), "attn_output": (width, width), "ffn_gate": (inner, width),
            "ffn_up": (inner, width), "ffn_down": (width, inner),
        }.items():
            result[f"blk.{layer}.{part}.weight"] = shape
    return result


def types(binaries):
    names = ("Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ1_S "
             "IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS IQ3_S IQ3_M IQ4_NL IQ4_XS TQ1_0 TQ2_0").split()
    models = {
        "deep": dict(width=256, inner=256, heads=8, key_heads=2, vocabulary=32, layers=32, tied=False),
        "tied": dict(width=256, inner=512, heads=4, key_heads=2, vocabulary=32, layers=8, tied=True),
        "ragged": dict(width=256, inner=320, heads=4, key_heads=4, vocabulary=32, layers=9, tied=False),
    }
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for model, options in models.items():
            tensors = shapes(**options)
            random = np.random.default_rng(0)
            source = os.path.join(folder, "model.gguf")
            writer = gguf.GGUFWriter(source, "llama")
            writer.add_block_count(options["layers"])
            writer.add_context_length(64)
            writer.add_embedding_length(options["width"])
            writer.add_feed_forward_length(options["inner"])
            writer.add_head_count(options["heads"])
            writer.add_head_count_kv(options["key_heads"])
            writer.add_layer_norm_rms_eps(1e-5)
            writer.add_tokenizer_model("gpt2")
            writer.add_tokenizer_pre("gpt-2")
            writer.add_token_list([f"t{i}" for i in range(options["vocabulary"])])
            writer.add_token_types([1] * options["vocabulary"])
            writer.add_token_merges([])
            for name, shape in tensors.items():
                writer.add_tensor(name, random.standard_normal(shape, dtype=np.float32))
            writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
            importance = os.path.join(folder, "imatrix.gguf")
            writer = gguf.GGUFWriter(importance, "")
            writer.add_type("imatrix")
            writer.add_array("imatrix.datasets", ["none"])
            writer.add_uint32("imatrix.chunk_count", 1)
            writer.add_uint32("imatrix.chunk_size", 64)
            for name, shape in tensors.items():
                if len(shape) == 2 and name.startswith("blk"):
                    writer.add_tensor(name + ".in_sum2", np.ones(shape[1], dtype=np.float32))
                    writer.add_tensor(name + ".counts", np.ones(1, dtype=np.float32))
            writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
            for calibrated in (False, True):
                for name in names:
                    target = os.path.join(folder, "out.gguf")
                    command = [os.path.join(binaries, "llama-quantize")]
                    if calibrated:
                        command += ["--imatrix", importance]
                    run = subprocess.run(command + [source, target, name, "2"], capture_output=True)
                    if run.returncode != 0:
                        if calibrated:
                            print("failed", model, name, run.stderr[-200:])
                        continue
                    found = {t.name: t.tensor_type.name for t in gguf.GGUFReader(target).tensors if len(t.shape) == 2}
                    rows = {}
                    for key, value in found.items():
                        part = key.split(".")[2] if key.startswith("blk") else key.split(".")[0]
                        layer = int(key.split(".")[1]) if key.startswith("blk") else 0
                        rows.setdefault(part, {})[layer] = value
                    result.setdefault(model, {})[name + ("+i" if calibrated else "")] = {
                        part: " ".join(values[i] for i in sorted(values)) for part, values in rows.items()}
    json.dump({"models": models, "types": result}, open(os.path.join(here, "types.json"), "w"), indent=0)


def keep():
    writer = gguf.GGUFWriter(os.path.join(here, "keep.gguf"), "unknown-net")
    writer.add_uint8("k.u8", 200); writer.add_int8("k.i8", -100); writer.add_uint16("k.u16", 60000)
    writer.add_int16("k.i16", -30000); writer.add_uint32("k.u32", 4000000000); writer.add_int32("k.i32", -2000000000)
    writer.add_float32("k.f32", 0.1); writer.add_uint64("k.u64", 2**53 + 1); writer.add_int64("k.i64", -(2**53) - 1)
    writer.add_float64("k.f64", 0.1); writer.add_bool("k.yes", True); writer.add_bool("k.no", False)
    writer.add_string("k.text", "grüße"); writer.add_array("k.texts", ["a", "", "ß"])
    writer.add_array("k.ints", [1, -2, 3]); writer.add_array("k.floats", [0.5, -1.5])
    writer.add_array("k.flags", [True, False])
    writer.add_custom_alignment(64)
    for name, value in {
        "f32": np.arange(6, dtype=np.float32).reshape(2, 3), "f16": np.arange(6, dtype=np.float16).reshape(3, 2),
        "f64": np.arange(3, dtype=np.float64), "i8": np.arange(-3, 3, dtype=np.int8),
        "i16": np.arange(-3, 3, dtype=np.int16), "i32": np.arange(-3, 3, dtype=np.int32),
        "i64": np.arange(-3, 3, dtype=np.int64), "cube": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    }.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()


for name, architecture in json.load(open(os.path.join(here, "families.json"))).items():
    small(name, architecture)
keep()
types(sys.argv[1])
