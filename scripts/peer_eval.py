"""Perplexity of a causal model with transformers, windows of 256 tokens: the peer of `condense eval`.
usage: peer_eval.py MODEL TEXT THREADS"""
import math, sys, time
start = time.time()
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

folder, text, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(threads)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = Tokenizer.from_file(folder + "/tokenizer.json").encode(open(text, encoding="utf-8").read(), add_special_tokens=False).ids
count = len(ids) // 256
windows = torch.tensor(ids[:count * 256]).view(count, 256)
ready = time.time()
total, scored = 0.0, 0
with torch.no_grad():
    for first in range(0, count, 8):
        batch = windows[first:first + 8]
        loss = -torch.log_softmax(model(batch).logits[:, :-1].double(), -1).gather(-1, batch[:, 1:, None])
        total += loss.sum().item()
        scored += loss.numel()
print(f"perplexity {math.exp(total / scored):.4f}, import and load {ready - start:.2f} s, evaluation {time.time() - ready:.2f} s")
