"""Compares what Keras gives for an .h5 that we wrote with the self-test of the bundle of the same weights.

usage: KERAS_BACKEND=torch python keras_outputs.py BUNDLE MODEL.h5        (Keras 3; prints the largest difference)
"""

import json
import sys

import keras
import numpy as np

bundle, path = sys.argv[1:]
with open(bundle, "rb") as file:
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
test = json.loads(header["__metadata__"]["manifest"])["self_test"]
model = keras.models.load_model(path, compile=False)


def limit(tensor):
    """Rows of the smallest embedding that reads an input, in the model or in models inside it; None for numbers."""
    found = []

    def search(model, name):
        for layer in model.layers:
            for node in layer._inbound_nodes:
                reads = [t for t in node.input_tensors if t._keras_history.operation.name == name]
                if reads and isinstance(layer, keras.layers.Embedding):
                    found.append(layer.input_dim)
                elif reads and isinstance(layer, keras.Model):
                    for inner in layer.inputs:
                        search(layer, inner._keras_history.operation.name)

    search(model, tensor._keras_history.operation.name)
    if not found and isinstance(model.layers[0], keras.layers.Embedding):
        found.append(model.layers[0].input_dim)
    return min(found, default=None)


# docs/bundle-format.md, section 6.
place, inputs = 0, []
for tensor in model.inputs:
    shape = tuple(tensor.shape[1:])
    index = np.arange(place, place + int(np.prod(shape)), dtype=np.uint64)
    place += len(index)
    numbers = (index + 1) * 2654435761 % 2**32
    rows = limit(tensor)
    ids = (numbers * rows // 2**32).astype(np.int32) if rows else None
    values = (numbers.astype(np.float64) / 2**31 - 1).astype(np.float32) if ids is None else ids
    inputs.append(values.reshape((1,) + shape))
results = model(inputs if len(inputs) > 1 else inputs[0], training=False)
results = results if isinstance(results, (list, tuple)) else [results]
output = np.concatenate([keras.ops.convert_to_numpy(y).ravel() for y in results])
difference = np.abs(output[test["indices"]] - np.array(test["values"])).max()
print(f"{difference:.2e}")
sys.exit(0 if difference < 1e-4 * max(1.0, np.abs(output).max()) else 1)
