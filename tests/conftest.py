"""Fixtures of all tests."""

import gc
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import MODELS, DefaultScope
from mmengine.visualization import Visualizer

from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.utils.configurations import find_config

REPOSITORY = Path(__file__).parents[1]
if 'PYTEST_XDIST_WORKER' in os.environ:
    # two processes that have two threads each would wait for each other
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
else:
    torch.set_num_threads(2)


@pytest.fixture(scope='module', autouse=True)
def few_objects():
    """mmengine collects garbage for every data set, not among what imports and former tests have left."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def forget_runs():
    """Runs that start in the same second have the same name, for which mmengine would give the former's folder."""
    yield
    for kind in (MMLogger, MessageHub, Visualizer, *Visualizer.__subclasses__()):
        kind._instance_dict.clear()


@pytest.fixture(scope='session')
def levir_like(tmp_path_factory):
    """A small drawn data set in LEVIR-CD's layout: 64×64, 4 + 2 + 2 pairs."""
    folder = tmp_path_factory.mktemp('levir-like')
    write_dataset(folder, dict(train=4, val=2, test=2), size=64)
    return folder


@pytest.fixture
def levir_root(levir_like, tmp_path):
    """A copy of ``levir_like`` that a test may change."""
    return Path(shutil.copytree(levir_like, tmp_path / 'levir'))


@pytest.fixture
def real_data(levir_like):
    """Data set, {train,val,test}/{A,B,label}, that the environment variable IFN_PLUGIN_LEVIR names, or the drawn."""
    return Path(os.environ.get('IFN_PLUGIN_LEVIR') or levir_like)


@pytest.fixture(scope='session')
def golden():
    """A function that gives a reference's outputs, weights and images (date 1, date 2, label), float64.

    ``tests/golden`` holds no weights: ``rules.py`` gives every parameter from its name.
    """
    spec = importlib.util.spec_from_file_location('rules', REPOSITORY / 'tests' / 'golden' / 'rules.py')
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    return rules.read


@pytest.fixture(scope='session')
def python():
    """A function that runs this Python with arguments in a process of its own and gives what it printed."""

    def run(*arguments, fails=False, path=REPOSITORY, cwd=None):
        environment = dict(os.environ, PYTHONPATH=str(path), PYTHONWARNINGS='ignore')
        process = subprocess.run([sys.executable, *map(str, arguments)], env=environment, cwd=cwd, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
        assert (process.returncode != 0) == fails, process.stdout
        return process.stdout

    return run


@pytest.fixture(scope='session')
def wheel(tmp_path_factory, python):
    """The plugin's wheel, built from a copy, since setuptools leaves its work in the source."""
    pytest.importorskip('setuptools', reason='building the wheel needs setuptools')
    source, target = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')
    for name in ('ifn_plugin', 'configs'):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'model-index.yml'):
        shutil.copy(REPOSITORY / name, source / name)
    python('-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '--wheel-dir', target, source)
    return next(target.glob('*.whl'))


@pytest.fixture(scope='session')
def options(levir_like):
    """Settings that make a 40k configuration a matter of seconds."""
    settings = [
        'model.backbone.init_cfg=None', 'randomness.seed=0', 'train_dataloader.batch_size=2',
        'default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=2', 'train_cfg.val_interval=2'
    ]
    for split in ('train', 'val', 'test'):
        settings += [f'{split}_dataloader.num_workers=0', f'{split}_dataloader.persistent_workers=False',
                     f'{split}_dataloader.dataset.data_root={levir_like}']
    return settings


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    """Random weights of IFN that call half of a noisy image changed at the threshold of the 40k configurations."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        config = find_config('ifn_mmseg_256x256_40k_levircd.py')
        model = MODELS.build(Config.fromfile(config).model).eval()
    layer = model.decode_head.levels[-1].logit
    with torch.no_grad():
        logit = model.decode_head(model.backbone(torch.randn(1, 6, 64, 64)))[-1]
        layer.weight.div_(logit.std())
        layer.bias.sub_(logit.median()).div_(logit.std()).add_(torch.tensor(0.3).logit())
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.fixture(scope='session')
def scalars():
    """A function that gives everything that the runs in a work dir logged, in order."""

    def read(work_dir):
        return [json.loads(line) for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
                for line in path.read_text().splitlines()]

    return read


@pytest.fixture(scope='session')
def chromium():
    """A headless Chromium, the one on this machine."""
    playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    path = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if path is None:
        pytest.skip('no Chromium is installed: apt-get install chromium')
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=path, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture(params=[1400, 500])
def open_page(request, chromium):
    """A function that opens a file, in a wide and in a narrow window; nothing fails or leaves the file's folder."""
    context = chromium.new_context(viewport=dict(width=request.param, height=900), offline=True)
    faults = []

    def visit(path):
        page = context.new_page()
        page.on('console', lambda message: message.type in ('error', 'warning') and faults.append(message.text))
        page.on('pageerror', lambda error: faults.append(str(error)))
        page.on('requestfailed', lambda sent: faults.append(sent.url[:100]))
        page.on('request', lambda sent: faults.append(sent.url[:100]) if not sent.url.startswith(
            ('data:', 'blob:', path.parent.as_uri())) else None)
        page.goto(path.as_uri())
        page.wait_for_function('window.ready')
        # nothing sticks out at the side
        assert page.evaluate('document.documentElement.scrollWidth') <= request.param
        return page

    yield visit
    context.close()
    assert faults == []
