"""Training steps of a Llama checkpoint in PyTorch, float32, AdamW: tokens a second and peak memory.

usage: peer_train.py MODEL TEXT THREADS [BATCH CONTEXT STEPS]
The loss is the cross-entropy of the next token, on the same windows that `condense distill --text` reads.
"""
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model_path, text_path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
batch, context, steps = (list(map(int, sys.argv[4:7])) + [8, 256, 12])[:3]
torch.set_num_threads(threads)
tokenizer = AutoTokenizer.from_pretrained(model_path)
model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
model.train()
with open(text_path, encoding="utf-8") as file:
    text = file.read(batch * context * (steps + 1) * 8)
ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[0]
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0)
times = []
for step in range(steps):
    windows = ids[step * batch * context:(step + 1) * batch * context].view(batch, context)
    start = time.perf_counter()
    logits = model(windows[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), windows[:, 1:].reshape(-1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    times.append(time.perf_counter() - start)
times = sorted(times[2:])
median = times[len(times) // 2]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{batch * (context - 1) / median:.0f} tokens/s, step {median:.3f} s, fastest {times[0]:.3f} s, "
      f"loss {loss.item():.4f}, peak {peak:.0f} MB")
