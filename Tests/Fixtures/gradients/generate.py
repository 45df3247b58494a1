"""Gradients and training steps of PyTorch on the tiny models of ../families.

usage: generate.py        (needs torch, transformers, safetensors)
Writes NAME.safetensors: `tokens` and `labels` [2, 24], `loss` (the sum of cross-entropies), and `grad:TENSOR` for every
parameter; and steps.safetensors: llama-tied after five steps of AdamW on the mean cross-entropy, with the losses.
"""
import os

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

here = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(0)
torch.set_num_threads(1)


def load(name):
    model = AutoModelForCausalLM.from_pretrained(
        os.path.join(here, "..", "families", name), dtype=torch.float32, attn_implementation="eager")
    return model.train()


def batch(model, shape):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, model.config.vocab_size, shape, generator=generator)
    labels = torch.randint(0, model.config.vocab_size, shape, generator=generator)
    return tokens, labels


def loss_of(model, tokens, labels, reduction):
    logits = model(tokens, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction=reduction)


for name in ["llama", "llama-tied", "mistral", "qwen2", "qwen3", "llama-rope-yarn"]:
    model = load(name)
    tokens, labels = batch(model, (2, 24))
    loss = loss_of(model, tokens, labels, "sum")
    loss.backward()
    tensors = {"grad:" + key: value.grad.contiguous() for key, value in model.named_parameters()
               if value.grad is not None}
    tensors |= {"tokens": tokens.int(), "labels": labels.int(), "loss": loss.detach().reshape(1)}
    save_file(tensors, os.path.join(here, name + ".safetensors"))
    print(name, loss.item(), len(tensors))

model = load("llama-tied")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0)
losses = []
for step in range(5):
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, model.config.vocab_size, (4, 17), generator=generator)
    loss = loss_of(model, tokens[:, :-1], tokens[:, 1:], "mean")
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
    if step == 0:
        windows = [tokens]
    else:
        windows.append(tokens)
tensors = {"after:" + key: value.detach().contiguous() for key, value in model.named_parameters()}
tensors |= {"windows": torch.cat(windows).int(), "losses": torch.tensor(losses)}
save_file(tensors, os.path.join(here, "steps.safetensors"))
print("steps", losses)
