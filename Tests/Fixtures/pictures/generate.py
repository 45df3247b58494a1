"""Small pictures and what Pillow makes of them.

usage: python generate.py      (Pillow 13.0.0, numpy; transformers 5.23.0 for preparation.safetensors)
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

HERE = Path(__file__).resolve().parent
random = np.random.default_rng(5)
y, x = np.mgrid[0:23, 0:31]
smooth = np.stack([x * 8, y * 11, 128 + 60 * np.sin(x / 3) * np.cos(y / 4)], -1)
picture = np.clip(smooth + random.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
rgb = Image.fromarray(picture)

files = {
    "rgb.png": (rgb, {}),
    "gray.png": (rgb.convert("L"), {}),
    "palette.png": (rgb.quantize(16), {}),
    "alpha.png": (Image.fromarray(np.dstack([picture, (x * 8).astype(np.uint8)])), {}),
    "rgb.jpg": (rgb, dict(quality=90)),
    "plain.jpg": (rgb, dict(quality=75, subsampling=0, progressive=True)),
    "gray.jpg": (rgb.convert("L"), dict(quality=90)),
}
decoded = {}
for name, (image, options) in files.items():
    image.save(HERE / name, **options)
    decoded[name] = np.asarray(Image.open(HERE / name).convert("RGB"))
for filter in range(6):
    for width, height in ((12, 9), (50, 40), (31, 10), (64, 23)):
        decoded[f"{filter} {width} {height}"] = np.asarray(rgb.resize((width, height), filter))
save_file({key: np.ascontiguousarray(value) for key, value in decoded.items()},
          HERE / "pixels.safetensors")

prepared = {}
configurations = {
    "vit": (ViTImageProcessorPil, dict(size=dict(height=16, width=16))),
    "clip": (CLIPImageProcessorPil, dict(size=dict(shortest_edge=20), crop_size=dict(height=16, width=16))),
    "wide": (CLIPImageProcessorPil, dict(size=dict(shortest_edge=10), crop_size=dict(height=13, width=12))),
}
for name, (kind, options) in configurations.items():
    processor = kind(**options)
    values = json.loads(processor.to_json_string())
    (HERE / f"{name}.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    pixels = processor(images=rgb, return_tensors="np")["pixel_values"][0]
    prepared[name] = np.ascontiguousarray(pixels.transpose(1, 2, 0).astype(np.float32))
save_file(prepared, HERE / "preparation.safetensors")
