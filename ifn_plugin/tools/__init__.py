"""Commands: ``python -m ifn_plugin.tools.NAME``."""
