"""Files of earlier versions, and what their models answered when they were written.

`python tests/frozen.py FOLDER` writes those of this version, on the running backend.
With the files of all three, `tar cJf tests/frozen/VERSION.tar.xz -C FOLDER .` packs
them. An archive that is there stays: it is what later versions are held to.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from conftest import BACKEND, numpy, tiny_images, tiny_model

from widenet_keras.optimizers.optimizers import SGD

# Nothing is drawn: which random numbers a version draws is its own affair.
STILL = {"dropout": 0.0, "router_noise": 0.0, "steps": 3}
FIELDS = {
    "widenet": {},
    "vit": {"kind": "vit"},
    "vit_moe": {"kind": "vit_moe"},
    # Everything that is not the default, and choices that are dropped.
    "odd": {
        "sharing": "cycle",
        "unique_blocks": 2,
        "moe_blocks": (1,),
        "shared_norms": True,
        "router": "grouped_top_1",
        "images_per_group": 2,
        "capacity_factor": 0.7,
        "activation": "silu",
        "output_activation": "gelu",
        "class_token": False,
        "representation": False,
        "router_z_loss_weight": 0.1,
    },
    "int8": {"width": 16, "heads": 4, "expert_dim": 24},
}


def images_and_labels():
    """Returns what the models answer for and are trained on."""
    return tiny_images(4, seed=5), np.array([3, 0, 4, 1])


def answers(model):
    """Returns a model's logits and routing, and its weights after a batch.

    Weights of a model that cannot be trained are left out.
    """
    images, labels = images_and_labels()
    logits, record = model(images, training=False, return_routing=True)
    found = {"logits": numpy(logits)}
    if record:
        found |= {
            name: np.swapaxes(numpy(getattr(record, name)), 2, 3)
            for name in ("experts", "gates")
        }
    if not model.quantization:
        # JAX would compile operation by operation.
        model.jit_compile = BACKEND == "jax"
        logs = model.fit(images, labels, batch_size=4, shuffle=False, verbose=0).history
        found |= {f"log_{name}": values[0] for name, values in logs.items()}
        found |= {str(i): numpy(w) for i, w in enumerate(model.weights)}
    return found


def write(name, folder):
    """Writes the file of a kind of model, and beside it what the model answers."""
    path = folder / f"{name}_{BACKEND}.keras"
    model = tiny_model(**{**STILL, **FIELDS[name]})
    if name == "int8":
        model.quantize("int8")
    else:
        model.compile(SGD(0.1, weight_decay=0.02), jit_compile=False)
        # A first batch, so that the file has an optimizer with a state.
        answers(model)
    model.save(path)
    loaded = keras.saving.load_model(path)
    np.savez_compressed(path.with_suffix(".npz"), **answers(loaded))


if __name__ == "__main__":
    for name in FIELDS:
        write(name, Path(sys.argv[1]))
