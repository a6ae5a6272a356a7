"""The names of :mod:`ifn_plugin.apis.rasters`."""
from .apis.rasters import *  # noqa: F403
