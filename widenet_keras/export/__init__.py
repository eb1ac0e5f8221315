"""Files that run without this package: SavedModel and LiteRT (TFLite).

Both go through TensorFlow. A model that lives on JAX or torch is saved, and a
second process opens and exports it there.
"""

from widenet_keras.export.export import export_litert as export_litert
from widenet_keras.export.export import export_saved_model as export_saved_model
