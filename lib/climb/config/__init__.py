"""The whole configuration: sections without defaults, YAML, and plug-ins built from it."""

from climb.config.load import load, resolved_yaml
from climb.config.plugins import ModelPath, build, model_paths, recipe_of
from climb.config.sections import Config

__all__ = ["Config", "ModelPath", "build", "load", "model_paths", "recipe_of", "resolved_yaml"]
