"""Makes small random Keras models over sequences, of several inputs and results, and what Keras computes with them.

usage: KERAS_BACKEND=torch python generate.py        (Keras 3.15, torch 2.13, h5py; writes next to itself)
"""

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers as L
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent


def randomize(model, seed):
    stream = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if "variance" in weight.path:
            value = stream.uniform(0.5, 2, shape)
        elif len(shape) == 1:
            value = stream.uniform(-0.5, 0.5, shape) + (1 if "gamma" in weight.path else 0)
        else:
            value = stream.normal(0, (1.5 / max(1, np.prod(shape[:-1]))) ** 0.5, shape)
        weight.assign(value.astype(np.float32))


def numbers(result):
    return np.ascontiguousarray(keras.ops.convert_to_numpy(result).astype(np.float32))


def expected(model, inputs):
    """What Keras gives, by the names of the output layers; one archive of samples for our program."""
    arrays = [inputs[i.name] for i in model.inputs]
    results = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    results = results if isinstance(results, (list, tuple)) else [results]
    return {name: numbers(y) for name, y in zip(model.output_names, results)}


def save(name, model, suffix):
    """Archives are stored again, deflated."""
    path = HERE / f"{name}.{suffix}"
    if suffix == "h5":
        model.save(path, include_optimizer=False)
        return
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries.items():
            archive.writestr(zipfile.ZipInfo(entry), content, zipfile.ZIP_DEFLATED)


def write(name, model, inputs, formats):
    for suffix in formats:
        save(name, model, suffix)
    save_file(expected(model, inputs), HERE / f"{name}.safetensors")
    np.savez(HERE / f"{name}.npz", **inputs)


def text_model():
    ids = L.Input((9,), dtype="int32", name="ids")
    x = L.Embedding(23, 6, name="words")(ids)
    x = L.Bidirectional(
        L.LSTM(5, return_sequences=True, recurrent_activation="hard_sigmoid", name="both"), name="ways")(x)
    x = L.LayerNormalization(epsilon=1e-4, name="norm")(x)
    x = L.TimeDistributed(L.Dense(7, activation="relu", name="inner"), name="each")(x)
    x = L.GRU(6, name="last")(x)
    return keras.Model(ids, L.Dense(3, activation="softmax", name="label")(x), name="text")


stream = np.random.default_rng(0)
text = text_model()
randomize(text, 1)
ids = {"ids": stream.integers(0, 23, (4, 9)).astype(np.int32)}
write("text", text, ids, ("h5", "keras"))

x = L.Input((6, 4), name="steps")
variants = {
    "gru_before": L.GRU(3, reset_after=False),
    "gru_before_sequence": L.GRU(3, reset_after=False, return_sequences=True, go_backwards=True),
    "gru_plain": L.GRU(3, use_bias=False, activation="relu"),
    "lstm_back": L.LSTM(5, return_sequences=True, go_backwards=True),
    "lstm_plain": L.LSTM(3, use_bias=False, activation="elu", recurrent_activation="tanh"),
    "simple": L.SimpleRNN(4, return_sequences=True),
    "simple_linear": L.SimpleRNN(2, activation="linear", use_bias=False),
    "sum": L.Bidirectional(L.GRU(3), merge_mode="sum"),
    "mul": L.Bidirectional(L.SimpleRNN(3, return_sequences=True), merge_mode="mul"),
    "ave": L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode="ave"),
    "other": L.Bidirectional(
        L.LSTM(2), backward_layer=L.GRU(3, go_backwards=True), merge_mode="concat"),
    "norm": L.LayerNormalization(center=False),
    "each_lstm": L.TimeDistributed(L.LSTM(2)),
}
outputs = []
for name, layer in variants.items():
    value = L.Reshape((6, 2, 2))(x) if name == "each_lstm" else x
    layer.name = name
    outputs.append(layer(value))
model = keras.Model(x, outputs, name="variants")
randomize(model, 2)
write("variants", model, {"steps": stream.normal(0, 1, (3, 6, 4)).astype(np.float32)}, ("keras",))

# One encoder for two texts, a layer that reads its own result, a second input of numbers, two results.
ids = L.Input((5,), dtype="int32", name="tokens")
y = L.Embedding(11, 4, name="rows")(ids)
y = L.Conv1D(6, 3, padding="same", activation="relu", name="windows")(y)
y = L.BatchNormalization(name="norm")(y)
y = L.LSTM(4, name="memory")(y)
encoder = keras.Model(ids, y, name="encoder")
head = keras.Sequential([L.Input((4,)), L.Dense(4, activation="tanh", name="mix")], name="head")
left = L.Input((5,), dtype="int32", name="left")
right = L.Input((5,), dtype="int32", name="right")
extra = L.Input((3,), name="extra")
a, b = head(encoder(left)), head(encoder(right))
again = L.Dense(4, activation="softsign", name="again")
a, b = again(again(a)), again(b)
product = L.Multiply(name="product")([a, b])
whole = L.Concatenate(name="whole")([product, L.Average(name="mean")([a, b]), extra])
label = L.Dense(3, activation="softmax", name="label")(whole)
score = L.Dense(2, name="score")(whole)
model = keras.Model([left, right, extra], [label, score], name="pairs")
randomize(model, 3)
pairs = {
    "left": stream.integers(0, 11, (6, 5)), "right": stream.integers(0, 11, (6, 5)),
    "extra": stream.normal(0, 1, (6, 3)).astype(np.float32),
}
write("pairs", model, pairs, ("h5", "keras"))

# A layer that is not known.
model = keras.Sequential(
    [L.Input((6, 4)), L.UpSampling1D(2), L.GRU(3), L.Dense(16), L.Dense(2)], name="unknown")
randomize(model, 4)
save("unknown", model, "keras")

# Steps of open number.
steps = L.Input((None, 3), name="steps")
model = keras.Model(steps, L.Dense(2, name="score")(L.LSTM(4, name="memory")(steps)), name="open")
randomize(model, 6)
samples = {"steps": np.random.default_rng(6).normal(0, 1, (4, 6, 3)).astype(np.float32)}
write("open", model, samples, ("keras",))

# Steps that are masked, by ids and by numbers; two texts go through the same layers.
words = L.Embedding(9, 4, mask_zero=True, name="words")
ways = L.Bidirectional(L.LSTM(3, return_sequences=True, name="way"), name="ways")
norm = L.LayerNormalization(name="norm")
middle = L.GRU(4, return_sequences=True, name="middle")
ids, other = (L.Input((7,), dtype="int32", name=name) for name in ["ids", "other"])
x, y = (L.Dropout(0.2)(middle(norm(ways(words(i))))) for i in [ids, other])
steps = L.Input((5, 3), name="steps")
z = L.Dense(4, name="each")(L.Masking(mask_value=-1.0, name="skip")(steps))
model = keras.Model([ids, other, steps], [
    L.GlobalAveragePooling1D(name="mean")(x), L.LSTM(3, go_backwards=True, name="last")(y),
    L.GRU(3, reset_after=False, name="numbers")(z), L.TimeDistributed(L.Dense(2), name="all")(x),
], name="masked")
randomize(model, 5)
samples = {
    name: np.where(stream.random((5, 7)) < 0.4, 0, stream.integers(1, 9, (5, 7))).astype(np.int32)
    for name in ["ids", "other"]}
samples["steps"] = stream.normal(0, 1, (5, 5, 3)).astype(np.float32)
samples["steps"][stream.random((5, 5)) < 0.4] = -1
write("masked", model, samples, ("keras",))


# The same text model as Keras 2.6 wrote it, where the hard sigmoid has another slope.
def old_gate(x):
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


old = text_model()
old.set_weights(text.get_weights())
for way in (old.get_layer("ways").forward_layer, old.get_layer("ways").backward_layer):
    way.cell.recurrent_activation = old_gate
inputs = dict(np.load(HERE / "text.npz"))
save_file(expected(old, inputs), HERE / "text-keras2.safetensors")


def layer(kind, name, inbound, **configuration):
    return {
        "class_name": kind, "name": name, "config": {"name": name, **configuration},
        "inbound_nodes": [[[i, 0, 0, {}] for i in inbound]] if inbound else [],
    }


lstm = dict(
    name="both", units=5, return_sequences=True, go_backwards=False, use_bias=True,
    activation="tanh", recurrent_activation="hard_sigmoid")
config = {
    "class_name": "Functional", "config": {
        "name": "text", "layers": [
            layer("InputLayer", "ids", [], batch_input_shape=[None, 9], dtype="int32"),
            layer("Embedding", "words", ["ids"], input_dim=23, output_dim=6, mask_zero=False),
            layer("Bidirectional", "ways", ["words"], merge_mode="concat",
                  layer={"class_name": "LSTM", "config": lstm}),
            layer("LayerNormalization", "norm", ["ways"], axis=[2], epsilon=1e-4, center=True, scale=True),
            layer("TimeDistributed", "each", ["norm"], layer={
                "class_name": "Dense",
                "config": {"name": "inner", "units": 7, "activation": "relu", "use_bias": True}}),
            layer("GRU", "last", ["each"], units=6, return_sequences=False, go_backwards=False,
                  use_bias=True, reset_after=True, activation="tanh", recurrent_activation="sigmoid"),
            layer("Dense", "label", ["last"], units=3, activation="softmax", use_bias=True),
        ], "input_layers": [["ids", 0, 0]], "output_layers": [["label", 0, 0]],
    },
}
names = {
    "words": ["words/embeddings:0"],
    "ways": [f"ways/{way}_both/lstm_cell_{i}/{part}:0" for i, way in enumerate(["forward", "backward"], 1)
             for part in ["kernel", "recurrent_kernel", "bias"]],
    "norm": ["norm/gamma:0", "norm/beta:0"],
    "each": ["each/kernel:0", "each/bias:0"],
    "last": ["last/gru_cell/kernel:0", "last/gru_cell/recurrent_kernel:0", "last/gru_cell/bias:0"],
    "label": ["label/kernel:0", "label/bias:0"],
}
with h5py.File(HERE / "text-keras2.h5", "w") as file:
    file.attrs["model_config"] = json.dumps(config)
    file.attrs["keras_version"] = "2.6.0"
    file.attrs["backend"] = "tensorflow"
    root = file.create_group("model_weights")
    root.attrs["layer_names"] = [n.encode() for n in ["ids", *names]]
    root.create_group("ids").attrs["weight_names"] = np.zeros(0)
    for name, weights in names.items():
        group = root.create_group(name)
        group.attrs["weight_names"] = [w.encode() for w in weights]
        values = text.get_layer(name).get_weights()
        assert len(values) == len(weights)
        for weight, value in zip(weights, values):
            group[weight] = value
