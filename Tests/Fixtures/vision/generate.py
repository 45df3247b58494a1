"""Tiny vision transformers with random weights, and what transformers and the definition compute from them.

usage: python generate.py     (torch 2.13.0, transformers 5.23.0; one thread)
"""

import json
import shutil
from pathlib import Path

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).resolve().parent
LETTERS = "abcdefghijklmnopqrstuvwxyz 0123456789."
SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
             image_size=12, patch_size=4)


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        value = 0.3 * torch.randn(parameter.shape, generator=generator)
        is_norm = ("norm" in name or "layrnorm" in name) and name.endswith("weight")
        parameter.data = 1 + value if is_norm else value
    return model.eval(), torch.randn(3, 3, 12, 12, generator=generator)


def write(name, model, config, pixels, outputs, rename=lambda key: key):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_file({rename(key): value.contiguous() for key, value in model.state_dict().items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(
        json.dumps(json.loads(config.to_json_string(use_diff=False)), indent=2, sort_keys=True) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(dict(
        image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25], size=dict(height=12, width=12)),
        indent=2) + "\n")
    save_file({"pixels": pixels.permute(0, 2, 3, 1).contiguous(), "outputs": outputs.contiguous()},
              folder / "expected.safetensors")


def tokenizer(name, ends):
    """A letter a token; CLIP's texts begin with token 38 and end with 39."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(
        vocab={letter: index for index, letter in enumerate(LETTERS)}, merges=[]))
    if ends:
        made.add_special_tokens(["<start>", "<end>"])
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single="<start> $A <end>", special_tokens=[("<start>", 38), ("<end>", 39)])
    made.save(str(HERE / name / "tokenizer.json"))


def write_text(name, ids, outputs):
    save_file({"ids": ids, "outputs": outputs.contiguous()}, HERE / name / "expected-text.safetensors")


def vit(name, seed, rename=lambda key: key):
    config = transformers.ViTConfig(**SMALL, num_labels=5)
    model, pixels = randomise(transformers.ViTForImageClassification(config), seed)
    with torch.no_grad():
        write(name, model, config, pixels, model(pixels).logits, rename)


def old(key):
    for new, before in (("vit.layers.", "vit.encoder.layer."), ("attention.q_proj", "attention.attention.query"),
                        ("attention.k_proj", "attention.attention.key"),
                        ("attention.v_proj", "attention.attention.value"),
                        ("attention.o_proj", "attention.output.dense"),
                        ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense")):
        key = key.replace(new, before)
    return key


def clip():
    text = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20,
                vocab_size=40, max_position_embeddings=12, bos_token_id=38, eos_token_id=39)
    config = transformers.CLIPConfig(text_config=text, vision_config=SMALL, projection_dim=20)
    model, pixels = randomise(transformers.CLIPModel(config), 3)
    # A full text, one that ends early, one that was cut before its end.
    ids = torch.tensor([[38, 5, 6, 7, 8, 9, 1, 2, 3, 4, 11, 39], [38, 7, 39, 39, 39, 39, 39, 39, 39, 39, 39, 39],
                        [38, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]])
    with torch.no_grad():
        pooled = model.vision_model(pixels).pooler_output
        write("clip", model, config, pixels, model.visual_projection(pooled))
        tokenizer("clip", ends=True)
        write_text("clip", ids, model.text_projection(model.text_model(ids).pooler_output))


def siglip():
    text = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20,
                vocab_size=40, max_position_embeddings=9, projection_size=24)
    config = transformers.SiglipConfig(text_config=text, vision_config=dict(SMALL, hidden_size=24))
    model, pixels = randomise(transformers.SiglipModel(config), 5)
    ids = torch.randint(2, 40, (3, 9), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        write("siglip", model, config, pixels, model.vision_model(pixels).pooler_output)
        tokenizer("siglip", ends=False)
        write_text("siglip", ids, model.text_model(ids).pooler_output)
    # A tower alone has the same names without what stands before them, or with it, by version.
    alone = transformers.SiglipVisionModel(config.vision_config)
    randomise(alone, 8)
    with torch.no_grad():
        write("siglip-vision", alone, alone.config, pixels, alone(pixels).pooler_output)


class VitPytorch(nn.Module):
    """The names of the package vit-pytorch around the definition: heads of 64, patches in rows, columns, channels."""

    def __init__(self):
        super().__init__()
        def parameter(*shape):
            return nn.Parameter(torch.zeros(shape))
        self.pos_embedding, self.cls_token = parameter(1, 10, 32), parameter(1, 1, 32)
        self.to_patch_embedding = nn.Sequential(nn.Identity(), nn.Linear(48, 32))
        def branch(fn):
            return nn.ModuleDict(dict(norm=nn.LayerNorm(32), fn=fn))
        def attention():
            return nn.ModuleDict(dict(to_qkv=nn.Linear(32, 384, bias=False),
                                      to_out=nn.Sequential(nn.Linear(128, 32))))
        def mlp():
            return nn.ModuleDict(dict(net=nn.Sequential(
                nn.Linear(32, 40), nn.GELU(), nn.Identity(), nn.Linear(40, 32))))
        self.transformer = nn.ModuleDict(dict(layers=nn.ModuleList(
            nn.ModuleList([branch(attention()), branch(mlp())]) for _ in range(2))))
        self.mlp_head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 5))

    def forward(self, pixels):
        n = pixels.shape[0]
        patches = pixels.reshape(n, 3, 3, 4, 3, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, 9, 48)
        x = torch.cat([self.cls_token.expand(n, -1, -1), self.to_patch_embedding(patches)], 1)
        x = x + self.pos_embedding
        for attend, mlp in self.transformer["layers"]:
            q, k, v = (part.reshape(n, 10, 2, 64).transpose(1, 2)
                       for part in attend["fn"]["to_qkv"](attend["norm"](x)).chunk(3, -1))
            mixed = torch.softmax(q @ k.transpose(-1, -2) / 8, -1) @ v
            x = x + attend["fn"]["to_out"](mixed.transpose(1, 2).reshape(n, 10, 128))
            x = x + mlp["fn"]["net"](mlp["norm"](x))
        return self.mlp_head(x[:, 0])


torch.set_num_threads(1)
vit("vit", 1)
vit("vit-old-names", 1, old)
clip()
siglip()
model, pixels = randomise(VitPytorch(), 7)
with torch.no_grad():
    outputs = model(pixels)
torch.save(model.state_dict(), HERE / "vit-pytorch.pt")
save_file({"pixels": pixels.permute(0, 2, 3, 1).contiguous(), "outputs": outputs.contiguous()},
          HERE / "vit-pytorch.safetensors")
