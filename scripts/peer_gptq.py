"""GPTQ of all linear layers with llm-compressor, int4 group 128 symmetric: the peer of `condense quantize`.
usage: peer_gptq.py MODEL TEXT WINDOWS THREADS"""
import sys, time
start = time.time()
import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

folder, text, count, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = Tokenizer.from_file(folder + "/tokenizer.json").encode(open(text, encoding="utf-8").read(), add_special_tokens=False).ids
windows = [ids[i * 256:(i + 1) * 256] for i in range(count)]
data = Dataset.from_dict({"input_ids": windows, "attention_mask": [[1] * 256] * count})
ready = time.time()
weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128}
oneshot(model=model, dataset=data, num_calibration_samples=count, max_seq_length=256, batch_size=8,
        shuffle_calibration_samples=False,
        recipe=[GPTQModifier(config_groups={"g": {"targets": ["Linear"], "weights": weights}}, ignore=["lm_head"])])
print(f"import and load {ready - start:.2f} s, quantization {time.time() - ready:.2f} s")
