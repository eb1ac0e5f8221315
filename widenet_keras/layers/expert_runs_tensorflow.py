"""Runs of rows of dynamic sizes on TensorFlow: split, one MLP each, concatenate."""

import tensorflow as tf


def run_by_expert(mlp, rows, sizes, bank, draws):
    """Returns what each expert makes of its run of rows, (N, D).

    Splitting rows and unstacking weights share memory on CPU; their gradients
    are one concatenation and one stack.

    Args:
        mlp: `Mlp`.
        rows: (N, D), sorted by expert.
        sizes: (E,) int32; rows behind the last run come out as zeros.
        bank: `Bank` in the dtype of the rows.
        draws: `RandomDraws`.
    """
    rest = tf.shape(rows)[0] - tf.reduce_sum(sizes)
    *runs, unserved = tf.split(
        rows, tf.concat([sizes, [rest]], axis=0), num=sizes.shape[0] + 1
    )
    outputs = [mlp(run, each, draws) for run, each in zip(runs, bank.each, strict=True)]
    return tf.concat([*outputs, tf.zeros_like(unserved)], axis=0)
