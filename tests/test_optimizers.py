"""The optimizers, step by step, against NumPy and numbers derived by hand."""

import keras
import numpy as np
import pytest
from conftest import BACKEND, numpy, one_line, tiny_model

from widenet_keras.optimizers.optimization import Optimization
from widenet_keras.optimizers.optimizers import SGD, AdamW, Lamb
from widenet_keras.optimizers.parameter_groups import group_of, is_decayed, is_stacked
from widenet_keras.optimizers.schedules import WarmupDecay
from widenet_keras.utils.roles import Role, say_role

KERNEL = Role("core", "attention")
BIAS = KERNEL._replace(decayed=False)
EXPERTS = Role("core", "experts", stacked="experts")
NORM = Role("norms", "norms of the steps", decayed=False, stacked="steps")


def variable(value, role):
    made = keras.Variable(np.asarray(value, "float32"))
    say_role(made, role)
    return made


def step(optimizer, variables, gradients):
    gradients = [
        keras.ops.convert_to_tensor(np.asarray(g, "float32")) for g in gradients
    ]
    optimizer.apply(gradients, variables)


def lamb_by_hand(w, gradients, rate, decay, beta_1=0.9, beta_2=0.999, epsilon=1e-6):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g * g
        u = (m / (1 - beta_1**t)) / (np.sqrt(v / (1 - beta_2**t)) + epsilon) + decay * w
        w = w - rate * np.linalg.norm(w) / np.linalg.norm(u) * u
    return w


def test_lamb_takes_the_first_step_of_the_paper():
    w = variable([3.0, 4.0], KERNEL)
    step(Lamb(0.1, weight_decay=0.5, epsilon=0.0), [w], [[2.0, -2.0]])
    # m-hat = g and v-hat = g^2, so m-hat / sqrt(v-hat) = (1, -1);
    # u = (1, -1) + 0.5 * (3, 4) = (2.5, 1); |w| = 5, |u| = sqrt(7.25) = 2.692582;
    # w - 0.1 * 5 / 2.692582 * u = (3, 4) - 0.1856953 * (2.5, 1).
    np.testing.assert_allclose(numpy(w), [2.535762, 3.814305], rtol=1e-6)


def test_lamb_follows_the_paper_for_several_steps(rng):
    start = rng.normal(size=(3, 4)).astype("float32")
    gradients = rng.normal(size=(5, 3, 4)).astype("float32")
    w = variable(start, KERNEL)
    optimizer = Lamb(0.01, weight_decay=0.1)
    for gradient in gradients:
        step(optimizer, [w], [gradient])
    expected = lamb_by_hand(start.astype("float64"), gradients, 0.01, 0.1)
    np.testing.assert_allclose(numpy(w), expected, rtol=1e-5, atol=1e-7)


def test_lamb_gives_every_expert_and_every_norm_a_ratio_of_its_own(rng):
    """A stack is stepped as its slices would be if they were stored apart."""
    for role, decay in [(EXPERTS, 0.1), (NORM, 0.0)]:
        start = rng.normal(size=(3, 4)) * np.array([[1.0], [10.0], [0.1]])
        start = start.astype("float32")
        gradients = rng.normal(size=(3, 3, 4)).astype("float32")
        w, optimizer = variable(start, role), Lamb(0.01, weight_decay=0.1)
        for gradient in gradients:
            step(optimizer, [w], [gradient])
        for row in range(3):
            expected = lamb_by_hand(
                start[row].astype("float64"), gradients[:, row], 0.01, decay
            )
            np.testing.assert_allclose(numpy(w)[row], expected, rtol=1e-5, atol=1e-7)


def test_lamb_takes_an_adam_step_from_zero():
    """The ratio is 1 where the weight is zero, so that it can leave it."""
    w = variable([0.0, 0.0], BIAS)
    step(Lamb(0.1, epsilon=0.0), [w], [[5.0, -0.2]])
    # u = sign(g); no decay of biases.
    np.testing.assert_allclose(numpy(w), [-0.1, 0.1], rtol=1e-5)


def test_lamb_can_leave_norms_and_biases_without_a_ratio():
    w = variable([30.0, 40.0], BIAS)
    step(Lamb(0.1, epsilon=0.0, adapt="decayed"), [w], [[5.0, -0.2]])
    np.testing.assert_allclose(numpy(w), [29.9, 40.1], rtol=1e-6)


def test_adamw_decays_beside_the_step():
    kernel = variable([2.0], KERNEL)
    bias = variable([2.0], BIAS)
    step(AdamW(0.1, weight_decay=0.5, epsilon=0.0), [kernel, bias], [[3.0], [3.0]])
    # 2 - 0.1 * 0.5 * 2 - 0.1 * 1 = 1.8; the bias is not decayed: 2 - 0.1.
    np.testing.assert_allclose(numpy(kernel), [1.8], rtol=1e-6)
    np.testing.assert_allclose(numpy(bias), [1.9], rtol=1e-6)


def test_adamw_is_keras_adamw_where_everything_decays(rng):
    start = rng.normal(size=(3, 4)).astype("float32")
    ours, theirs = (variable(start, KERNEL) for _ in range(2))
    settings = {"learning_rate": 0.01, "weight_decay": 0.1, "global_clipnorm": 1.0}
    mine, keras_own = AdamW(**settings), keras.optimizers.AdamW(**settings)
    for gradient in rng.normal(size=(4, 3, 4)):
        step(mine, [ours], [gradient])
        step(keras_own, [theirs], [gradient])
    np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-6)


def test_sgd_with_momentum():
    w = variable([2.0], KERNEL)
    optimizer = SGD(0.1, momentum=0.5, weight_decay=0.5)
    step(optimizer, [w], [[1.0]])
    # 2 - 0.1 * 0.5 * 2 = 1.9; velocity -0.1; 1.8.
    np.testing.assert_allclose(numpy(w), [1.8], rtol=1e-6)
    step(optimizer, [w], [[1.0]])
    # 1.8 - 0.09 = 1.71; velocity 0.5 * -0.1 - 0.1 = -0.15; 1.56.
    np.testing.assert_allclose(numpy(w), [1.56], rtol=1e-6)


def test_groups_have_rates_of_their_own():
    variables = [
        variable([1.0], Role(group, "head"))
        for group in ("embedding", "core", "norms", "head")
    ]
    rates = {"embedding": 0.0, "norms": 2.0, "head": 0.5}
    step(SGD(0.1, momentum=0.0, rates=rates), variables, [[1.0]] * 4)
    found = [float(numpy(v)[0]) for v in variables]
    np.testing.assert_allclose(found, [1.0, 0.9, 0.8, 0.95], rtol=1e-6)


def test_every_weight_of_a_model_is_in_its_group():
    model = tiny_model("vit_moe")
    found = {v.path.split("/", 1)[1]: group_of(v) for v in model.trainable_variables}
    assert set(found.values()) == {"embedding", "core", "norms", "head"}
    for path, group in found.items():
        expected = path.split("/")[0].replace("encoder", "core")
        expected = "norms" if path.startswith("encoder/norm") else expected
        assert group == expected, path
    decayed = {v.path for v in model.trainable_variables if is_decayed(v)}
    assert all(path.endswith("kernel") for path in decayed)
    kernels = [v.path for v in model.trainable_variables if v.path.endswith("kernel")]
    assert decayed == set(kernels)
    stacked = {v.path for v in model.trainable_variables if is_stacked(v)}
    assert all("/experts/" in path or "/encoder/norm" in path for path in stacked)
    assert len(stacked) == 2 * 4 + 4  # two banks of four weights, two pairs of norms


def test_gradients_are_clipped_after_they_are_accumulated():
    w = variable([0.0, 0.0], KERNEL)
    settings = {"momentum": 0.0, "global_clipnorm": 1.0}
    optimizer = SGD(1.0, gradient_accumulation_steps=2, **settings)
    step(optimizer, [w], [[6.0, 0.0]])
    np.testing.assert_array_equal(numpy(w), [0.0, 0.0])
    step(optimizer, [w], [[0.0, 8.0]])
    # Mean (3, 4) has norm 5: a step of -(0.6, 0.8). Clipped one by one, the
    # batches would have given -(0.5, 0.5).
    np.testing.assert_allclose(numpy(w), [-0.6, -0.8], rtol=1e-6)


def test_the_moving_average():
    w = variable([0.0], KERNEL)
    optimizer = SGD(1.0, momentum=0.0, use_ema=True, ema_momentum=0.75)
    for _ in range(3):
        step(optimizer, [w], [[-4.0]])
    np.testing.assert_allclose(numpy(w), [12.0])
    optimizer.finalize_variable_values([w])
    # Weights 4, 8, 12; averages 4, 0.75 * 4 + 0.25 * 8 = 5, 0.75 * 5 + 3 = 6.75.
    np.testing.assert_allclose(numpy(w), [6.75], rtol=1e-6)


def test_settings_of_one_kind_reach_it():
    settings = {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-4, "momentum": 0.5}
    for name in ("lamb", "adamw", "sgd"):
        made = Optimization(optimizer=name, warmup_epochs=0, **settings).build(4, 2)
        config = made.get_config()
        for field, value in settings.items():
            if (field == "momentum") == (name == "sgd"):
                assert config[field] == value
    # Without a value each has its own.
    config = Optimization(warmup_epochs=0).build(4, 2).get_config()
    assert (config["beta_1"], config["beta_2"], config["epsilon"]) == (0.9, 0.999, 1e-6)


@pytest.mark.parametrize("name", ["lamb", "adamw", "sgd"])
def test_optimizers_survive_serialisation(name):
    made = Optimization(optimizer=name, ema=0.5, accumulate=2, rates={"head": 0.1})
    made = made.build(400, 10)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(made)
    )
    assert again.get_config() == made.get_config()
    assert again.rates["head"] == 0.1
    assert again.get_config()["weight_decay"] == 0.1


def test_what_is_decayed_survives_saving(tmp_path, rng):
    """Keras forgets which variables it leaves out when a model is loaded."""
    model = tiny_model()
    model.compile(AdamW(0.1, weight_decay=0.5))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    place, weight = next(
        (place, w)
        for place, w in enumerate(loaded.trainable_variables)
        if w.path.endswith("gamma")
    )
    before = numpy(weight).copy()
    zeros = [keras.ops.zeros(w.shape) for w in loaded.trainable_variables]
    if BACKEND == "jax":
        values, _ = loaded.optimizer.stateless_apply(
            [v.value for v in loaded.optimizer.variables],
            zeros,
            [v.value for v in loaded.trainable_variables],
        )
        after = values[place]
    else:
        loaded.optimizer.apply(zeros, loaded.trainable_variables)
        after = weight
    np.testing.assert_array_equal(numpy(after), before)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        # Warm-up 4, total 12: x = 0, 0.25, 0.5, 1 and later at steps 4, 6, 8, 12, 99.
        ("linear", [1.0, 0.775, 0.55, 0.1, 0.1]),
        # cos(pi/4) = 0.707107: 0.1 + 0.9 * 0.853553 = 0.868198.
        ("cosine", [1.0, 0.868198, 0.55, 0.1, 0.1]),
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_learning_rate(decay, expected):
    schedule = WarmupDecay(1.0, 12, 4, decay, final=0.1)
    rates = [float(numpy(schedule(s))) for s in (0, 1, 3, 4, 6, 8, 12, 99)]
    np.testing.assert_allclose(rates, [0.25, 0.5, 1.0, *expected], rtol=1e-5)


def test_no_warm_up_starts_at_the_peak():
    assert float(numpy(WarmupDecay(0.5, 10)(0))) == 0.5


def test_a_schedule_of_version_0_1_0_opens():
    rest = {"peak": 1.0, "decay": "cosine", "final": 0.1}
    schedule = WarmupDecay.from_config({"total_steps": 12, "warmup_steps": 4, **rest})
    assert schedule.get_config() == {"batches": 12, "warmup_batches": 4, **rest}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "adam"}, "optimizer='adam' is not known"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be a number >= 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"ema": 1.0}, r"ema=1.0 must be a number in [0.0, 1.0)"),
        ({"beta_2": 1.0}, "beta_2=1.0 must be a number"),
        ({"epsilon": -1.0}, "epsilon=-1.0 must be a number"),
        ({"accumulate": 0}, "accumulate=0 must be a whole number >= 1"),
        ({"learning_rate": 1e-6}, "final_learning_rate=1e-05 is above the peak"),
        ({"rates": {"heads": 1.0}}, "Did you mean 'head'"),
        ({"rates": {"head": -1.0}}, "rates['head']=-1.0"),
    ],
)
def test_bad_settings_are_told_in_one_line(settings, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Optimization(**settings)
    assert words in one_line(error)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warmup_batches=300 is more than batches=20"):
        Optimization().build(20, 10)


def test_an_update_longer_than_the_run_is_refused():
    settings = Optimization(warmup_epochs=0, accumulate=21)
    with pytest.raises(ValueError, match="accumulate=21 batches make") as error:
        settings.build(20, 10)
    assert "the run has 20" in one_line(error)


STEPPED = {
    "adamw": (AdamW, {"weight_decay": 0.1}),
    "adamw by group": (AdamW, {"weight_decay": 0.1, "rates": {"norms": 0.3}}),
    "sgd": (SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True, "rates": {"core": 0.5}}),
    "plain sgd": (SGD, {"momentum": 0.0}),
    "lamb": (Lamb, {"weight_decay": 0.1, "rates": {"norms": 0.3}}),
    "lamb of decayed": (Lamb, {"weight_decay": 0.1, "adapt": "decayed"}),
}
MANNERS = {
    "plain": {},
    "clipped": {"global_clipnorm": 0.5},
    "accumulated": {"gradient_accumulation_steps": 2},
    "averaged": {"use_ema": True, "ema_momentum": 0.7},
    "averaged and accumulated": {
        "use_ema": True,
        "ema_momentum": 0.7,
        "gradient_accumulation_steps": 2,
    },
}


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("name", STEPPED)
def test_all_at_once_is_one_by_one(name, manner, rng, monkeypatch):
    """On torch all variables are stepped at once; that changes no number."""
    from widenet_keras.optimizers.optimizers_torch import AllAtOnce

    kind, settings = STEPPED[name]
    roles = (KERNEL, BIAS, EXPERTS, NORM)
    starts = [rng.normal(size=size) for size in ((3, 4), (4,), (2, 3, 4), (3, 4))]
    gradients = [[rng.normal(size=s.shape) for s in starts] for _ in range(6)]

    def run():
        variables = [variable(s, r) for s, r in zip(starts, roles, strict=True)]
        optimizer = kind(0.05, **settings, **MANNERS[manner])
        for each in gradients:
            step(optimizer, variables, each)
        return [numpy(v) for v in (*variables, *optimizer.variables)]

    found = run()
    for method in [name for name in vars(AllAtOnce) if name.startswith("_")]:
        if callable(getattr(AllAtOnce, method)) and not method.startswith("__"):
            monkeypatch.delattr(AllAtOnce, method)
    for one, other in zip(found, run(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
