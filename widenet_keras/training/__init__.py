"""Objective, train steps of the three backends, and the trainable classifier."""
