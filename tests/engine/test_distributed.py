"""Two processes on one machine, through torch's launcher: gloo without a GPU, NCCL with two of them."""

import re
import socket
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch

from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.models import IFN
from ifn_plugin.utils.configurations import find_config

pytestmark = pytest.mark.slow

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
GRADIENTS = """
import sys
from types import SimpleNamespace
import torch
from mmengine.config import ConfigDict
from mmengine.dist import get_rank, get_world_size
from mmengine.model import MMDistributedDataParallel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from ifn_plugin.engine import EvaluationHook
from ifn_plugin.engine.processes import leave_processes

torch.set_num_threads(1)
register_all_modules(init_default_scope=True)
torch.manual_seed(0)
model = MODELS.build(ConfigDict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(type='ifn_plugin.PairDataPreprocessor', mean=[127.5] * 3, std=[60.] * 3, size_divisor=16),
    backbone=dict(type='ifn_plugin.IFN', init_cfg=None),
    decode_head=dict(type='ifn_plugin.IFNHead'), train_cfg=dict(), test_cfg=dict(mode='whole')))
images = torch.randint(0, 256, (4, 6, 32, 32), dtype=torch.uint8)
labels = (torch.rand(4, 1, 32, 32) > 0.7).long()
if len(sys.argv) > 2:
    torch.distributed.init_process_group('gloo')
    share = slice(2 * get_rank(), 2 * get_rank() + 2)
    images, labels = images[share], labels[share]
    assert get_world_size() == 2
    wrapped = MMDistributedDataParallel(model, find_unused_parameters=False)
else:
    wrapped = model
wrapped.eval()  # normalizations by their running statistics: those of half a batch are not the entire batch's
samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
for _ in range(2):  # an unused parameter would stop the second iteration
    model.zero_grad()
    data = model.data_preprocessor(dict(inputs=list(images), data_samples=samples), True)
    losses = wrapped(**data, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
if len(sys.argv) <= 2 or get_rank() == 0:
    torch.save({name: p.grad for name, p in model.named_parameters() if p.requires_grad}, sys.argv[1])
if len(sys.argv) > 2:
    for buffer in model.buffers():  # as far apart as running statistics of different batches
        buffer.fill_(1 + get_rank())
    loop = SimpleNamespace(evaluator=SimpleNamespace(metrics=[]))
    EvaluationHook().before_val_epoch(SimpleNamespace(model=wrapped, val_loop=loop))
    assert all((buffer == 1).all() for buffer in model.buffers())
    del wrapped
    leave_processes()
"""
THREADS = """
import sys
from importlib import import_module
from pathlib import Path

import_module(sys.argv[1]).main(sys.argv[2:])
threads = [path.read_text().strip() for path in Path('/proc/self/task').glob('*/comm')]
assert not [name for name in threads if 'gloo' in name], threads
"""


@pytest.fixture
def torchrun(python):
    """A function that runs a module or script in two processes."""

    def run(*arguments):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        return python('-m', 'torch.distributed.run', '--nproc-per-node=2', f'--master-port={port}', *arguments)

    return run


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The URL of a server of random weights for the encoder, and what was asked of it; torch's cache is empty."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    (tmp_path / 'served').mkdir()
    torch.save(IFN(init_cfg=None).state_dict(), tmp_path / 'served' / 'vgg16.pth')
    requests = []

    class Handler(SimpleHTTPRequestHandler):

        def do_GET(self):
            requests.append(self.path)
            super().do_GET()

    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=tmp_path / 'served')) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{running.server_port}', requests
        running.shutdown()


def test_gradients_are_those_of_one_process_with_the_joint_batch(torchrun, python, tmp_path):
    """And before a validation, all have the normalizations' running statistics of the first, which are saved."""
    script = tmp_path / 'gradients.py'
    script.write_text(GRADIENTS)
    python(script, tmp_path / 'one.pth')
    torchrun(script, tmp_path / 'two.pth', 'distributed')
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ('one.pth', 'two.pth'))
    assert len(one) == 111 and all(gradient.abs().sum() > 0 for gradient in one.values())
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-7)


def test_training_and_testing_in_two_processes(torchrun, python, scalars, options, server, tmp_path):
    """Train; resume in half precision; test three pairs, which two processes do not divide, with one process's figures.

    The encoder's weights come from a server, once for both. At the end no thread of gloo is left, which could abort a
    process that is on its way out.
    """
    script = tmp_path / 'threads.py'
    script.write_text(THREADS)
    data = tmp_path / 'data'
    write_dataset(data, dict(train=4, val=2, test=3), size=64)
    settings = [*options, *(f'{split}_dataloader.dataset.data_root={data}' for split in ('train', 'val', 'test'))]
    url, requests = server
    settings.remove('model.backbone.init_cfg=None')
    settings.append(f'model.backbone.init_cfg.checkpoint={url}/vgg16.pth')
    run = tmp_path / 'run'
    command = ['-m', 'ifn_plugin.tools.train', CONFIG, '--launcher', 'pytorch', '--work-dir', run]
    torchrun(*command, '--cfg-options', *settings, 'train_cfg.max_iters=2')
    output = torchrun(script, *command[1:], '--resume', '--channels-last', '--dtype', 'bfloat16', '--cfg-options',
                      *settings, 'train_cfg.max_iters=3')
    assert 'computing in torch.bfloat16' in output
    assert [entry['iter'] for entry in scalars(run) if 'loss' in entry] == [1, 2, 3]
    assert requests == ['/vgg16.pth']
    state = torch.load(run / 'iter_3.pth', weights_only=False)['state_dict']
    assert all(torch.equal(value, state[f'backbone.{key}'])
               for key, value in torch.load(tmp_path / 'served' / 'vgg16.pth', weights_only=True).items())
    command = ['-m', 'ifn_plugin.tools.test', CONFIG, run / 'iter_2.pth', '--work-dir', tmp_path / 'test']
    outputs = (torchrun(script, *command[1:], '--launcher', 'pytorch', '--cfg-options', *settings),
               python(*command, '--cfg-options', *settings))
    figures = [dict(re.findall(r'(\S+): +(-?[\d.]+)', output.split('Iter(test)')[-1])) for output in outputs]
    for found in figures:
        del found['data_time'], found['time']
    # scores of the change maps, at 0.5 and at the validation's threshold, AP, and the threshold
    assert len(figures[0]) == 20 and figures[0] == figures[1]
    assert float(figures[0]['F1']) > 0
