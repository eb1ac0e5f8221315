"""Reads the program that XLA makes of a training step for an H100, without a GPU.

    KERAS_BACKEND=jax python benchmarks/gpu_program.py

prints what a step of the depth keeps for its gradients, what the kernels of a whole
training step read and write, and the memory for what is neither weight nor input: of a
loop over the depth and of steps taken one by one. XLA compiles for a card that is not
there (needs jax-cuda12-plugin and jax-cuda12-pjrt of JAX's version,
nvidia-cuda-nvcc-cu12, nvidia-cuda-runtime-cu12, nvidia-nvjitlink-cu12, installed with
--no-deps). Attention stands there as a kernel of its own with the traffic and the
residuals of cuDNN's, which cannot be built without a card.
"""

import argparse
import functools
import json
import math
import os
import re
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
from jax.experimental import topologies

import widenet_keras
from widenet_keras.utils import numerics

H100 = """
gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32
shared_memory_per_block: 49152 shared_memory_per_core: 233472
threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
registers_per_block_limit: 65536 } platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 } runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
BYTES |= {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
# What moves nothing: names for other values, and what is counted by its parts.
FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "call",
    "conditional",
    "after-all",
    "partition-id",
    "opt-barrier",
    "copy-done",
    "async-done",
}


def parsed():
    """Returns the arguments of the command line."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--presets", nargs="+", default=["widenet_b16"])
    arguments.add_argument("--scans", nargs="+", default=["always", "never"])
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--dropout", type=float, default=0.0)
    arguments.add_argument("--engine", default="slots")
    arguments.add_argument("--kept-only", action="store_true")
    arguments.add_argument("--json", metavar="FILE", help="write flat rows here")
    return arguments.parse_args()


def classifier(preset, **fields):
    """Returns a compiled classifier whose training step can be traced."""
    model = widenet_keras.ImageClassifier.from_preset(
        preset, dtype="mixed_bfloat16", **fields
    )
    model.compile()
    model.optimizer.build(model.trainable_variables)
    model._symbolic_build(data_batch=inputs(model, 2, jnp.zeros))
    return model


def inputs(model, batch, make=jax.ShapeDtypeStruct):
    """Returns images and labels of a batch, or what they are like."""
    shape = (batch, *model.config.image_shape)
    return make(shape, jnp.float32), make((batch,), jnp.int32)


def training_step(model):
    """Returns the function of a training step and the state that it takes."""
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    return model.train_step, state


def kept_per_step(model, batch):
    """Returns the bytes that a step of a loop over the depth keeps for its gradients.

    The loop of the forward pass stacks what the loop of the gradient reads.
    """
    step, state = training_step(model)
    jaxpr = jax.make_jaxpr(step)(state, inputs(model, batch))
    loops = [e for e in equations(jaxpr.jaxpr) if e.primitive.name == "scan"]
    loop = next(e for e in loops if e.params["length"] == model.config.steps)
    one = loop.params["jaxpr"].out_avals
    pairs = zip((v.aval for v in loop.outvars), one, strict=True)
    stacked = [every for every, each in pairs if every.ndim > each.ndim]
    sizes = (aval.size * aval.dtype.itemsize for aval in stacked)
    return sum(sizes) // model.config.steps


def equations(jaxpr):
    """Yields all equations of a jaxpr, those of calls inside it as well."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if equation.primitive.name != "scan" and hasattr(inner, "eqns"):
                yield from equations(inner)


@functools.partial(jax.custom_vjp)
def fused_attention(query, key, value):
    """Reads and writes what a fused attention kernel does; computes something else."""
    return _fused(query, key, value)[0]


def _alone(values):
    """Keeps XLA from fusing a kernel with what is around it."""
    return jax.lax.optimization_barrier(values)


def _fused(query, key, value):
    query, key, value = _alone((query, key, value))
    output = query + key * value
    return _alone((output, jnp.sum(output.astype("float32"), -1)))


def _fused_forward(query, key, value):
    output, rows = _fused(query, key, value)
    return output, (query, key, value, output, rows)


def _fused_backward(kept, upstream):
    query, key, value, output, rows, upstream = _alone((*kept, upstream))
    shared = upstream * output * rows[..., None].astype(upstream.dtype)
    return _alone((shared * key, shared * value, shared * query))


fused_attention.defvjp(_fused_forward, _fused_backward)


def attended(query, key, value):
    """As `numerics.attended`."""
    mixed = fused_attention(query, key, value)
    return mixed.reshape(*mixed.shape[:2], -1)


def program(model, batch):
    """Returns the training step, compiled for an H100."""
    topology = topologies.get_topology_desc(
        "h100", "cuda", target_config=H100, topology="1x1x1"
    )
    one = jax.sharding.SingleDeviceSharding(topology.devices[0])

    def spec(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one)

    step, state = training_step(model)
    arguments = jax.tree.map(spec, (state, inputs(model, batch)))
    lowered = jax.jit(step, donate_argnums=0).lower(*arguments)
    return lowered.compile(compiler_options={"xla_gpu_autotune_level": 0})


INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


def bytes_of(shape):
    """Returns the bytes of a shape as HLO writes it, of a tuple those of all parts."""
    total = 0
    for kind, sizes in ARRAY.findall(shape):
        if kind in BYTES:
            numbers = [int(n) for n in sizes.split(",") if n]
            total += BYTES[kind] * math.prod(numbers)
    return total


class Program:
    """The computations of an HLO module, and what they move."""

    def __init__(self, text):
        self.computations, self.entry = {}, None
        for line in text.splitlines():
            if line.endswith("{") and not line.startswith((" ", "HloModule")):
                name = line.removeprefix("ENTRY ").split()[0].lstrip("%")
                self.computations[name] = current = {}
                if line.startswith("ENTRY"):
                    self.entry = name
            elif found := INSTRUCTION.match(line):
                name, rest = found.groups()
                current[name] = _instruction(line, rest)

    def moved(self, name=None):
        """Returns the bytes that the kernels of a computation read and write."""
        total = 0
        for instruction in self.computations[name or self.entry].values():
            if instruction["op"] == "while":
                turns = int(re.search(r'"n":"(\d+)"', instruction["text"]).group(1))
                total += turns * self.moved(_called(instruction, "body"))
            elif instruction["op"] in ("call", "conditional"):
                total += self.moved(_called(instruction, "to_apply"))
            elif instruction["op"] not in FREE:
                total += self._kernel(instruction, name or self.entry)
        return total

    def _kernel(self, instruction, name):
        """Returns what a kernel reads and writes; of a slice, only the slice."""
        around = self.computations[name]
        operands = [around[each]["shape"] for each in instruction["operands"]]
        if instruction["op"] != "fusion":
            return _moved_by(instruction, operands)
        body = self.computations[_called(instruction, "calls")]
        total = 0
        for number, operand in enumerate(operands):
            [parameter] = [
                n
                for n, i in body.items()
                if i["op"] == "parameter" and f"parameter({number})" in i["text"]
            ]
            total += self._read(parameter, operand, body)
        return total + self._written(body)

    def _read(self, parameter, shape, body, depth=0):
        """Returns the bytes that a fusion reads of one of its parameters."""
        users = [i for i in body.values() if parameter in i["operands"]]
        total = 0
        for user in users:
            if user["op"] in ("dynamic-slice", "gather") and (
                user["operands"][0] == parameter
            ):
                total += bytes_of(user["shape"])
            elif user["op"] == "dynamic-update-slice" and (
                user["operands"][0] == parameter
            ):
                continue
            elif user["op"] == "bitcast" and depth < 4:
                total += self._read(user["name"], shape, body, depth + 1)
            else:
                return bytes_of(shape)
        return min(total, bytes_of(shape))

    def _written(self, body):
        """Returns the bytes that a fusion writes."""
        root = next(i for i in body.values() if i["root"])
        outputs = [root]
        if root["op"] == "tuple":
            outputs = [body[name] for name in root["operands"]]
        total = 0
        for output in outputs:
            while output["op"] == "bitcast":
                output = body[output["operands"][0]]
            if output["op"] == "dynamic-update-slice":
                total += bytes_of(body[output["operands"][1]]["shape"])
            else:
                total += bytes_of(output["shape"])
        return total


def _moved_by(instruction, operands):
    if instruction["op"] in ("dynamic-slice", "gather"):
        return 2 * bytes_of(instruction["shape"])
    if instruction["op"] == "dynamic-update-slice":
        return 2 * bytes_of(operands[1])
    return bytes_of(instruction["shape"]) + sum(map(bytes_of, operands))


def _instruction(line, rest):
    """Returns what is read of a line: shape, operation, operands."""
    shape, rest = _shape_and_rest(rest)
    op = rest.split("(", 1)[0].strip()
    inside = _parenthesised(rest[len(op) :])
    return {
        "name": INSTRUCTION.match(line).group(1),
        "root": line.lstrip().startswith("ROOT"),
        "shape": shape,
        "op": op,
        "operands": re.findall(r"%([\w.\-]+)", inside),
        "text": rest,
    }


def _shape_and_rest(text):
    if text.startswith("("):
        shape = _parenthesised(text)
        return shape, text[len(shape) + 2 :].lstrip()
    shape, _, rest = text.partition(" ")
    return shape, rest


def _parenthesised(text):
    """Returns what stands in the first parentheses of a text."""
    depth, start = 0, text.index("(")
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + 1 : place]
    return text[start + 1 :]


def _called(instruction, word):
    return re.search(rf"{word}=%?([\w.\-]+)", instruction["text"]).group(1)


def rows(arguments):
    """Yields a row per preset and way of taking the steps."""
    fields = {"dropout": arguments.dropout}
    for preset in arguments.presets:
        for scan in arguments.scans:
            own = {"engine": arguments.engine} if "vit_b" not in preset else {}
            model = classifier(preset, scan=scan, **fields, **own)
            row = {"model": preset, "scan": scan, "batch": arguments.batch}
            row |= {"dropout": arguments.dropout, "jax": jax.__version__}
            if scan == "always":
                kept = kept_per_step(model, 8) * arguments.batch // 8
                row["kept_gb_per_step"] = round(kept / 1e9, 3)
            if not arguments.kept_only:
                start = time.perf_counter()
                compiled = program(model, arguments.batch)
                row["compile_seconds"] = round(time.perf_counter() - start, 1)
                text = compiled.as_text()
                row["moved_gb"] = round(Program(text).moved() / 1e9, 1)
                memory = compiled.memory_analysis()
                row["temporaries_gb"] = round(memory.temp_size_in_bytes / 1e9, 1)
            yield row


def main():
    """Prints the rows as they are found."""
    arguments = parsed()
    numerics.attended = attended
    found = []
    for row in rows(arguments):
        print(row, flush=True)
        found.append(row)
        if arguments.json:
            with open(arguments.json, "w", encoding="utf-8") as file:
                json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
