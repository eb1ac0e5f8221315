"""Optimizers, their schedules, and which weights they treat how."""
