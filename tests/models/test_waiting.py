"""A training step asks the device for no value: on fake tensors, which have none, every question is an error."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from ifn_plugin.engine.transfer import transfer
from ifn_plugin.models import IFNHead
from ifn_plugin.models.losses import check_label, masked_accuracy, one_channel_loss

BCE = dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True)
DICE = dict(type='mmseg.DiceLoss')
LOVASZ = dict(type='mmseg.LovaszLoss', loss_type='binary', per_image=True)
ALL = [BCE, DICE, LOVASZ]
WAITS = (DataDependentOutputException, DynamicOutputShapeException)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


class Waiting(torch.nn.Module):
    """A loss of a user's own that asks."""

    loss_name = 'loss_waiting'

    def forward(self, pred, target, ignore_index):
        return pred.squeeze(1)[target != ignore_index].mean()


def train_step(dtype=torch.float32, backbone=None, **head):
    """From a preprocessed batch to new weights, on fake tensors."""
    with FakeTensorMode():
        model = MODELS.build(ConfigDict(
            type='mmseg.EncoderDecoder',
            backbone=backbone or dict(type='ifn_plugin.IFN', init_cfg=None, frozen=False),
            decode_head=dict(type='ifn_plugin.IFNHead', **head),
            train_cfg=dict(), test_cfg=dict(mode='whole')))
        optimizer = torch.optim.AdamW(model.parameters())
        images = torch.randn(2, 6, 32, 32)
        samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 2, (1, 32, 32)))) for _ in range(2)]
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
            losses = model.loss(images, samples)
        loss, _ = model.parse_losses(losses)
        loss.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_a_step_asks_for_nothing(dtype):
    model = train_step(dtype, loss_decode=ALL)
    assert all(parameter.grad.shape == parameter.shape for parameter in model.parameters())


@pytest.mark.parametrize('settings', [
    dict(loss_decode=dict(BCE, avg_non_ignore=False, class_weight=[3.])),
    dict(loss_decode=dict(DICE, naive_dice=True), downsample_label=True, loss_weights=(0, 0, 1, 1, 1)),
    dict(with_cp=True),
    dict(in_channels=(128, 256, 512, 1024), backbone=dict(
        type='ifn_plugin.PairEncoder', backbone=dict(type='mmseg.ResNetV1c', depth=18, norm_cfg=dict(type='BN')))),
], ids=['class weight', 'downsampled label', 'recomputation', 'another encoder'])
def test_a_step_with_other_settings_asks_for_nothing(settings):
    train_step(**settings)


@pytest.mark.parametrize('loss', [
    Waiting, type('OwnDice', (MODELS.get('mmseg.DiceLoss'), ), {}),
    type('OwnCrossEntropy', (MODELS.get('mmseg.CrossEntropyLoss'), ), {})])
def test_a_loss_of_ones_own_may_ask(loss, monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'Own', loss)
    settings = {} if loss is Waiting else dict(use_sigmoid=True)
    with pytest.raises(WAITS):
        train_step(loss_decode=dict(type='mmseg.Own', **settings))


@pytest.mark.parametrize('loss', [BCE, dict(BCE, class_weight=[3.]), DICE, LOVASZ])
def test_losses_are_one_graph(loss):
    torch.manual_seed(0)
    head = IFNHead(in_channels=(16, 32), loss_decode=loss)
    label = torch.randint(0, 2, (2, 1, 16, 16))
    label[:, :, :2] = 255
    logits = [torch.randn(2, 1, side, side, requires_grad=True) for side in (8, 16)]

    def losses(logits, label):
        check_label(label, 255)
        values = [one_channel_loss(head.losses[0], logit, one, 255)
                  for logit, one in zip(logits, (label[:, :, ::2, ::2], label))]
        return *values, masked_accuracy(logits[-1], label, 0.5, 255)

    compiled, eager = torch.compile(losses, fullgraph=True, backend='aot_eager')(logits, label), losses(logits, label)
    torch.testing.assert_close(compiled, eager)
    gradients = [torch.autograd.grad(sum(values[:2]), logits) for values in (compiled, eager)]
    torch.testing.assert_close(*gradients)


def test_numbers_among_a_steps_outputs_arrive_with_its_tensors():
    with FakeTensorMode():
        arriving = transfer(dict(loss=torch.ones((), device='xpu'), accuracy=50.))
    assert arriving.value.shape == (2, ) and arriving.value.device.type == 'cpu'
