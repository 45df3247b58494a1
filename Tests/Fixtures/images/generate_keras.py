"""Makes small random Keras models as HDF5 files and what Keras computes with them.

usage: KERAS_BACKEND=torch python generate_keras.py        (Keras 3.15, torch 2.13; writes next to itself)
"""

from pathlib import Path

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
    return stream


def write(name, model, seed):
    stream = randomize(model, seed)
    x = stream.normal(0, 1, (3,) + model.input_shape[1:]).astype(np.float32)
    y = keras.ops.convert_to_numpy(model(x, training=False)).astype(np.float32)
    model.save(HERE / f"{name}.h5", include_optimizer=False)
    save_file({"x": x, "y": np.ascontiguousarray(y)}, HERE / f"{name}.safetensors")


inputs = L.Input((12, 11, 3))
x = L.ZeroPadding2D(((1, 0), (2, 1)))(inputs)
x = L.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
x = L.BatchNormalization()(x)
left = L.SeparableConv2D(6, 3, padding="same", use_bias=True)(x)
left = L.LeakyReLU(negative_slope=0.2)(left)
right = L.DepthwiseConv2D((2, 3), padding="same", depth_multiplier=2, activation="tanh")(x)
right = L.Conv2D(6, 1, groups=2, activation="gelu")(right)
x = L.Add()([left, right])
x = L.Concatenate()([x, L.Multiply()([left, right])])
x = L.MaxPooling2D(2, padding="same")(x)
x = L.Permute((2, 1, 3))(x)
x = L.Conv2D(7, (2, 3), dilation_rate=(1, 1), activation="swish", name="late")(x)
x = L.GlobalAveragePooling2D()(x)
x = L.Dropout(0.3)(x)
write("keras-graph", keras.Model(inputs, L.Dense(5, activation="softmax")(x)), 1)

write("keras-chain", keras.Sequential([
    L.Input((20, 4)),
    L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="elu"),
    L.AveragePooling1D(2, padding="same"),
    L.Conv1D(8, 4, strides=2, activation="softplus"),
    L.Reshape((-1, 4)),
    L.Dense(5, activation="sigmoid"),
    L.BatchNormalization(scale=False),
    L.ReLU(max_value=6.0),
    L.Flatten(),
    L.Dense(9, use_bias=False, activation="selu"),
]), 2)
