"""Make small Keras networks and what TensorFlow says about them in float64: families/keras_NAME.onnx and .npz.

    python tests/parity/make_keras.py [NAME...]     # needs tensorflow, keras 3, tf2onnx, onnx

The blocks of keras.applications (channels last, "same" padding, rescaling inside), a signal network and recurrent
layers, exported by tf2onnx, and one by `model.export(format="onnx")`. The .npz has the input (`input_NAME`), the output
(`output_NAME`) and d output[:, 1] / d input (`gradient_NAME`), like those of make_families.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from keras import layers as kl

FOLDER = Path(__file__).resolve().parent / "families"


def unit(x, filters, size=3, strides=1, activation="relu", padding="same"):
    x = kl.Conv2D(filters, size, strides, padding=padding, use_bias=False)(x)
    return kl.Activation(activation)(kl.BatchNormalization()(x))


def head(x, activation="softmax"):
    return kl.Dense(4, activation=activation)(kl.GlobalAveragePooling2D()(x))


def mobile(image):
    """MobileNetV2: an even image padded by hand before strided depthwise kernels, ReLU6, a residual."""
    x = unit(image, 8, strides=2, activation="relu6")
    y = kl.DepthwiseConv2D(3, 2, padding="valid", use_bias=False)(kl.ZeroPadding2D(((0, 1), (0, 1)))(x))
    y = kl.ReLU(6.0)(kl.BatchNormalization()(y))
    y = kl.BatchNormalization()(kl.Conv2D(12, 1, use_bias=False)(y))
    z = kl.DepthwiseConv2D(3, padding="same")(unit(y, 24, 1, activation="relu6"))
    return head(kl.add([y, kl.BatchNormalization()(kl.Conv2D(12, 1)(kl.ReLU(6.0)(z)))]))


def dense(image):
    """DenseNet: concatenations, pre-activation, average pooling."""
    x = kl.MaxPooling2D(3, 2)(kl.ZeroPadding2D(1)(unit(image, 8, 3, 2)))
    for _ in range(2):
        y = kl.Conv2D(6, 3, padding="same", use_bias=False)(kl.Activation("relu")(kl.BatchNormalization()(x)))
        x = kl.concatenate([x, y])
    return head(kl.Activation("relu")(kl.BatchNormalization()(kl.AveragePooling2D(2)(kl.Conv2D(8, 1)(x)))))


def xception(image):
    """Xception: separable kernels, "same" max pooling of an odd size, a strided shortcut."""
    x = unit(image, 8, strides=2, padding="valid")
    short = kl.BatchNormalization()(kl.Conv2D(12, 1, 2, padding="same", use_bias=False)(x))
    y = kl.BatchNormalization()(kl.SeparableConv2D(12, 3, padding="same", use_bias=False)(x))
    return head(kl.add([short, kl.MaxPooling2D(3, 2, padding="same")(y)]))


def inception(image):
    """Inception and NASNet: "same" average pooling (which leaves the border out), 1 x 7 kernels, a shifted crop."""
    x = unit(image, 8, strides=2)
    a, b = unit(unit(x, 6, (1, 7)), 6, (7, 1)), unit(kl.AveragePooling2D(3, 1, padding="same")(x), 6, 1)
    shifted = kl.Cropping2D(((1, 0), (1, 0)))(kl.ZeroPadding2D(((0, 1), (0, 1)))(x))
    return head(kl.concatenate([a, b, kl.AveragePooling2D(1, 1)(shifted)]))


def efficient(image):
    """EfficientNet: rescaling, swish, squeeze and excitation."""
    x = unit(kl.Rescaling(1 / 64, offset=-0.5)(image), 8, strides=2, activation="swish")
    gate = kl.Reshape((1, 1, 8))(kl.GlobalAveragePooling2D()(x))
    gate = kl.Conv2D(8, 1, activation="sigmoid")(kl.Conv2D(3, 1, activation="swish")(gate))
    return head(unit(kl.multiply([x, gate]), 12, 1, activation="swish"), None)


def convnext(image):
    """ConvNeXt: layer normalisation over channels, dense layers on channels, tanh GELU, a layer scale."""
    x = kl.LayerNormalization(epsilon=1e-6)(kl.Conv2D(8, 4, 4)(image))
    y = kl.LayerNormalization(epsilon=1e-6)(kl.DepthwiseConv2D(7, padding="same")(x))
    y = kl.Dense(8)(kl.Activation(lambda v: keras.activations.gelu(v, approximate=True))(kl.Dense(24)(y)))
    return kl.Dense(4)(kl.LayerNormalization()(kl.GlobalAveragePooling2D()(kl.add([x, kl.Rescaling(0.3)(y)]))))


def gelu(image):
    """The exact GELU, behind a convolution and between dense layers: tf2onnx writes Erfc, which ONNX does not have."""
    x = kl.LayerNormalization(epsilon=1e-6)(kl.Conv2D(8, 3, 2, activation="gelu")(image))
    return head(kl.add([x, kl.Dense(8)(kl.Dense(24, activation="gelu")(x))]), None)


def unet(image):
    """Up and down: transposed convolutions, bilinear enlarging, a map as output, summed to a score."""
    a = unit(image, 6)
    b = unit(kl.MaxPooling2D()(a), 8)
    up = kl.concatenate(
        [a, kl.Conv2DTranspose(6, 3, 2, padding="same")(b), kl.UpSampling2D(interpolation="bilinear")(b)]
    )
    return kl.GlobalMaxPooling2D()(kl.Conv2D(4, 1)(kl.LeakyReLU(0.1)(up)))


def signal(trace):
    """A signal (time, leads): strided and dilated kernels, causal padding."""
    x = kl.BatchNormalization()(kl.Conv1D(8, 5, 2, padding="same", activation="relu")(trace))
    x = kl.MaxPooling1D(2)(kl.Conv1D(8, 3, dilation_rate=2, padding="causal", activation="elu")(x))
    return kl.Dense(4, activation="sigmoid")(kl.GlobalAveragePooling1D()(x))


def lstm(trace):
    x = kl.Bidirectional(kl.LSTM(6, return_sequences=True))(trace)
    return kl.Dense(4, activation="softmax")(kl.LSTM(5)(x))


def gru(trace):
    x = kl.Bidirectional(kl.GRU(6, return_sequences=True))(trace)
    return kl.Dense(4)(kl.GRU(5, reset_after=False)(x))


IMAGE, TRACE = ("image", (24, 20, 3)), ("signal", (14, 3))
NETWORKS = {
    "mobile": (mobile, IMAGE),
    "dense": (dense, IMAGE),
    "xception": (xception, IMAGE),
    "inception": (inception, IMAGE),
    "efficient": (efficient, IMAGE),
    "convnext": (convnext, IMAGE),
    "gelu": (gelu, IMAGE),
    "unet": (unet, IMAGE),
    "signal": (signal, TRACE),
    "lstm": (lstm, TRACE),
    "gru": (gru, TRACE),
}


def build(name: str, floats: str, weights: list[np.ndarray] | None = None) -> keras.Model:
    keras.config.set_floatx(floats)
    keras.config.set_dtype_policy(floats)
    make, (label, row) = NETWORKS[name]
    given = keras.Input(row, name=label)
    network = keras.Model(given, make(given), name=name)
    if weights is not None:
        network.set_weights(weights)
    return network


def randomise(network: keras.Model, rng: np.random.Generator) -> list[np.ndarray]:
    """Statistics, scales and biases that are not zero and one."""
    for weight in network.weights:
        kind = weight.path.rsplit("/", 1)[-1]
        if kind in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.6, 1.4, weight.shape))
        elif kind in ("moving_mean", "beta", "bias"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return network.get_weights()


def references(network: keras.Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(image)
        scores = network(image, training=False)
        target = tf.reduce_sum(scores[:, 1])
    return scores.numpy(), tape.gradient(target, image).numpy()


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def convert(network: keras.Model, label: str, row: tuple[int, ...]) -> onnx.ModelProto:
    signature = [tf.TensorSpec((None, *row), tf.float32, name=label)]
    call = tf.function(lambda image: network(image, training=False), input_signature=signature)
    model, _ = tf2onnx.convert.from_function(call, input_signature=signature, opset=17)
    (found,) = model.graph.input
    rename(model, {found.name: label, model.graph.output[0].name: "scores"})
    return model


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        node.input[:] = [names.get(each, each) for each in node.input]
        node.output[:] = [names.get(each, each) for each in node.output]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output]:
        value.name = names.get(value.name, value.name)
    del model.graph.value_info[:], model.metadata_props[:]


def make(name: str) -> str:
    label, row = NETWORKS[name][1]
    for seed in range(200):
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        single = build(name, "float32")
        weights = randomise(single, rng)
        x = rng.standard_normal((2, *row)).astype(np.float32) * (40 if name == "efficient" else 1)
        found = references(single, x)
        exact = references(build(name, "float64", weights), x.astype(np.float64))
        worst = max(relative(a, b) for a, b in zip(found, exact, strict=True))
        if worst < 2e-6:
            break
    else:
        raise SystemExit(f"{name}: no seed where float32 agrees with float64; last error {worst}")
    network = build(name, "float32", weights)
    path = FOLDER / f"keras_{name}.onnx"
    onnx.save(convert(network, label, row), path)
    values = {f"input_{label}": x, "output_scores": exact[0], f"gradient_{label}": exact[1]}
    np.savez_compressed(path.with_suffix(".npz"), **{key: v.astype(np.float32) for key, v in values.items()})
    return f"{name}: seed {seed}, TensorFlow's float32 {worst:.1e}, {path.stat().st_size} bytes"


def main() -> None:
    for name in sys.argv[1:] or NETWORKS:
        print(make(name), flush=True)


if __name__ == "__main__":
    main()
