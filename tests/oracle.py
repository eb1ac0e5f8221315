"""The oracle: WideNet token by token in float64 NumPy, with its own gradients.

Slow and plain on purpose. It shares no code with the package.
"""

import functools
import itertools
import math

import numpy as np

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
NORM = ("gamma", "beta")


def gelu(x):
    """Tanh GELU."""
    return 0.5 * x * (1 + np.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x**3)))


def gelu_slope(x):
    """Derivative of the tanh GELU."""
    inner = SQRT_2_OVER_PI * (x + 0.044715 * x**3)
    slope = SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x**2)
    return 0.5 * (1 + np.tanh(inner)) + 0.5 * x * slope / np.cosh(inner) ** 2


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "gelu_tanh": gelu,
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * sigmoid(x),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
}


def softmax(logits):
    """Softmax of a vector."""
    e = np.exp(logits - logits.max())
    return e / e.sum()


def layer_norm(x, gamma, beta, epsilon=1e-6):
    """LayerNorm of the last axis."""
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


class MoeOracle:
    """A mixture of experts over (B, T, D), one token at a time.

    Args:
        w: Dict of float64 arrays: router, w1, b1, w2, b2.
        top_k: K.
        capacity_factor: None drops nothing.
        images_per_group: Images that share a capacity.
        groups: 1 for top-K routing, K for grouped top-1.
        output_gelu: Whether a second GELU follows the experts.
    """

    def __init__(
        self,
        w,
        top_k,
        capacity_factor=None,
        images_per_group=1,
        groups=1,
        output_gelu=False,
    ):
        self.w, self.top_k, self.groups = w, top_k, groups
        self.capacity_factor = capacity_factor
        self.images_per_group = images_per_group
        self.output_gelu = output_gelu
        self.experts = w["router"].shape[1]

    def probabilities(self, token):
        """Router probabilities of one token; one softmax per group."""
        logits = token @ self.w["router"]
        return np.concatenate([softmax(g) for g in np.split(logits, self.groups)])

    def wanted(self, probabilities):
        """The experts a token wants, best first or by group; ties to the lower."""
        if self.groups == 1:
            return np.argsort(-probabilities, kind="stable")[: self.top_k]
        size = self.experts // self.groups
        parts = np.split(probabilities, self.groups)
        return np.array([i * size + part.argmax() for i, part in enumerate(parts)])

    def forward(self, x, choices=None):
        """Returns the output; keeps what the gradient needs.

        `choices` freezes who goes where: a dict as `self.choices` after a call.
        """
        batch, tokens, _ = x.shape
        self.x = x
        self.p = np.array([[self.probabilities(t) for t in image] for image in x])
        self.choices = choices or self._queue(batch, tokens)
        y = np.zeros_like(x)
        for (b, t), experts in self.choices["kept"].items():
            for e in experts:
                y[b, t] += self.p[b, t, e] * self._expert(x[b, t], e)
        return y

    def _queue(self, batch, tokens):
        wanted = np.array([[self.wanted(p) for p in image] for image in self.p])
        kept = {(b, t): [] for b in range(batch) for t in range(tokens)}
        dropped = 0
        for first in range(0, batch, self.images_per_group):
            images = range(first, min(first + self.images_per_group, batch))
            room = np.full(self.experts, self._capacity(len(images) * tokens))
            for k in range(self.top_k):
                for b in images:
                    for t in range(tokens):
                        e = wanted[b, t, k]
                        if room[e] > 0:
                            room[e] -= 1
                            kept[b, t].append(e)
                        else:
                            dropped += 1
        total = batch * tokens * self.top_k
        fraction = np.bincount(wanted.ravel(), minlength=self.experts) / total
        return {
            "kept": kept,
            "wanted": wanted,
            "fraction": fraction,
            "dropped": dropped / total,
        }

    def _capacity(self, tokens):
        if self.capacity_factor is None:
            return tokens
        return math.ceil(self.capacity_factor * self.top_k * tokens / self.experts)

    def _expert(self, token, e):
        w = self.w
        hidden = gelu(token @ w["w1"][e] + w["b1"][e])
        output = hidden @ w["w2"][e] + w["b2"][e]
        return gelu(output) if self.output_gelu else output

    def balance_loss(self):
        """E * sum_i f_i P_i of the last forward pass."""
        mean = self.p.mean(axis=(0, 1))
        return self.experts * (self.choices["fraction"] * mean).sum() / self.groups

    def z_loss(self):
        """Mean of the squares of log(sum(exp(logits))), over all experts."""
        logits = self.x @ self.w["router"]
        return np.mean(np.log(np.exp(logits).sum(-1)) ** 2)

    def backward(self, dy, balance_weight=0.0):
        """Gradients of sum(y * dy) + balance_weight * balance loss."""
        w = self.w
        grads = {name: np.zeros_like(value) for name, value in w.items()}
        dx, dp = np.zeros_like(self.x), np.zeros_like(self.p)
        batch, tokens, _ = self.x.shape
        scale = balance_weight * self.experts / (batch * tokens * self.groups)
        dp += scale * self.choices["fraction"]
        for (b, t), experts in self.choices["kept"].items():
            x = self.x[b, t]
            for e in experts:
                before = x @ w["w1"][e] + w["b1"][e]
                hidden = gelu(before)
                out = hidden @ w["w2"][e] + w["b2"][e]
                dp[b, t, e] += dy[b, t] @ (gelu(out) if self.output_gelu else out)
                dout = self.p[b, t, e] * dy[b, t]
                dout = dout * gelu_slope(out) if self.output_gelu else dout
                dbefore = (w["w2"][e] @ dout) * gelu_slope(before)
                grads["w2"][e] += np.outer(hidden, dout)
                grads["b2"][e] += dout
                grads["w1"][e] += np.outer(x, dbefore)
                grads["b1"][e] += dbefore
                dx[b, t] += w["w1"][e] @ dbefore
        for b, t in np.ndindex(batch, tokens):
            p, d = np.split(self.p[b, t], self.groups), np.split(dp[b, t], self.groups)
            dlogits = np.concatenate(
                [q * (g - (q * g).sum()) for q, g in zip(p, d, strict=True)]
            )
            grads["router"] += np.outer(self.x[b, t], dlogits)
            dx[b, t] += w["router"] @ dlogits
        return {**grads, "x": dx}


def weights_by_path(model):
    """Returns a model's weights as float64, by path without the model's name."""
    return {
        weight.path.split("/", 1)[1]: np.array(weight.numpy(), dtype="float64")
        for weight in model.weights
    }


def attention(x, w, path, heads, looks=None):
    """Multi-head attention, one head at a time.

    `looks` is a list that is given what tokens look at, (B, H, T, T).
    """
    q, k, v = (
        x @ w[f"{path}{n}/kernel"] + w[f"{path}{n}/bias"]
        for n in ("query", "key", "value")
    )
    size, value_size = q.shape[-1] // heads, v.shape[-1] // heads
    out = np.zeros_like(v)
    found = np.zeros((len(x), heads, x.shape[1], x.shape[1]))
    for b in range(len(x)):
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            values = slice(h * value_size, (h + 1) * value_size)
            logits = q[b, :, part] @ k[b, :, part].T / math.sqrt(size)
            found[b, h] = [softmax(r) for r in logits]
            out[b, :, values] = found[b, h] @ v[b, :, values]
    if looks is not None:
        looks.append(found)
    return out @ w[f"{path}output/kernel"] + w[f"{path}output/bias"]


def embed(w, config, images):
    """Patches, projection, zero class token, positions; registers, norm."""
    patch, rows = config.patch_size, config.grid[0]
    kernel = w["embedding/projection/kernel"].reshape(-1, config.width)
    tokens = [
        [
            image[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].ravel()
            @ kernel
            + w["embedding/projection/bias"]
            for r in range(rows)
            for c in range(rows)
        ]
        for image in images
    ]
    tokens = np.array(tokens)
    if config.class_token:
        zero = np.zeros((len(images), 1, config.width))
        tokens = np.concatenate([zero, tokens], axis=1)
    tokens = tokens + w["embedding/position"]
    if config.registers:
        first = int(config.class_token)
        registers = np.stack([w["embedding/registers"]] * len(images))
        tokens = np.concatenate([tokens[:, :first], registers, tokens[:, first:]], 1)
    return (
        norm(tokens, w, "embedding/norm/", config) if config.embedding_norm else tokens
    )


def norm(x, w, path, config):
    """LayerNorm with the weights at a path."""
    return layer_norm(x, w[f"{path}gamma"], w[f"{path}beta"], config.norm_epsilon)


def product(x, w, path):
    """x @ kernel + bias with the weights at a path."""
    return x @ w[f"{path}/kernel"] + w[f"{path}/bias"]


def attention_pooling(x, w, heads, activation, config):
    """One query over the tokens, one image and one head at a time; then an MLP."""
    path, size = "head/attention/", x.shape[-1] // heads
    key, value = product(x, w, f"{path}key"), product(x, w, f"{path}value")
    found = np.zeros((len(x), x.shape[-1]))
    for b in range(len(x)):
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            logits = key[b, :, part] @ w[f"{path}query"][part] / math.sqrt(size)
            found[b, part] = softmax(logits) @ value[b, :, part]
    found = product(found, w, f"{path}output")
    hidden = product(norm(found, w, f"{path}norm/", config), w, f"{path}hidden")
    return found + product(activation(hidden), w, f"{path}outer")


def pooled(x, w, config):
    """Final norm and pooling."""
    if not config.norm_after_pooling:
        x = norm(x, w, "head/norm/", config)
    patches = x[:, int(config.class_token) + config.registers :]
    if config.pooling == "mean":
        x = x.mean(axis=1)
    elif config.pooling == "token":
        x = x[:, 0]
    elif config.pooling == "patches":
        x = patches.mean(axis=1)
    elif config.pooling == "token_and_patches":
        x = np.concatenate([x[:, 0], patches.mean(axis=1)], axis=1)
    elif config.pooling == "token_and_register":
        x = np.concatenate([x[:, 0], x[:, 1]], axis=1)
    elif config.pooling == "token_attention":
        x = attention(x, w, "head/attention/", config.heads)[:, 0]
    else:
        activation = ACTIVATIONS[config.activation]
        x = attention_pooling(patches, w, config.heads, activation, config)
    return norm(x, w, "head/norm/", config) if config.norm_after_pooling else x


def first_units(w, path, count):
    """The weights of a feed-forward part, with its first hidden units alone."""
    found = {p: value for p, value in w.items() if p.startswith(path)}
    for p, value in found.items():
        name = p.removeprefix(path).removeprefix("experts/").replace("_", "/")
        if name.startswith(("hidden", "gate")):
            found[p] = value[..., :count]
        elif name == "outer/kernel":
            found[p] = value[..., :count, :]
    return found


def feed_forward(x, w, path, config, training, frozen):
    """The dense or routed part of one step; returns (output, oracle or None)."""
    if f"{path}router/kernel" not in w:
        hidden = product(x, w, f"{path}hidden")
        hidden = ACTIVATIONS[config.activation](hidden)
        if config.gated:
            hidden = hidden * product(x, w, f"{path}gate")
        out = hidden @ w[f"{path}outer/kernel"] + w[f"{path}outer/bias"]
        return (gelu(out) if config.output_activation else out), None
    names = {
        "router": "router/kernel",
        "w1": "experts/hidden_kernel",
        "b1": "experts/hidden_bias",
        "w2": "experts/outer_kernel",
        "b2": "experts/outer_bias",
    }
    moe = MoeOracle(
        {ours: w[path + theirs] for ours, theirs in names.items()},
        config.top_k,
        config.capacity_factor if training else None,
        config.images_per_group,
        groups=config.top_k if config.router == "grouped_top_1" else 1,
        output_gelu=config.output_activation is not None,
    )
    return moe.forward(x, frozen), moe


def in_paths(w, path, config, sub_layer):
    """What a part of a block gives, by a function of the path of its weights."""
    if config.paths == 1:
        return sub_layer(path)
    p, found = [], 0.0
    for i in range(config.paths):
        gamma, beta = (w[f"{path}norm_{name}"][i] for name in NORM)
        own = sub_layer(f"{path}path_{i}/")
        p.append(layer_norm(own, gamma, beta, config.norm_epsilon))
        found = found + w[f"{path}mixture_weights"][i] * p[i]
    if config.cheap_features == "maximum":
        for pair, (i, j) in enumerate(itertools.combinations(range(config.paths), 2)):
            found = found + w[f"{path}mixture_pairs"][pair] * np.maximum(p[i], p[j])
    return found


def holders(w, config, part):
    """The block whose part each step computes with: the last one that has any."""
    has = [
        any(p.startswith(f"encoder/block_{b}/{part}/") for p in w) for b in range(99)
    ]
    return [
        max(b for b in range(block + 1) if has[b]) for block in config.block_of_step
    ]


def model_forward(w, config, images, training=False, frozen=None, looks=None):
    """Returns (logits, one `MoeOracle` per routed step).

    `frozen` is the list of `choices` of an earlier call: who goes where is then
    a constant, as it is for the gradient. `looks` is as for `attention`, of all steps
    and their paths.
    """
    x = embed(w, config, np.asarray(images, "float64"))
    oracles = []
    parts = ("attention", "feed_forward")
    blocks = [holders(w, config, part) for part in parts]
    rows = [[sorted(set(b)).index(block) for block in b] for b in blocks]
    for step, paths in enumerate(zip(*blocks, strict=True)):
        first, second = (
            f"encoder/block_{block}/{part}/"
            for block, part in zip(paths, parts, strict=True)
        )

        def normal(x, n, step=step):
            row = rows[n - 1][step] if config.shared_norms else step
            gamma, beta = (w[f"encoder/norm{n}/{name}"][row] for name in NORM)
            return layer_norm(x, gamma, beta, config.norm_epsilon)

        sizes, widths = config.block_sizes, config.step_widths
        heads = sizes[config.block_of_step[step]].heads if sizes else config.heads
        how = {"heads": heads, "looks": looks}
        attend = functools.partial(attention, normal(x, 1), w, **how)
        x = x + in_paths(w, first, config, attend)
        choices = frozen[len(oracles)] if frozen else None
        u, count, found = normal(x, 2), widths[step] if widths else None, []

        def mlp(path, u=u, count=count, choices=choices, found=found):
            own = first_units(w, path, count)
            branch, moe = feed_forward(u, own, path, config, training, choices)
            found += [moe] if moe else []
            return branch

        x = x + in_paths(w, second, config, mlp)
        oracles += found
    x = pooled(x, w, config)
    if config.representation:
        kernel, bias = (w[f"head/representation/{n}"] for n in ("kernel", "bias"))
        x = np.tanh(x @ kernel + bias)
    return product(x, w, "head/logits") if config.num_classes else x, oracles


def model_losses(w, config, images, labels, frozen=None):
    """Returns (task loss, balance loss summed over the steps, choices)."""
    logits, oracles = model_forward(w, config, images, True, frozen)
    rows = [-np.log(softmax(r)[y]) for r, y in zip(logits, labels, strict=True)]
    balance = sum(moe.balance_loss() for moe in oracles)
    return np.mean(rows), balance, [moe.choices for moe in oracles]
