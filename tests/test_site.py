"""The documentation's site: it builds without a warning, has every page and public name, and needs no network."""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documentation import DOCUMENTS, REPOSITORY

import ifn_plugin

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The site, built from a copy: its reference is written beside the pages."""
    for name in ('sphinx', 'furo', 'myst_parser', 'sphinx_copybutton'):
        pytest.importorskip(name, reason='not installed: pip install ifn_plugin[docs]')
    folder = tmp_path_factory.mktemp('site')
    shutil.copytree(REPOSITORY / 'docs', folder / 'docs', ignore=shutil.ignore_patterns('api', '_build'))
    for name in ('ifn_plugin', 'configs'):
        (folder / name).symlink_to(REPOSITORY / name)
    command = [sys.executable, '-m', 'sphinx', '--fail-on-warning', '--keep-going', '--quiet', 'docs', 'html']
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return folder / 'html'


def test_every_page_is_there(site):
    pages = {path.relative_to(REPOSITORY / 'docs') for path in DOCUMENTS if path.is_relative_to(REPOSITORY / 'docs')}
    assert len(pages) > 20
    assert all((site / page.with_suffix('.html')).is_file() for page in pages)


@pytest.mark.parametrize('package', ['ifn_plugin', 'ifn_plugin.models', 'ifn_plugin.datasets', 'ifn_plugin.engine',
                                     'ifn_plugin.evaluation', 'ifn_plugin.fileio', 'ifn_plugin.apis.rasters'])
def test_every_public_class_and_function_is_in_the_reference(site, package):
    pages = ''.join(path.read_text(encoding='utf-8') for path in (site / 'api').glob('*.html'))
    module = importlib.import_module(package)
    objects = [getattr(module, name) for name in module.__all__]
    objects = [thing for thing in objects if inspect.isclass(thing) or inspect.isfunction(thing)]
    missing = [f'{thing.__module__}.{thing.__qualname__}' for thing in objects
               if f'id="{thing.__module__}.{thing.__qualname__}"' not in pages]
    assert objects and not missing


def test_nothing_is_loaded_from_elsewhere(site):
    """Links lead out; style sheets, scripts, fonts and pictures do not."""
    for path in site.rglob('*.html'):
        text = path.read_text(encoding='utf-8')
        assert not re.findall(r'<(?:link|script|img|iframe)[^>]*?(?:href|src)="(?:https?:)?//', text), path
    for path in site.rglob('*.css'):
        assert not re.findall(r'(?:@import|url\()\s*["\']?(?:https?:)?//', path.read_text(encoding='utf-8')), path


def test_version_is_the_packages(site):
    assert ifn_plugin.__version__ in Path(site / 'objects.inv').read_bytes()[:200].decode(errors='ignore')
