"""The oracle of pieces: a step at a time in float64 NumPy, prompts among the tokens.

Plain on purpose. It shares no code with the package but reads its configurations.
"""

import functools
import math

import numpy as np
from oracle import (
    ACTIVATIONS,
    MoeOracle,
    embed,
    gelu,
    layer_norm,
    pooled,
    product,
    softmax,
)


def of_step(w, config, step, choose=None):
    """Returns the weights of the pieces of a step, a dict by their names.

    Args:
        w: Weights of the model by path, float64.
        config: Its config.
        step: Index of the step.
        choose: Function of the name of a bank and its copies (M, ...) that returns one;
            None for their mean.
    """
    routed = [block in config.routed_blocks for block in config.block_of_step]
    found, start = {}, "encoder/pieces/"
    banks = {p.kind: p for p in config.pieces if getattr(p, "bank", 1) > 1}
    for path, stack in w.items():
        if not path.startswith(start):
            continue
        name = path[len(start) :]
        part = name.split("_")[1]
        row = step
        if name == "residual_scale_factors" and scale_of(config).per == "block":
            row = config.block_of_step[step]
        if name.startswith("lora_") and part in ("experts", "router"):
            row = sum(routed[:step])
        elif name.startswith("lora_") and part in ("hidden", "gate", "outer"):
            row = step - sum(routed[:step])
        if row >= len(stack):
            continue
        value = stack[row]
        side = "down" if "down" in name else "up"
        bank = banks.get(name.split("_")[0])
        if bank and bank.shared != side:
            value = choose(name, value) if choose else value.mean(axis=0)
        found[name] = value
    return found


def scale_of(config):
    """The `ResidualScale` of a config, or None."""
    [found] = [p for p in config.pieces if p.kind == "residual_scale"] or [None]
    return found


def order_at_inference(step, tokens):
    """In which order a step takes its tokens that reads its block again."""
    bits = np.random.PCG64([211105297, step]).random_raw(tokens)
    return sorted(range(tokens), key=lambda token: bits[token])


def attends(config, step, order=order_at_inference):
    """Which tokens each token attends to, (T, T): those that are in its group."""
    groups, blocks = config.attention_groups, config.block_of_step
    groups = groups if isinstance(groups, int) else groups[step]
    count, again = config.tokens, blocks[step] in blocks[:step]
    places = order(step, count) if again and groups > 1 else range(count)
    group = {token: place // (count // groups) for place, token in enumerate(places)}
    return np.array(
        [[group[i] == group[j] for j in range(count)] for i in range(count)]
    )


def linear(x, w, path, own, name):
    """A product of the block with the low-rank change of the step."""
    found = product(x, w, path)
    if f"lora_{name}_down" in own:
        found = found + x @ own[f"lora_{name}_down"] @ own[f"lora_{name}_up"]
        found = found + own.get(f"lora_{name}_bias", 0.0)
    return found


def bucket(offset, buckets):
    """The bucket of an offset along one axis, from -(buckets // 2) to that."""
    # 1.9, 3.8 and 15.2 for the 7 buckets that are published.
    alpha, last = (buckets + 0.6) / 4, buckets // 2
    distance = abs(offset)
    if distance > alpha:
        far = math.log(distance / alpha) / math.log(8 * alpha / alpha)
        distance = round(alpha + far * (2 * alpha - alpha))
    return min(distance, last) * (1 if offset > 0 else -1)


@functools.cache
def columns(places, side, first, buckets):
    """Which column of the table query i takes for key j, two tokens at a time.

    Args:
        places: Which token of the image each one is, a tuple; None for a prompt.
        side: Side of the grid.
        first: Number of class tokens.
        buckets: Those of one axis.
    """
    found, half = np.full((len(places), len(places)), buckets**2), buckets // 2
    for i, j in np.ndindex(found.shape):
        if places[i] is None or places[j] is None:
            found[i, j] = -1
        elif min(places[i], places[j]) >= first:
            (r, c), (s, d) = (divmod(places[n] - first, side) for n in (i, j))
            row, column = (bucket(n, buckets) + half for n in (r - s, c - d))
            found[i, j] = buckets * row + column
    return found


def relative(query, own, places, config, piece):
    """What each query of a head gets for each key, (T, T).

    Args:
        query: (T, d), scaled.
        own: Weights of the step.
        places: As for `columns`.
        config: Config of the model.
        piece: `RelativeKeys`.
    """
    first = int(config.class_token)
    chosen = columns(places, config.grid[0], first, piece.buckets)
    found = np.take_along_axis(query @ own["relative_keys_table"], chosen, axis=1)
    return found * (chosen >= 0)


def token_conv(x, own, piece):
    """Normalised tokens and what a window around each adds up to."""
    z = layer_norm(x, own["token_conv_gamma"], own["token_conv_beta"])
    side, half = math.isqrt(x.shape[1]), piece.size // 2
    found = z + own["token_conv_bias"]
    for r, c, i, j in np.ndindex(side, side, piece.size, piece.size):
        row, column = r + i - half, c + j - half
        if 0 <= row < side and 0 <= column < side:
            kernel = own["token_conv_kernel"][i, j]
            found[:, side * r + c] += z[:, side * row + column] * kernel
    return found


def mixed(heads, own, name):
    """Each head as a sum of all, (H, T, S)."""
    mix = own[f"head_mix_{name}"]
    return np.array(
        [sum(m * head for m, head in zip(row, heads, strict=True)) for row in mix]
    )


def attention(x, w, path, config, own, places, seen, looks=None):
    """Multi-head attention, with the pairs of the step behind the keys.

    `seen` says which of the keys of tokens each token attends to, (T, T); how much of
    the values each takes is put into the list `looks`, an image (H, T, S) at a time.
    """
    heads, kinds = config.heads, [piece.kind for piece in config.pieces]
    q, k, v = (linear(x, w, f"{path}{n}", own, n) for n in ("query", "key", "value"))
    size, out = q.shape[-1] // heads, np.zeros_like(q)
    pairs = own.get("key_value_prompt_pair")
    more = [own.get(f"key_value_prompt_{n}", pairs) for n in ("key", "value")]
    for b in range(len(x)):
        logits, values = [], []
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            keys, value = k[b, :, part], v[b, :, part]
            if more[0] is not None:
                keys = np.concatenate([keys, more[0][:, part]])
                value = np.concatenate([value, more[1][:, part]])
            logits.append(q[b, :, part] @ keys.T / math.sqrt(size))
            values.append(value)
        for kind, piece in zip(kinds, config.pieces, strict=True):
            if kind == "head_mix":
                logits = mixed(logits, own, "logits")
            if kind == "relative_keys":
                for h in range(heads):
                    query = q[b, :, h * size : (h + 1) * size] / math.sqrt(size)
                    more_logits = relative(query, own, places, config, piece)
                    logits[h][:, : len(places)] += more_logits
        for each in logits:
            each[:, : len(seen)][~seen] = -np.inf
        shares = [np.array([softmax(row) for row in each]) for each in logits]
        if "head_mix" in kinds:
            shares = mixed(shares, own, "probabilities")
        if looks is not None:
            looks.append(np.array(shares))
        out[b] = np.concatenate(
            [share @ value for share, value in zip(shares, values, strict=True)], -1
        )
    return linear(out, w, f"{path}output", own, "output")


def changed_expert(w, path, own):
    """The weights of a mixture of experts with the changes of the step."""
    found = {
        "router": w[f"{path}router/kernel"].copy(),
        "w1": w[f"{path}experts/hidden_kernel"].copy(),
        "b1": w[f"{path}experts/hidden_bias"].copy(),
        "w2": w[f"{path}experts/outer_kernel"].copy(),
        "b2": w[f"{path}experts/outer_bias"].copy(),
    }
    if "lora_router_down" in own:
        found["router"] += own["lora_router_down"] @ own["lora_router_up"]
    for number, name in enumerate(("hidden", "outer"), 1):
        start = f"lora_experts_{name}"
        if f"{start}_down" not in own:
            continue
        for e in range(len(found["w1"])):
            # One set of factors serves every expert, or each has its own.
            mine = e % len(own[f"{start}_down"])
            factors = own[f"{start}_down"][mine], own[f"{start}_up"][mine]
            found[f"w{number}"][e] += factors[0] @ factors[1]
            if f"{start}_bias" in own:
                found[f"b{number}"][e] += own[f"{start}_bias"][mine]
    return found


def feed_forward(x, w, path, config, own, routed, training, frozen):
    """The feed-forward part of a step; returns (output, oracle or None)."""
    if not routed:
        hidden = linear(x, w, f"{path}hidden", own, "hidden")
        hidden = ACTIVATIONS[config.activation](hidden)
        if config.gated:
            hidden = hidden * linear(x, w, f"{path}gate", own, "gate")
        return linear(hidden, w, f"{path}outer", own, "outer"), None
    moe = MoeOracle(
        changed_expert(w, path, own),
        config.top_k,
        config.capacity_factor if training else None,
        config.images_per_group,
        output_gelu=config.output_activation is not None,
    )
    return moe.forward(x, frozen), moe


def prompts(own, config):
    """The rows that a step inserts, (P, D), masked channel by channel."""
    rows = own.get("prompt_prompt")
    if rows is None:
        return np.zeros((0, config.width))
    rows = rows.copy()
    mask = own.get("prompt_mask")
    if mask is not None:
        for p, c in np.ndindex(rows.shape):
            rows[p, c] *= mask[p, c % mask.shape[1]]
    return rows


def bottleneck(y, own, piece):
    """What an adapter makes of the output of a feed-forward part."""
    down = y @ own["bottleneck_down"] + own["bottleneck_down_bias"]
    hidden = ACTIVATIONS[piece.activation](down)
    return y + hidden @ own["bottleneck_up"] + own["bottleneck_up_bias"]


def projection(x, own, piece):
    """What the MLP at the end of a step makes of its tokens."""
    own = {n.removeprefix("projection_"): value for n, value in own.items()}
    normal = layer_norm(x, own["gamma"], own["beta"], piece.norm_epsilon)
    hidden = normal @ own["hidden_kernel"] + own["hidden_bias"]
    hidden = ACTIVATIONS[piece.activation](hidden)
    branch = hidden @ own["outer_kernel"] + own["outer_bias"]
    return own["factors"][0] * x + own["factors"][1] * branch


def model_forward(
    w, config, images, training=False, frozen=None, choose=None, at=1, looks=None
):
    """Returns (logits, one `MoeOracle` per routed step).

    Every step puts its prompts into the sequence in front of token `at`, runs the whole
    block on it and drops them again ("Visual Prompt Tuning", deep). Only capacity in
    training is that of the tokens alone, so there the feed-forward part meets these.

    Args:
        w: Weights by path, float64.
        config: `WideNetConfig`; its feed-forward activations as `MoeOracle` has them.
        images: (B, height, width, channels).
        training: Whether capacity holds; nothing is drawn.
        frozen: `choices` of the oracles of an earlier call, or None.
        choose: As for `of_step`.
        at: Where prompts stand.
        looks: As for `attention`, of one step after the other.
    """
    x, oracles = embed(w, config, np.asarray(images, "float64")), []
    by_kind = {piece.kind: piece for piece in config.pieces}
    adapter, ends = by_kind.get("bottleneck"), by_kind.get("projection")
    conv, tokens = by_kind.get("token_conv"), tuple(range(config.tokens))
    for step, block in enumerate(config.block_of_step):
        own, path = of_step(w, config, step, choose), f"encoder/block_{block}/"
        row = block if config.shared_norms else step

        def normal(x, n, row=row):
            gamma, beta = (
                w[f"encoder/norm{n}/{name}"][row] for name in ("gamma", "beta")
            )
            return layer_norm(x, gamma, beta, config.norm_epsilon)

        c = own.get("residual_scale_factors", np.ones(4))
        rows = np.stack([prompts(own, config)] * len(x))
        count = rows.shape[1]
        x = np.concatenate([x[:, :at], rows, x[:, at:]], axis=1)
        # Every group attends to all prompts.
        seen = np.ones((x.shape[1],) * 2, bool)
        mine = np.delete(np.arange(x.shape[1]), range(at, at + count))
        seen[np.ix_(mine, mine)] = attends(config, step)
        places = (*tokens[:at], *[None] * count, *tokens[at:])
        how = (f"{path}attention/", config, own, places, seen, looks)
        x = c[0] * x + c[1] * attention(normal(x, 1), w, *how)
        if conv:
            # It has no place for prompts, which do not come back.
            rest = token_conv(np.delete(x, range(at, at + count), 1), own, conv)
            x = np.concatenate([rest[:, :at], x[:, at : at + count], rest[:, at:]], 1)
        if training:
            x = np.concatenate([x[:, :at], x[:, at + count :]], axis=1)
        choices = frozen[len(oracles)] if frozen else None
        routed = block in config.routed_blocks
        how = (config, own, routed, training, choices)
        branch, moe = feed_forward(normal(x, 2), w, f"{path}feed_forward/", *how)
        if config.output_activation and not routed:
            branch = gelu(branch)
        branch = bottleneck(branch, own, adapter) if adapter else branch
        x = c[2] * x + c[3] * branch
        if not training:
            x = np.concatenate([x[:, :at], x[:, at + count :]], axis=1)
        x = projection(x, own, ends) if ends else x
        oracles += [moe] if moe else []
    x = pooled(x, w, config)
    if config.representation:
        x = np.tanh(product(x, w, "head/representation"))
    return product(x, w, "head/logits"), oracles
