"""The whole configuration: sections without defaults, YAML, and plug-ins built from it."""

from climb.config.load import load, resolved_yaml
from climb.config.plugins import ModelPath, build, recipe_of
from climb.config.sections import Config

__all__ = ["Config", "ModelPath", "build", "load", "recipe_of", "resolved_yaml"]
