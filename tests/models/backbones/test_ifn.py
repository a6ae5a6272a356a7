import pickle
import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope
from torch.overrides import TorchFunctionMode

from ifn_plugin.fileio import CheckpointError
from ifn_plugin.models import IFN

CHANNELS = (128, 256, 512, 1024, 1024)


@pytest.fixture(scope='module')
def encoder():
    torch.manual_seed(0)
    return IFN(init_cfg=None)


@pytest.mark.parametrize('height, width', [(64, 96), (32, 32), (17, 16), (50, 33), (1, 1)])
def test_maps_have_the_shapes_of_the_stages(encoder, height, width):
    features = encoder(torch.randn(2, 6, height, width))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in (1, 2, 4, 8, 16)]
    assert [tuple(f.shape) for f in features] == [(2, c, *size) for c, size in zip(CHANNELS, sizes)]


def test_two_arguments_and_one_are_the_same(encoder):
    t1, t2 = torch.randn(2, 3, 3, 32, 48).unbind()
    for a, b in zip(encoder(t1, t2), encoder(torch.cat((t1, t2), 1))):
        assert torch.equal(a, b)


def test_dates_are_encoded_independently_and_date_1_comes_first(encoder):
    t1, t2 = torch.randn(2, 2, 3, 32, 32).unbind()
    pair, swapped, same = encoder(t1, t2), encoder(t2, t1), encoder(t1, t1)
    for a, b, c in zip(pair, swapped, same):
        half = a.shape[1] // 2
        torch.testing.assert_close(a[:, :half], b[:, half:])
        torch.testing.assert_close(a[:, :half], c[:, :half])
        assert not torch.allclose(a[:, :half], a[:, half:])


def test_one_pass_for_both_dates(encoder):
    calls = []

    class Count(TorchFunctionMode):

        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.nn.functional.conv2d or func is torch.conv2d:
                calls.append(args[0].shape[0])
            return func(*args, **(kwargs or {}))

    with Count():
        encoder(torch.randn(3, 6, 32, 32))
    assert calls == [6] * 13


def test_parameters_are_those_of_vgg16():
    model = IFN(init_cfg=None)
    assert sum(p.numel() for p in model.parameters()) == 14_714_688
    assert model.taps == [3, 8, 15, 22, 29]


def test_frozen_encoder_gets_no_gradients(encoder):
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.train()
    assert not encoder.training and not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    x = torch.randn(1, 6, 32, 32, requires_grad=True)
    assert all(f.grad_fn is None and not f.requires_grad for f in encoder(x))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    parent = torch.nn.Sequential(encoder).train()
    assert parent.training and not encoder.training


def test_not_frozen_gets_gradients():
    model = IFN(init_cfg=None, frozen=False).train()
    assert model.training
    sum(f.sum() for f in model(torch.randn(1, 6, 32, 32))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize('t1, t2, message', [
    ((1, 3, 32, 32), (1, 3, 32, 48), 'differ in shape'),
    ((1, 4, 32, 32), None, 'needs 3 channels for each date.*got 4'),
    ((1, 3, 32, 32), None, 'got 3'),
])
def test_input_that_does_not_fit_is_refused(encoder, t1, t2, message):
    with pytest.raises(ValueError, match=message):
        encoder(torch.zeros(t1), None if t2 is None else torch.zeros(t2))


def test_other_bands():
    encoder, pair = IFN(in_channels=4, init_cfg=None), torch.randn(1, 8, 16, 16)
    assert encoder(pair)[0].shape == (1, 128, 16, 16)
    assert torch.equal(pickle.loads(pickle.dumps(encoder))(pair)[0], encoder(pair)[0])


def _vgg16_file(tmp_path, change=lambda state_dict: None):
    """A file like torchvision's, with a classifier."""
    source = IFN(init_cfg=None)
    state_dict = {f'features.{key}': value for key, value in source.features.state_dict().items()}
    state_dict['classifier.0.weight'] = torch.zeros(2, 2)
    change(state_dict)
    torch.save(state_dict, tmp_path / 'vgg16.pth')
    return state_dict


@pytest.mark.parametrize('change', [lambda s: None, lambda s: s.pop('classifier.0.weight')],
                         ids=['as torchvision', 'convolutions only'])
def test_a_pretrained_file_is_loaded(tmp_path, change):
    state_dict = _vgg16_file(tmp_path, change)
    model = IFN(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'vgg16.pth')))
    model.init_weights()
    assert all(torch.equal(value, state_dict[f'features.{key}']) for key, value in model.features.state_dict().items())
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.', 'backbone.encoder1.', 't1_base.'])
def test_a_detectors_file_gives_its_encoder(tmp_path, prefix):
    source = IFN(init_cfg=None)
    state_dict = {f'{prefix}features.{key}': value for key, value in source.features.state_dict().items()}
    torch.save(dict(state_dict=state_dict, meta={}), tmp_path / 'detector.pth')
    model = IFN(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'detector.pth')))
    model.init_weights()
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), source.state_dict().values()))


@pytest.mark.parametrize('change, message', [
    (lambda s: s.pop('features.10.weight'), r'features\.10\.weight is missing'),
    (lambda s: s.update({'features.0.weight': torch.zeros(64, 4, 3, 3)}),
     r'features\.0\.weight is \(64, 4, 3, 3\), not \(64, 3, 3, 3\)'),
    (lambda s: s.update({'features.1.running_mean': torch.zeros(64)}), r'features\.1\.running_mean is unknown'),
    (dict.clear, 'is missing.*and 18 more'),
])
def test_a_pretrained_file_that_does_not_fit_is_refused(tmp_path, change, message):
    _vgg16_file(tmp_path, change)
    model = IFN(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'vgg16.pth')))
    before = [value.clone() for value in model.state_dict().values()]
    with pytest.raises(CheckpointError, match=message) as error:
        model.init_weights()
    assert 'vgg16.pth' in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values()))


def test_a_missing_pretrained_file_is_named(tmp_path):
    model = IFN(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'none.pth')))
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        model.init_weights()


def test_imagenet_weights_come_from_torchvisions_file(tmp_path, monkeypatch):
    """Without torchvision, and without the network: the file lies in torch's cache."""
    _vgg16_file(tmp_path)
    cache = tmp_path / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    (tmp_path / 'vgg16.pth').rename(cache / 'vgg16-397923af.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    model = IFN()  # nothing is loaded here
    random = model.features[0].weight.clone()
    model.init_weights()
    assert not torch.equal(random, model.features[0].weight)


def test_a_failed_download_is_reported_with_its_fix(tmp_path, monkeypatch):
    from urllib.error import URLError

    def refuse(*args, **kwargs):
        raise URLError('no network')

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', refuse)
    with pytest.raises(FileNotFoundError, match=r'vgg16-397923af\.pth cannot be downloaded.*init_cfg'):
        IFN().init_weights()


def test_other_torchvision_weights_are_refused():
    with pytest.raises(CheckpointError, match='only torchvision://vgg16 fits'):
        IFN(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')).init_weights()


def test_other_init_cfg_is_mmengines():
    model = IFN(init_cfg=dict(type='Constant', layer='Conv2d', val=0.5))
    model.init_weights()
    assert (model.features[0].weight == 0.5).all()


def test_no_checkpoint_leaves_the_weights_random():
    model = IFN(frozen=False, init_cfg=dict(type='Pretrained', checkpoint=None))
    random = model.features[0].weight.clone()
    model.init_weights()
    assert torch.equal(random, model.features[0].weight)


@pytest.mark.parametrize('init_cfg', [None, dict(type='Pretrained', checkpoint=None)])
def test_frozen_random_weights_are_reported(init_cfg):
    subprocess_code = f'from ifn_plugin.models import IFN; IFN(init_cfg={init_cfg}).init_weights()'
    run = subprocess.run([sys.executable, '-c', subprocess_code], capture_output=True, text=True, check=True)
    assert 'frozen weights are random' in run.stdout + run.stderr


@pytest.mark.parametrize('scope', ['mmseg', 'ifn_plugin', 'mmengine'])
def test_builds_from_any_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        assert isinstance(ROOT.build(dict(type='ifn_plugin.IFN', init_cfg=None)), IFN)
