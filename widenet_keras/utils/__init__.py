"""Small helpers that know nothing of models: clear errors, safe writes."""
