"""Roles: every weight of this package has one, and none is guessed."""

import keras
import numpy as np
import pytest
from conftest import one_line, tiny_model
from test_contract import LAYERS, built

from widenet_keras.optimizers.parameter_groups import group_of, is_decayed, is_stacked
from widenet_keras.utils.roles import Role, role_of, say_role


@pytest.mark.parametrize("name", LAYERS)
def test_every_weight_of_every_layer_has_a_role(name):
    layer, _, _ = built(name)
    for weight in layer.weights:
        role_of(weight)


def test_the_roles_of_a_model(kind):
    model = tiny_model(kind)
    roles = {w.path.split("/", 1)[1]: role_of(w) for w in model.weights}
    for path, role in roles.items():
        name = path.split("/")[-1]
        assert role.decayed == name.endswith("kernel"), path
        group = {"embedding": "embedding", "head": "head"}.get(path.split("/")[0])
        group = group or ("norms" if "/norm" in path else "core")
        assert role.group == group, path
        stacked = "experts" if "/experts/" in path else None
        assert role.stacked == ("steps" if group == "norms" else stacked), path
        assert role.exact == ("norm" in path or "router" in path), path


def test_a_quantised_model_keeps_its_roles():
    model = tiny_model("vit_moe", steps=2, width=16, heads=4)
    before = {w.path: role_of(w).part for w in model.weights}
    model.quantize("int8")
    after = {w.path: role_of(w).part for w in model.weights}
    assert {path: after[path] for path in before} == before
    scales = {part for path, part in after.items() if path.endswith("_scale")}
    assert scales == {"attention", "experts", "head"}


def test_an_unknown_role_is_refused_in_one_line():
    weight = keras.Variable(np.zeros(2, "float32"))
    for role in (
        Role("cores", "attention"),
        Role("core", "brain"),
        Role("core", "router", stacked="steeps"),
    ):
        with pytest.raises(ValueError, match="Role: ") as error:
            say_role(weight, role)
        one_line(error)
    with pytest.raises(ValueError, match="has no role") as error:
        role_of(weight)
    one_line(error)


def test_weights_of_other_packages_are_core():
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    assert [group_of(w) for w in layer.weights] == ["core", "core"]
    assert [is_decayed(w) for w in layer.weights] == [True, False]
    assert not any(is_stacked(w) for w in layer.weights)
