"""What ``import ifn_plugin`` gives: the names; quickly; and a help that begins with an example."""

import inspect
import pydoc

import pytest

import ifn_plugin


@pytest.mark.parametrize('name', ifn_plugin.__all__)
def test_every_public_name_is_there_and_explained(name):
    value = getattr(ifn_plugin, name)
    assert name in dir(ifn_plugin)
    assert name == '__version__' or inspect.getdoc(value)


def test_names_are_those_of_their_modules():
    from ifn_plugin import ChangeDetector, accelerate, convert_state_dict
    from ifn_plugin.checkpoint import convert_state_dict as converts
    from ifn_plugin.engine import accelerate as accelerates
    from ifn_plugin.inference import ChangeDetector as Detects
    assert (ChangeDetector, accelerate, convert_state_dict) == (Detects, accelerates, converts)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'ifn_plugin' has no attribute 'ChangeDetektor'"):
        ifn_plugin.ChangeDetektor  # noqa: B018
    with pytest.raises(ImportError, match='cannot import name'):
        from ifn_plugin import nothing  # noqa: F401


def test_import_stays_quick(python):
    """What takes long or is optional is imported when it is used."""
    late = ('torch._dynamo', 'torch._inductor', 'torch.onnx', 'rasterio', 'geopandas', 'pandas', 'matplotlib',
            'onnx', 'sklearn', 'ifn_plugin.apis.rasters', 'ifn_plugin.analysis', 'ifn_plugin.tools')
    code = f'import sys, ifn_plugin; print([name for name in {late} if name in sys.modules])'
    assert python('-c', code).splitlines()[-1] == '[]'


def test_help_begins_with_an_example():
    text = pydoc.plain(pydoc.render_doc(ifn_plugin))
    example = text.index('from ifn_plugin import ChangeDetector')
    assert example < 600 and 'python -m ifn_plugin' in text[:2000]
    assert text.index('class ChangeDetector') > example
