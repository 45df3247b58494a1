"""Short WAV files and what transformers makes of one of them.

usage: python generate.py      (transformers 5.23.0, numpy)
"""

import struct
import wave
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from transformers import WhisperFeatureExtractor

HERE = Path(__file__).resolve().parent
random = np.random.default_rng(3)
RATE, COUNT = 16000, 4000
time = np.arange(COUNT) / RATE
sound = 0.4 * np.sin(2 * np.pi * (300 + 2000 * time) * time) + 0.05 * random.normal(size=COUNT)
sound = np.clip(sound, -0.99, 0.99)


def write(name, channels, bits, columns):
    with wave.open(str(HERE / name), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(RATE)
        whole = np.round(columns * (1 << bits - 1)).astype(np.int64)
        if bits == 8:
            data = (whole + 128).astype(np.uint8).tobytes()
        else:
            data = b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in whole.ravel())
        file.writeframes(data)
    return whole / (1 << bits - 1)


mono = write("mono16.wav", 1, 16, sound)
few = sound[:200]
kept = {"mono16": mono, "mono8": write("mono8.wav", 1, 8, few)}
both = write("stereo24.wav", 2, 24, np.stack([few, few[::-1] * 0.5], 1))
kept["stereo24"] = both.mean(1)
floats = few.astype("<f4")
body = floats.tobytes()
(HERE / "float32.wav").write_bytes(
    b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt "
    + struct.pack("<IHHIIHH", 16, 3, 1, RATE, RATE * 4, 4, 32) + b"data"
    + struct.pack("<I", len(body)) + body)
kept["float32"] = floats
expected = {key: np.ascontiguousarray(value.astype(np.float32)) for key, value in kept.items()}
for bands in (80, 128):
    extractor = WhisperFeatureExtractor(feature_size=bands)
    features = extractor(expected["mono16"], sampling_rate=RATE, return_tensors="np")
    # The rest of the 30 seconds is silence.
    expected[f"mel{bands}"] = np.ascontiguousarray(features["input_features"][0].T[:40])
save_file(expected, HERE / "expected.safetensors")
