"""mmseg's losses in the head of one channel."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.models import FCNHead
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from ifn_plugin.models import IFNHead

BCE = dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True)
LOVASZ = dict(type='mmseg.LovaszLoss', loss_type='binary')


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def losses(loss, logit, label):
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x[None])) for x in label]
    head = IFNHead(in_channels=(16, 32), loss_decode=loss)
    mmsegs = FCNHead(in_channels=8, channels=8, num_classes=2, out_channels=1, threshold=0.5, loss_decode=loss)
    name = mmsegs.loss_decode.loss_name
    return (head.loss_by_feat([logit[..., ::2, ::2], logit], samples)[f'level2.{name}'],
            mmsegs.loss_by_feat(logit, samples)[name])


def label_with_ignored():
    label = (torch.rand(2, 16, 16) > 0.7).long()
    label[:, :2] = 255
    return label


@pytest.mark.parametrize('settings', [dict(per_image=True), dict(per_image=False, reduction='none')])
def test_lovasz_is_mmsegs_and_ignored_pixels_do_not_count(settings):
    logit, label = torch.randn(2, 1, 16, 16, requires_grad=True), label_with_ignored()
    ours, mmsegs = losses(LOVASZ | settings, logit, label)
    torch.testing.assert_close(ours, mmsegs)
    ours.backward()
    assert (logit.grad[:, 0, :2] == 0).all() and logit.grad.any()
    right = torch.where(label == 1, 9., -9.)[:, None]
    assert losses(LOVASZ | settings, right, label)[0] < 0.01 < 1 < losses(LOVASZ | settings, -right, label)[0]


def test_lovasz_by_image_is_the_mean_of_the_images():
    logit, label = torch.randn(2, 1, 16, 16), label_with_ignored()
    both = losses(dict(LOVASZ, per_image=True), logit, label)[0]
    single = [losses(dict(LOVASZ, per_image=True), logit[[n]], label[[n]])[0] for n in range(2)]
    torch.testing.assert_close(both, sum(single) / 2)
    assert losses(dict(LOVASZ, per_image=True), logit, torch.full_like(label, 255))[0] == 0


def test_lovasz_in_bfloat16():
    logit, label = torch.randn(2, 1, 16, 16), label_with_ignored()
    loss = dict(LOVASZ, per_image=True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        low = losses(loss, logit.bfloat16(), label)[0]
    torch.testing.assert_close(low, losses(loss, logit, label)[0], rtol=0.01, atol=0, check_dtype=False)


def test_one_class_weight_is_what_a_changed_pixel_counts():
    logit, label = torch.randn(2, 1, 16, 16), label_with_ignored()
    ours, mmsegs = losses(dict(BCE, class_weight=[3.]), logit, label)
    kept = label != 255
    expected = F.binary_cross_entropy_with_logits(
        logit[:, 0][kept], label[kept].float(), weight=1 + 2 * label[kept].float())
    torch.testing.assert_close((ours, mmsegs), (expected, expected))


@pytest.mark.parametrize('loss, message', [
    (dict(BCE, class_weight=[2., 3.]), r'CrossEntropyLoss takes one class_weight.*not 2: .*Fix: class_weight=\[1\.5\]'),
    (dict(BCE, class_weight=[0., 1.]), 'takes one class_weight'),
    (dict(BCE, class_weight=[1., 1., 1.]), 'takes one class_weight.*not 3'),
    (dict(LOVASZ, per_image=True, class_weight=[1., 3.]), 'takes no notice of class_weight'),
    (dict(type='mmseg.LovaszLoss', per_image=True), "LovaszLoss needs loss_type='binary'"),
    (dict(type='mmseg.DiceLoss', activate=False), 'DiceLoss needs activate=True'),
    (dict(type='mmseg.DiceLoss', ignore_index=0), "DiceLoss's ignore_index is a channel"),
    (dict(type='mmseg.DiceLoss', use_sigmoid=False), 'DiceLoss needs use_sigmoid=True'),
    *((dict(type=f'mmseg.{name}'), f'one channel, which {name} does not know. Fix: CrossEntropyLoss')
      for name in ('TverskyLoss', 'FocalLoss', 'HuasdorffDisstanceLoss', 'BoundaryLoss', 'OhemCrossEntropy',
                   'SiLogLoss')),
])
def test_losses_that_do_not_fit_one_channel_are_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        IFNHead(loss_decode=loss)
    with pytest.raises(ValueError, match=message):
        IFNHead(loss_decode=[BCE, loss])
