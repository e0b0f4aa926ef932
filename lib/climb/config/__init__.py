"""The configuration: its sections, how YAML files are loaded, and how plug-ins are built."""

from climb.config.load import change, dump_yaml, load, replace_section
from climb.config.plugins import ModelPath, build, find_model_paths, recipe_of
from climb.config.sections import Config

__all__ = [
    "Config",
    "ModelPath",
    "build",
    "change",
    "dump_yaml",
    "find_model_paths",
    "load",
    "recipe_of",
    "replace_section",
]
