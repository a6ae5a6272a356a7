"""The package itself: what it needs, what it says where that is missing, and what its wheel carries."""

import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from mmengine.config import Config

from ifn_plugin import StackError
from ifn_plugin.utils import stack as _stack

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize('versions, message', [
    ({'mmengine': None, 'onedl-mmengine': None}, r'needs mmengine .*it is not installed.*pip install'),
    ({'torch': '1.13.1'}, r'needs torch >=2\.1,<3; 1\.13\.1 is installed.*pip install "ifn_plugin\[mmseg\]"'),
    ({'mmsegmentation': '1.2.2', 'onedl-mmsegmentation': '1.4.2'}, 'both installed.*one module.*pip uninstall'),
    ({'onedl-mmsegmentation': None, 'mmsegmentation': '0.30.0'},
     r'needs mmsegmentation >=1\.2\.0,<2; 0\.30\.0 is installed.*open-cd'),
])
def test_stack_that_does_not_fit(monkeypatch, versions, message):
    installed = metadata.version

    def version(name):
        if name in versions:
            if versions[name] is None:
                raise metadata.PackageNotFoundError(name)
            return versions[name]
        return installed(name)

    monkeypatch.setattr(_stack.metadata, 'version', version)
    with pytest.raises(StackError, match=message):
        _stack.check_stack()


def test_mmseg_that_does_not_import(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmseg.models', None)
    with pytest.raises(StackError, match='cannot be imported'):
        _stack.check_stack()


@pytest.mark.parametrize('error, message', [
    (ModuleNotFoundError("No module named 'mmcv._ext'"), r"'mmcv\._ext'\. mmsegmentation needs mmcv with its compiled"),
    (AssertionError('MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4.'), r'rc4\. Fix: pip'),
])
def test_mmseg_says_why_it_does_not_import(monkeypatch, error, message):

    class Finder:

        def find_spec(self, name, path=None, target=None):
            if name == 'mmseg.models':
                raise error

    monkeypatch.delitem(sys.modules, 'mmseg.models')
    monkeypatch.setattr(sys, 'meta_path', [Finder(), *sys.meta_path])
    with pytest.raises(StackError, match=message):
        _stack.check_stack()


def test_error_through_custom_imports_ends_with_the_fix(tmp_path):
    """mmengine replaces an ImportError by "Failed to import"; the user must see the plugin's own sentence last."""
    old = tmp_path / 'mmengine-0.1.0.dist-info'
    old.mkdir()
    (old / 'METADATA').write_text('Metadata-Version: 2.1\nName: mmengine\nVersion: 0.1.0\n')
    (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['ifn_plugin'])\n")
    code = f"from mmengine.config import Config; Config.fromfile(r'{tmp_path / 'config.py'}')"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, (tmp_path, REPOSITORY))))
    process = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True)
    last = process.stderr.strip().splitlines()[-1]
    assert process.returncode == 1
    assert 'needs mmengine' in last and '0.1.0 is installed' in last and 'Fix: pip install' in last


@pytest.fixture(scope='module')
def content(wheel):
    with zipfile.ZipFile(wheel) as archive:
        yield archive


def test_wheel_carries_the_configurations_and_commands(content):
    names = set(content.namelist())
    for path in (REPOSITORY / 'configs').rglob('*.py'):
        relative = path.relative_to(REPOSITORY).as_posix()
        assert content.read(f'ifn_plugin/.mim/{relative}') == path.read_bytes()
    assert {'ifn_plugin/.mim/tools/train.py', 'ifn_plugin/.mim/tools/test.py', 'ifn_plugin/py.typed'} <= names
    assert {'+ifn_plugin_mim/tools/train.py', '+ifn_plugin_mim/configs/ifn/ifn_256x256_40k_levircd.py'} <= names
    # onedl-mim looks in the folder of the first file that pip records, where programs stand above the package
    assert min(*names, '../../../bin/ifn-plugin').startswith('+ifn_plugin_mim/')
    templates = (REPOSITORY / 'ifn_plugin').rglob('*.j2')
    assert names >= {path.relative_to(REPOSITORY).as_posix() for path in templates} != set()
    assert not any('test_' in name for name in names)


def test_wheel_has_one_program_and_links_that_exist(content):
    programs = content.read(next(name for name in content.namelist() if name.endswith('entry_points.txt'))).decode()
    assert programs.split('\n')[:2] == ['[console_scripts]', 'ifn-plugin = ifn_plugin.__main__:main']
    metadata = content.read(next(name for name in content.namelist() if name.endswith('METADATA'))).decode()
    links = re.findall(r'^Project-URL: (\S+), (\S+)$', metadata, re.MULTILINE)
    readme = (REPOSITORY / 'README.md').read_text(encoding='utf-8')
    assert dict(links)['Paper'] in readme and all(address in readme for _, address in links)


def test_installing_never_replaces_the_stack(content):
    lines = content.read(next(name for name in content.namelist() if name.endswith('METADATA'))).decode().splitlines()
    always = [line for line in lines if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert always == ['Requires-Dist: packaging', 'Requires-Dist: prettytable>=3.12']


@pytest.mark.parametrize('path', [
    path for path in sorted((REPOSITORY / 'configs').glob('ifn*/*.py')) if 'demo' not in path.name
], ids=lambda path: path.name)
def test_configurations_keep_checkpoints_by_f1_and_state_their_threshold(path):
    cfg = Config.fromfile(path, import_custom_modules=False)  # not everyone has mmpretrain
    assert cfg.default_hooks.checkpoint.save_best == 'F1' and cfg.default_hooks.checkpoint.rule == 'greater'
    assert cfg.val_evaluator.type == 'ifn_plugin.ChangeMetric'
    assert 0 < cfg.model.decode_head.threshold < 1


def test_configuration_names_are_unique():
    names = [path.name for path in (REPOSITORY / 'configs').glob('ifn*/*.py')]
    assert len(names) == len(set(names)) > 2
