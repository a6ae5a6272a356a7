"""The site's settings for Sphinx: ``make docs``. It loads nothing from the network."""

import pkgutil
from importlib.metadata import version as installed

project = 'ifn_plugin'
author = copyright = 'The authors of ifn_plugin'
version = release = installed('ifn_plugin')

extensions = ['myst_parser', 'sphinx.ext.apidoc', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_copybutton']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = project
html_show_copyright = False
html_copy_source = False

# anchors as on GitHub, where the same pages are read
myst_heading_anchors = 4
# blocks that name no language are commands
highlight_language = 'sh'

apidoc_modules = [dict(path='../ifn_plugin', destination='api', exclude_patterns=['../ifn_plugin/tools/*'],
                       max_depth=2, separate_modules=True, automodule_options={'members', 'show-inheritance'})]
# each object where it is defined, not where it is imported
autodoc_default_options = {'ignore-module-all': True}
autodoc_member_order = 'bysource'
napoleon_use_ivar = True
# references within the package have to lead somewhere
nitpicky = True
# but not those to private names and type variables
nitpick_ignore_regex = [('py:.*', r'(?!ifn_plugin).*|.*\.(_\w+|T)')]


def resolve_import(app, env, node, contnode):
    """Lead a reference to an object by the package that imports it, as users do, to where it is defined."""
    target = node.get('reftarget', '')
    if node.get('refdomain') != 'py' or not target.startswith('ifn_plugin.'):
        return None
    try:
        found = pkgutil.resolve_name(target)
    except (AttributeError, ImportError):
        return None
    defined = f'{getattr(found, "__module__", "")}.{getattr(found, "__qualname__", "")}'
    return env.get_domain('py').resolve_xref(
        env, node['refdoc'], app.builder, node['reftype'], defined, node, contnode)


def setup(app):
    app.connect('missing-reference', resolve_import)
