"""Files of models: what is in them, whether they are whole, loading."""
