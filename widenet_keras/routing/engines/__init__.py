"""Dispatch engines: ways to bring tokens to experts, equal in result."""

from widenet_keras.routing.engines.choice import ENGINES, check_engine, engine_named

__all__ = [
    "ENGINES",
    "check_engine",
    "engine_named",
]
