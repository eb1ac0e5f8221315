"""Configuration, presets and the network itself."""

from widenet_keras.models.config import WideNetConfig as WideNetConfig
from widenet_keras.models.description import describe as describe
from widenet_keras.models.fields import parse_fields as parse_fields
from widenet_keras.models.presets import PRESETS as PRESETS
from widenet_keras.models.presets import preset_config as preset_config
from widenet_keras.models.presets import presets as presets
from widenet_keras.models.widenet import WideNet as WideNet
