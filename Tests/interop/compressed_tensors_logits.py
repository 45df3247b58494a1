"""Compares the logits of a compressed-tensors folder in transformers with our own.

usage: compressed_tensors_logits.py CONDENSE QUANTIZED COMPRESSED TEXT LABEL
Our logits come from the same weights as float32 safetensors (`condense convert`), run by transformers too, and
their perplexity is checked against our own forward pass by the tests of the families.
"""
import subprocess, sys, tempfile
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

condense, quantized, compressed, text, label = sys.argv[1:6]
torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    dense = folder + "/dense"
    subprocess.run([condense, "convert", quantized, dense, "--dtype", "f32", "--quiet"], check=True)
    tokenizer = AutoTokenizer.from_pretrained(dense)
    ids = tokenizer(open(text).read(20000), return_tensors="pt").input_ids[:, :256]
    with torch.no_grad():
        ours = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)(ids).logits
        model = AutoModelForCausalLM.from_pretrained(compressed, dtype=torch.float32)
        theirs = model(ids).logits
difference = (ours - theirs).abs().max().item()
print(f"| {label} | {difference:.2e} | {ours.numel()} |")
sys.exit(0 if difference < 1e-3 else 1)
