"""What is chosen if nothing is said: batches, precision, compilation."""

import types

import cv2
import numpy as np
import pytest
import torch

from ifn_plugin.apis import defaults
from ifn_plugin.apis.inferencer import ChangeDetector
from ifn_plugin.tools import predict
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
CPU, GPU = torch.device('cpu'), torch.device('cuda')
GIB = 2**30


@pytest.mark.parametrize('device, side, free, expected', [
    (CPU, 1024, None, 1), (CPU, 256, None, 1),
    (GPU, 1024, 80, 8), (GPU, 1024, 24, 4), (GPU, 1024, 8, 1), (GPU, 1024, 1, 1),
    (GPU, 2048, 80, 2), (GPU, 256, 80, 64), (GPU, 256, 8, 21),
])
def test_batches_are_as_large_as_pays_and_fits(monkeypatch, device, side, free, expected):
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda _: (free * GIB, 0))
    assert defaults.choose_batch_size(device, side**2) == expected


@pytest.mark.parametrize('device, windows, compiled', [
    (CPU, 4, False), (CPU, 11, False), (CPU, 12, True), (CPU, 676, True), (GPU, 676, False), (GPU, 2000, True),
    (torch.device('mps'), 10**6, False)])
def test_compiled_is_what_saves_more_than_the_compiler_takes(device, windows, compiled):
    chosen = defaults.choose_acceleration(device, windows * 2**20)
    assert chosen == dict(dtype='auto', compile=compiled, keep_memory=True, tf32=True)


@pytest.fixture
def built(monkeypatch, tmp_path):
    """A function that gives the settings of the detector that the command would build for a pair of images."""
    for name in ('1999.png', '2020.png'):
        cv2.imwrite(str(tmp_path / name), np.zeros((64, 64, 3), np.uint8))

    def build(*arguments):
        seen = []
        monkeypatch.setattr(predict, 'ChangeDetector', lambda *given: seen.append(given) or _stop())
        with pytest.raises(SystemExit, match='seen'):
            predict.main([str(CONFIG), 'none.pth', *(str(tmp_path / name) for name in ('1999.png', '2020.png', 'out')),
                          '--device', 'cpu', *arguments])
        return types.SimpleNamespace(batch_size=seen[0][4], acceleration=seen[0][5])

    return build


def _stop():
    raise ValueError('seen')


def test_what_is_said_takes_precedence(built):
    plain = built()
    assert plain.batch_size == 1
    assert plain.acceleration == dict(dtype='auto', compile=False, keep_memory=True, tf32=True)
    assert built('--batch-size', '3').batch_size == 3
    assert built('--accelerate').acceleration['compile'] is True
    assert built('--no-accelerate').acceleration == {}
    assert built('--dtype', 'float32').acceleration['dtype'] == 'float32'
    assert built('--compile').acceleration['compile'] is True
    assert built('--no-accelerate', '--dtype', 'bfloat16').acceleration == dict(dtype='bfloat16')


def test_the_plain_command_computes_in_the_precision_of_the_device(checkpoint):
    detector = ChangeDetector(CONFIG, checkpoint, 'cpu', acceleration=defaults.choose_acceleration(CPU, 0))
    assert detector.dtype in (torch.bfloat16, torch.float32) and not detector.compiled
