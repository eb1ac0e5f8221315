"""A shared model from an unshared one: means, exact norms, and the scale kept."""

import functools

import keras
import numpy as np
import pytest
from conftest import (
    numpy,
    one_line,
    tiny_config,
    tiny_images,
    tiny_model,
)

import widenet_keras
from widenet_keras import ImageClassifier
from widenet_keras.conversions.tie import tie
from widenet_keras.conversions.tied_weights import experts_of
from widenet_keras.models.widenet import WideNet


@pytest.fixture(scope="module")
def vit():
    return tiny_model("vit", steps=4)


@pytest.fixture(scope="module")
def mixed():
    """A ViT-MoE: blocks 0 and 1 are dense, 2 and 3 are mixtures."""
    return tiny_model("vit_moe", steps=4)


def weights_of(model):
    """Returns the arrays of a model by path, without its name."""
    return {w.path.split("/", 1)[1]: numpy(w) for w in model.weights}


def with_equal_blocks(model):
    """Gives all blocks the weights of block 0; the norms stay different."""
    first, *others = model.encoder.blocks
    for block in others:
        for mine, theirs in zip(first.weights, block.weights, strict=True):
            theirs.assign(mine)
    return model


def test_what_is_private_or_single_is_copied_exactly(vit):
    before, after = weights_of(vit), weights_of(tie(vit))
    kept = [path for path in before if not path.startswith("encoder/block_")]
    assert {path.split("/")[0] for path in kept} == {"embedding", "encoder", "head"}
    for path in kept:
        np.testing.assert_array_equal(after.pop(path), before[path])
    # What is left is the one block: 8 arrays of attention, 4 of experts, a router.
    assert len(after) == 13


def test_attention_is_the_mean_of_the_blocks(vit):
    before, after = weights_of(vit), weights_of(tie(vit))
    for part in ["query", "key", "value", "output"]:
        for kind in ["kernel", "bias"]:
            name = f"attention/{part}/{kind}"
            wanted = sum(before[f"encoder/block_{t}/{name}"] for t in range(4)) / 4
            np.testing.assert_allclose(
                after[f"encoder/block_0/{name}"], wanted, rtol=1e-5, atol=1e-7
            )


def test_experts_are_means_of_neighbours(vit):
    after = weights_of(tie(vit, num_experts=2, top_k=1))
    before = weights_of(vit)
    # Outputs are scaled by E / K = 2.
    for part, scale in [("hidden", 1), ("outer", 2)]:
        for kind in ["kernel", "bias"]:
            ffns = [
                before[f"encoder/block_{t}/feed_forward/{part}/{kind}"]
                for t in range(4)
            ]
            experts = after[f"encoder/block_0/feed_forward/experts/{part}_{kind}"]
            for expert, (one, other) in enumerate([(0, 1), (2, 3)]):
                wanted = (ffns[one] + ffns[other]) / 2 * scale
                np.testing.assert_allclose(
                    experts[expert], wanted, rtol=1e-5, atol=1e-7
                )


def test_defaults_are_those_of_a_widenet(vit):
    config = tie(vit).config
    # The experts have the width of the FFNs they come from, 10.
    assert config == tiny_config("widenet", steps=4, expert_dim=10, pooling="token")


@pytest.mark.parametrize(
    ("steps", "fields", "copied"),
    [
        (8, {"sharing": "sequence", "unique_blocks": 4}, [0, 2, 5, 7]),
        (8, {"sharing": "cycle", "unique_blocks": 2}, [0, 7]),
        (4, {"sharing": "cycle", "unique_blocks": 3}, [0, 2, 3]),
        (4, {}, [0]),
        (4, {"sharing": "cycle", "unique_blocks": 3, "base": "lower"}, [0, 1, 2]),
    ],
)
def test_without_experts_blocks_are_copies_in_order_of_depth(steps, fields, copied):
    source = tiny_model("vit", steps=steps)
    tied = tie(source, moe_blocks="none", shared_norms=True, **fields)
    before, after = weights_of(source), weights_of(tied)
    blocks = {path for path in after if path.startswith("encoder/block_")}
    for block, step in enumerate(copied):
        mine, theirs = f"encoder/block_{block}/", f"encoder/block_{step}/"
        paths = [path for path in blocks if path.startswith(mine)]
        assert len(paths) == 12
        for path in paths:
            wanted = before[path.replace(mine, theirs)]
            np.testing.assert_array_equal(after[path], wanted)
        blocks.difference_update(paths)
    assert not blocks
    # A block's one norm is copied like the rest of it.
    gamma = before["encoder/norm1/gamma"][copied]
    np.testing.assert_array_equal(after["encoder/norm1/gamma"], gamma)


def test_what_is_frozen_stays_so_unless_it_starts_anew():
    source = tiny_model("vit")
    source.frozen = before = ("embedding", "core", "norms", "head")
    assert tie(source).frozen == ("embedding", "norms", "head")
    # The mean of many norms is none of them.
    assert tie(source, shared_norms=True).frozen == ("embedding", "head")
    assert source.frozen == before
    # Copies of blocks may be enough for who says so.
    assert tie(source, moe_blocks="none", frozen=("core",)).frozen == ("core",)
    assert tie(source, frozen=()).frozen == ()
    with pytest.raises(ValueError, match="frozen='cores'") as error:
        tie(source, frozen=("cores",))
    one_line(error)


def test_the_average_can_be_asked_for(vit):
    before = weights_of(vit)
    after = weights_of(tie(vit, moe_blocks="none", base="average"))
    for name in ["attention/key/kernel", "feed_forward/outer/kernel"]:
        wanted = sum(before[f"encoder/block_{t}/{name}"] for t in range(4)) / 4
        np.testing.assert_allclose(
            after[f"encoder/block_0/{name}"], wanted, rtol=1e-5, atol=1e-7
        )


def test_copies_of_one_block_become_experts_where_asked_for(vit):
    tied = tie(vit, base="stepwise", sharing="sequence", unique_blocks=2)
    before, after = weights_of(vit), weights_of(tied)
    for block, step in [(0, 0), (1, 3)]:
        mine, theirs = f"encoder/block_{block}/", f"encoder/block_{step}/"
        query = "attention/query/kernel"
        np.testing.assert_array_equal(after[mine + query], before[theirs + query])
        experts = after[mine + "feed_forward/experts/hidden_kernel"]
        ffn = before[theirs + "feed_forward/hidden/kernel"]
        np.testing.assert_array_equal(experts[0], ffn)
        # All are that FFN, within the noise of 1 % of its spread: 6 sigma.
        assert 0 < np.abs(experts - ffn).max() < 0.06 * ffn.std()


def test_a_block_without_experts_is_a_copy_of_one_without(mixed):
    tied = tie(mixed, moe_blocks="none", sharing="sequence", unique_blocks=2)
    before, after = weights_of(mixed), weights_of(tied)
    # Blocks 2 and 3 are mixtures.
    for path in ["attention/query/kernel", "feed_forward/outer/kernel"]:
        for block in (0, 1):
            name = f"encoder/block_{block}/{path}"
            np.testing.assert_array_equal(after[name], before[name])


def test_uneven_runs_are_longer_first():
    # 5 FFNs over 2 experts: 0 1 2 and 3 4, means 1 and 3.5.
    ffns = [np.full((1, 1), float(t)) for t in range(5)]
    experts = experts_of(ffns, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(experts.ravel(), [1.0, 3.5])


def test_more_experts_than_ffns_repeat_with_noise():
    random = np.random.default_rng(1)
    ffns = [random.normal(size=(40, 50)) for _ in range(2)]
    experts = experts_of(ffns, 5, np.random.default_rng(0))
    # Expert e comes from FFN e * 2 // 5: 0 0 0 1 1; the first of each is exact.
    for expert, ffn, exact in [(0, 0, 1), (1, 0, 0), (2, 0, 0), (3, 1, 1), (4, 1, 0)]:
        difference = experts[expert] - ffns[ffn]
        if exact:
            assert not difference.any()
        else:
            # The sample spread of 2,000 normal numbers is within 10 % (6 sigma).
            assert difference.std() == pytest.approx(0.01 * ffns[ffn].std(), rel=0.1)
    assert (experts[1] != experts[2]).any()
    biases = experts_of([np.ones(3)], 2, np.random.default_rng(0))
    np.testing.assert_array_equal(biases, np.ones((2, 3)))


@pytest.mark.parametrize(
    "fields",
    [
        {"num_experts": 4, "top_k": 2},
        {"num_experts": 3, "top_k": 3},
        {"num_experts": 4, "top_k": 2, "router": "grouped_top_1"},
        {"num_experts": 2, "top_k": 1, "sharing": "cycle", "unique_blocks": 2},
        {"num_experts": 2, "top_k": 1, "sharing": "sequence", "unique_blocks": 2},
        {"moe_blocks": "none"},
        {"moe_blocks": "none", "base": "average"},
        {"num_experts": 1, "top_k": 1, "sharing": "attention"},
    ],
    ids=["4_of_2", "all", "grouped", "cycle", "sequence", "dense", "average", "part"],
)
def test_equal_blocks_give_the_logits_of_the_source(fields):
    source = with_equal_blocks(tiny_model("vit", steps=4))
    tied = tie(source, **fields)
    for block in tied.encoder.blocks:
        if block.is_routed:
            # All gates are then exactly uniform, which the scale makes up for.
            kernel = block.feed_forward.router.kernel
            kernel.assign(np.zeros(kernel.shape))
    images = tiny_images(3)
    wanted = numpy(source(images))
    # Float32 with sums of at most 12 terms, 4 steps: some 1e-6 of the size.
    np.testing.assert_allclose(numpy(tied(images)), wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(wanted).max() > 0.1


def test_a_fresh_router_changes_the_scale_by_its_spread_at_most():
    source = with_equal_blocks(tiny_model("vit", steps=4, width=48))
    mixture = tie(source).encoder.blocks[0].feed_forward
    tokens = np.random.default_rng(0).normal(size=(8, 10, 48)).astype("float32")
    output, record = mixture(tokens)
    ffn = numpy(source.encoder.blocks[0].feed_forward(tokens))
    logits = tokens @ numpy(mixture.router.kernel)
    # Normalised tokens, kernel entries of 0.1 / sqrt(48): logits of about 0.1.
    # 192 entries: their sample spread is within 20 % (4 sigma).
    assert logits.std() == pytest.approx(0.1, rel=0.25)
    # The output is c times the FFN, c = E / K * (sum of the gates). The best K of
    # E probabilities are at least 1/E in the mean and at most exp(spread) / E.
    c = 4 / 2 * numpy(record.gates).sum(axis=1)
    np.testing.assert_allclose(numpy(output), c[..., None] * ffn, rtol=1e-4, atol=1e-5)
    spread = logits.max(axis=-1) - logits.min(axis=-1)
    assert (c >= 1 - 1e-6).all()
    assert (c <= np.exp(spread) + 1e-6).all()
    # The two best of 4 normal numbers are 1.03 and 0.30: c is 1 + 0.1 * 1.33 / 2.
    assert c.mean() == pytest.approx(1.066, abs=0.03)


def test_the_seed_decides_the_router_and_nothing_else_does(vit):
    def router(model):
        return numpy(model.encoder.blocks[0].feed_forward.router.kernel)

    keras.utils.set_random_seed(1)
    one = tie(vit, seed=3)
    keras.utils.set_random_seed(2)
    same, other = tie(vit, seed=3), tie(vit, seed=4)
    for mine, theirs in zip(one.weights, same.weights, strict=True):
        np.testing.assert_array_equal(numpy(mine), numpy(theirs))
    assert (router(one) != router(other)).all()


def test_mixtures_give_their_experts_and_routers(mixed):
    before, after = weights_of(mixed), weights_of(tie(mixed))
    assert after["encoder/norm1/gamma"].shape == (4, 12)
    for name in [
        "experts/hidden_kernel",
        "experts/hidden_bias",
        "experts/outer_kernel",
        "experts/outer_bias",
        "router/kernel",
    ]:
        path = "encoder/block_{}/feed_forward/" + name
        wanted = (before[path.format(2)] + before[path.format(3)]) / 2
        np.testing.assert_allclose(after[path.format(0)], wanted, rtol=1e-5, atol=1e-7)
    # The attention is that of all four blocks, dense ones too.
    path = "encoder/block_{}/attention/value/kernel"
    wanted = sum(before[path.format(t)] for t in range(4)) / 4
    np.testing.assert_allclose(after[path.format(0)], wanted, rtol=1e-5, atol=1e-7)


def test_dense_and_routed_groups_of_one_model(mixed):
    tied = tie(mixed, sharing="sequence", unique_blocks=2, moe_blocks=(-1,))
    before, after = weights_of(mixed), weights_of(tied)
    path = "encoder/block_{}/feed_forward/outer/kernel"
    wanted = (before[path.format(0)] + before[path.format(1)]) / 2
    np.testing.assert_allclose(after[path.format(0)], wanted, rtol=1e-5, atol=1e-7)
    assert tied.config.expert_dim == mixed.config.expert_dim == 14
    assert tied.config.routed_steps == (2, 3)


def test_shared_norms_are_means_of_the_group(vit):
    tied = tie(vit, sharing="cycle", unique_blocks=2, shared_norms=True)
    gamma = weights_of(vit)["encoder/norm2/gamma"]
    # Steps 0 2 and 1 3 share a block.
    wanted = [(gamma[0] + gamma[2]) / 2, (gamma[1] + gamma[3]) / 2]
    np.testing.assert_allclose(
        weights_of(tied)["encoder/norm2/gamma"], wanted, rtol=1e-6
    )


@pytest.mark.parametrize("base", ["stepwise", "average"])
def test_one_attention_may_be_all_that_is_shared(vit, base):
    fields = {"moe_blocks": "none", "unique_blocks": 2, "shared_norms": True}
    tied = tie(vit, sharing="attention", base=base, **fields)
    before, after = weights_of(vit), weights_of(tied)
    groups = {0: [0], 2: [3]} if base == "stepwise" else {0: [0, 1], 2: [2, 3]}
    name = "encoder/block_{}/attention/query/kernel"
    for block, steps in groups.items():
        wanted = np.mean([before[name.format(step)] for step in steps], axis=0)
        np.testing.assert_allclose(after[name.format(block)], wanted, rtol=1e-5)
    assert name.format(1) not in after
    # What stands before the attention is shared with it, the rest is each step's own.
    gamma = before["encoder/norm1/gamma"]
    wanted = [gamma[steps].mean(axis=0) for steps in groups.values()]
    np.testing.assert_allclose(after["encoder/norm1/gamma"], wanted, rtol=1e-5)
    own = [p for p in before if "/feed_forward/" in p or "norm2" in p]
    assert len(own) == 4 * 4 + 2
    for path in own:
        np.testing.assert_array_equal(after[path], before[path])
    # That may be shared later.
    whole = weights_of(tie(tied, moe_blocks="none", base="average"))
    wanted = np.mean([after[name.format(block)] for block in (0, 2)], axis=0)
    np.testing.assert_allclose(whole[name.format(0)], wanted, rtol=1e-5, atol=1e-7)
    gamma = after["encoder/norm1/gamma"][[0, 0, 1, 1]]
    np.testing.assert_array_equal(whole["encoder/norm1/gamma"], gamma)


def test_what_no_step_shares_starts_from_that_of_its_own_step():
    source = tiny_model("vit_moe", steps=4, moe_blocks=(3,))
    fields = {"sharing": "attention", "moe_blocks": (3,), "base": "stepwise"}
    before, after = weights_of(source), weights_of(tie(source, **fields))
    own = [path for path in before if "/feed_forward/" in path]
    assert len(own) == 3 * 4 + 5
    for path in own:
        np.testing.assert_array_equal(after[path], before[path])


@pytest.mark.parametrize("kind", ["int8", "lora"])
def test_kernels_that_are_not_what_is_computed_with_are_refused(kind, tmp_path):
    model = tiny_model("vit")
    if kind == "int8":
        model.quantize("int8")
    else:
        model.head.logits.enable_lora(2)
    for convert in (
        tie,
        widenet_keras.untie,
        widenet_keras.merge,
        lambda model: widenet_keras.relax(model, 2),
        lambda model: widenet_keras.prune_prompts(model, tiny_images(1), [0]),
        lambda model: model.adapted(dropout=0.1),
        lambda model: widenet_keras.to_timm(model, tmp_path / "a.safetensors"),
    ):
        with pytest.raises(ValueError, match=r"quantised to 'int8'|has LoRA") as error:
            convert(model)
        one_line(error)


def test_one_mixture_may_be_all_that_is_shared(vit):
    before, after = weights_of(vit), weights_of(tie(vit, sharing="feed_forward"))
    own = [path for path in before if "/attention/" in path or "encoder/norm" in path]
    assert len(own) == 4 * 8 + 4
    for path in own:
        np.testing.assert_array_equal(after[path], before[path])
    experts = after["encoder/block_0/feed_forward/experts/hidden_kernel"]
    for step in range(4):
        ffn = before[f"encoder/block_{step}/feed_forward/hidden/kernel"]
        np.testing.assert_array_equal(experts[step], ffn)


def test_parts_can_be_left_out(vit):
    tied = tie(vit, class_token=False, pooling="mean", representation=False)
    before, after = weights_of(vit), weights_of(tied)
    np.testing.assert_array_equal(
        after["embedding/position"], before["embedding/position"][1:]
    )
    assert not [path for path in after if "representation" in path]


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16"])
def test_class_name_and_dtype_policy_are_kept(dtype):
    source = WideNet(tiny_config("vit"), dtype=dtype, seed=5, name="mine")
    tied = tie(source)
    assert type(tied) is WideNet
    assert tied.dtype_policy.name == dtype
    assert tied.seed == 5
    assert tied.name == "mine"
    np.testing.assert_array_equal(
        weights_of(tied)["head/logits/kernel"], weights_of(source)["head/logits/kernel"]
    )


def test_a_tied_model_is_new_and_uncompiled(vit):
    before = weights_of(vit)
    tied = tie(vit)
    assert type(tied) is ImageClassifier
    assert not tied.compiled
    for weight in tied.weights:
        weight.assign(weight + 1.0)
    for path, value in weights_of(vit).items():
        np.testing.assert_array_equal(value, before[path])


def test_a_tied_model_trains(vit):
    tied = tie(vit)
    tied.compile("sgd", run_eagerly=True)
    history = tied.fit(tiny_images(4), np.array([0, 1, 2, 3]), verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize(
    ("fields", "pieces"),
    [
        ({"expert_dim": 16}, ["expert_dim=16", "width 10"]),
        ({"width": 24}, ["width=24", "has 12"]),
        ({"num_classes": 7}, ["num_classes=7", "has 5"]),
        ({"sharing": "none"}, ["sharing='none'", "4 steps"]),
        ({"sharing": "cycle", "unique_blocks": 4}, ["sharing='cycle'", "4 steps"]),
        ({"sharing": "cycle"}, ["needs unique_blocks"]),
        ({"num_expert": 4}, ["num_expert", "Did you mean 'num_experts'"]),
        ({"top_k": 5}, ["top_k=5"]),
        ({"seed": -1}, ["seed=-1"]),
        ({"base": "mean"}, ["base='mean'", "'stepwise', 'average'"]),
    ],
)
def test_what_does_not_fit_is_refused_with_one_line(vit, fields, pieces):
    refused(vit, fields, pieces)


@pytest.mark.parametrize(
    ("fields", "pieces"),
    [
        ({"num_experts": 8}, ["num_experts=8", "have 4"]),
        (
            {
                "moe_blocks": "none",
                "sharing": "sequence",
                "unique_blocks": 2,
                "base": "average",
            },
            ["block 1"],
        ),
        (
            {"sharing": "sequence", "unique_blocks": 2},
            [
                "block 1 starts from experts of width 14",
                "block 0 from FFNs of width 10",
            ],
        ),
    ],
)
def test_mixtures_that_do_not_fit_are_refused_with_one_line(mixed, fields, pieces):
    refused(mixed, fields, pieces)


def test_parts_that_are_missing_are_refused_with_one_line():
    source = tiny_model("vit", representation=False)
    refused(source, {"representation": True}, ["representation=True"])


def test_pieces_of_the_steps_go_along_or_are_told():
    pieces = [{"kind": "lora", "rank": 2}, {"kind": "prompt", "count": 2}]
    source = tiny_model("vit", pieces=pieces)
    before, after = weights_of(source), weights_of(tie(source, moe_blocks="none"))
    kept = [path for path in before if "/pieces/" in path]
    assert len(kept) == 3 * 6 + 1
    for path in kept:
        np.testing.assert_array_equal(after[path], before[path])
    # Experts have other products.
    refused(source, {}, ["pieces/lora_hidden_down", "pieces=...", "merge()"])
    assert tie(source, pieces=pieces[1:]).config.pieces == source.config.pieces[1:]
    source.frozen = ("pieces", "head")
    other = tie(source, pieces=[{"kind": "lora", "rank": 3}], moe_blocks="none")
    assert other.frozen == ("head",)


def test_a_shared_model_is_refused_with_one_line():
    refused(tiny_model("widenet"), {}, ["shares its blocks already", "sharing='all'"])


def test_other_models_are_refused_with_one_line():
    refused(keras.Sequential(), {}, ["Sequential"])
    for fields in (
        {"step_widths": (4, 10)},
        {"block_sizes": [(3, 4, 4, 10), (2, 4, 4, 10)]},
    ):
        for verb in (tie, functools.partial(widenet_keras.relax, rank=2)):
            with pytest.raises(ValueError, match=r"without \w+ and this") as error:
                verb(tiny_model("vit", **fields))
            assert next(iter(fields)) in one_line(error)


def refused(model, fields, pieces):
    """Expects a `ValueError` of one line that has all the pieces."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        tie(model, **fields)
    line = one_line(error)
    assert [piece for piece in pieces if piece not in line] == [], line


def test_pieces_of_routed_steps_stay_with_their_steps():
    lora = {"kind": "lora", "rank": 2}
    source = tiny_model("vit_moe", steps=4, moe_blocks=(2, 3), pieces=[lora])
    fields = {"sharing": "cycle", "unique_blocks": 2}
    with pytest.raises(ValueError, match="keep moe_blocks and class_token") as error:
        tie(source, moe_blocks=(1,), **fields)
    one_line(error)
    fields["sharing"] = "sequence"
    tied = tie(source, moe_blocks=(1,), **fields)
    assert tied.config.routed_steps == source.config.routed_steps


def test_nested_widths_are_of_the_experts_that_come_out():
    """A third of their 14 units is none, of the 12 of the MLPs it is."""
    third = {"nested_widths": (1 / 3, 1.0), "mlp_dim": 12}
    source = tiny_model("vit", **third)
    for made in (tie(source), tie(source, moe_blocks="none")):
        assert made.config.nested_widths == source.config.nested_widths
    assert tie(source).config.expert_dim == 12
