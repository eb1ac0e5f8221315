"""Building the parts of a layer."""


def build_once(layer, *shapes):
    """Builds a layer unless it is built: on loading, Keras builds parts first.

    Args:
        layer: A part of the layer that is being built.
        *shapes: What its `build` takes.
    """
    if not layer.built:
        layer.build(*shapes)
