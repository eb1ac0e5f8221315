"""The folder of a training run: checkpoints, tables, pictures, going on."""
