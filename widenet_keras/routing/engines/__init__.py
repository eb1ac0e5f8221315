"""Dispatch engines: ways to bring tokens to experts, equal in result."""

from widenet_keras.routing.engines.choice import ENGINES as ENGINES
from widenet_keras.routing.engines.choice import check_engine as check_engine
from widenet_keras.routing.engines.choice import engine_named as engine_named
