"""mmseg's losses in the head of one channel."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.models import FCNHead
from mmseg.models.losses import DiceLoss, accuracy
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from ifn_plugin.models import IFNHead, UNetHead
from ifn_plugin.models.losses import masked_accuracy, one_channel_loss

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


@pytest.mark.parametrize('weight', [[3.], 3.])
def test_one_class_weight_is_what_a_changed_pixel_counts(weight):
    logit, label = torch.randn(2, 1, 16, 16), label_with_ignored()
    ours, mmsegs = losses(dict(BCE, class_weight=weight), logit, label)
    IFNHead(loss_decode=dict(BCE, class_weight=weight))
    kept = label != 255
    expected = F.binary_cross_entropy_with_logits(
        logit[:, 0][kept], label[kept].float(), weight=1 + 2 * label[kept].float())
    torch.testing.assert_close((ours, mmsegs), (expected, expected))


@pytest.mark.parametrize('loss, message', [
    (dict(BCE, class_weight=[2., 3.]), r'CrossEntropyLoss takes one class_weight.*not 2: .*Fix: class_weight=\[1\.5\]'),
    (dict(BCE, class_weight=[0., 1.]), 'takes one class_weight'),
    (dict(BCE, class_weight=[1., 1., 1.]), 'takes one class_weight.*not 3'),
    (dict(LOVASZ, per_image=True, class_weight=[1., 3.]), 'ignores class_weight'),
    (dict(type='mmseg.LovaszLoss', per_image=True), "LovaszLoss needs loss_type='binary'"),
    (dict(type='mmseg.DiceLoss', activate=False), 'DiceLoss needs activate=True'),
    (dict(type='mmseg.DiceLoss', ignore_index=0), "DiceLoss's ignore_index is a channel"),
    (dict(type='mmseg.DiceLoss', use_sigmoid=False), 'DiceLoss needs use_sigmoid=True'),
    *((dict(type=f'mmseg.{name}'), f'one channel, which {name} does not support. Fix: CrossEntropyLoss')
      for name in ('TverskyLoss', 'FocalLoss', 'HuasdorffDisstanceLoss', 'BoundaryLoss', 'OhemCrossEntropy',
                   'SiLogLoss')),
])
def test_losses_that_do_not_fit_one_channel_are_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        IFNHead(loss_decode=loss)
    with pytest.raises(ValueError, match=message):
        IFNHead(loss_decode=[BCE, loss])
    with pytest.raises(ValueError, match=message):
        UNetHead(num_classes=2, out_channels=1, loss_decode=loss)


def as_mmsegs(loss, logit, label, ignore_index=255):
    """What mmseg's own loss gives for the pixels that count, and for Dice, the images."""
    ignored = label[:, None] == ignore_index
    if not isinstance(loss, DiceLoss):
        return loss(logit, label, ignore_index=ignore_index).mean()
    kept = ~ignored.flatten(1).all(1)
    return loss(logit.masked_fill(ignored, -torch.inf)[kept], label[:, None].masked_fill(ignored, 0)[kept]).mean()


SETTINGS = [
    BCE, dict(BCE, avg_non_ignore=False), dict(BCE, class_weight=[3.], loss_weight=0.5), dict(BCE, reduction='sum'),
    dict(BCE, avg_non_ignore=False, class_weight=[0.2], reduction='none'),
    *(dict(type='mmseg.DiceLoss', **settings) for settings in (
        {}, dict(naive_dice=True), dict(eps=1., loss_weight=3.), dict(reduction='sum'), dict(reduction='none'))),
    *(dict(LOVASZ, **settings) for settings in (
        dict(per_image=True), dict(per_image=True, reduction='sum', loss_weight=2.),
        dict(per_image=True, reduction='none'), dict(reduction='none')))]


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
@pytest.mark.parametrize('settings', SETTINGS, ids=str)
@pytest.mark.parametrize('labels', ['ignored pixels', 'an ignored image', 'nothing changed', 'all changed'])
def test_masked_losses_and_their_gradients_are_mmsegs(settings, labels):
    loss = MODELS.build(dict(settings))
    logit, label = torch.randn(3, 1, 12, 10, requires_grad=True), torch.randint(0, 2, (3, 12, 10))
    label[:, :2] = 255
    if labels == 'an ignored image':
        label[1] = 255
    elif labels != 'ignored pixels':
        label[label != 255] = int(labels == 'all changed')
    expected = as_mmsegs(loss, logit, label)
    found = one_channel_loss(loss, logit, label[:, None], 255).mean()
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(torch.autograd.grad(found, logit), torch.autograd.grad(expected, logit), rtol=1e-5,
                               atol=1e-8)


def test_dice_of_logits_in_half_precision():
    label = torch.zeros(2, 1, 64, 64, dtype=torch.long)
    label[:, :, :40] = 1
    logit, loss = torch.where(label == 1, 8.5, -8.5).bfloat16(), MODELS.build(dict(type='mmseg.DiceLoss'))
    torch.testing.assert_close(one_channel_loss(loss, logit, label, 255),
                               one_channel_loss(loss, logit.float(), label, 255))


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_a_label_without_a_labelled_pixel_gives_nothing(settings):
    logit = torch.randn(3, 1, 12, 10, requires_grad=True)
    value = one_channel_loss(MODELS.build(dict(settings)), logit, torch.full((3, 1, 12, 10), -1), -1).mean()
    value.backward()
    assert value == 0 and (logit.grad == 0).all()


@pytest.mark.parametrize('loss', [BCE, dict(type='mmseg.DiceLoss'), dict(LOVASZ, per_image=True)], ids=str)
def test_negative_labels_are_ignored(loss):
    logit, label = torch.randn(2, 1, 8, 8), torch.randint(-1, 2, (2, 1, 8, 8))
    loss, ignored = MODELS.build(dict(loss)), label.masked_fill(label < 0, 255)
    torch.testing.assert_close(one_channel_loss(loss, logit, label, 255), one_channel_loss(loss, logit, ignored, 255))
    assert masked_accuracy(logit, label, 0.5, 255) == masked_accuracy(logit, ignored, 0.5, 255)


def test_negative_labels_are_ignored_in_cross_entropy_as_in_mmsegs():
    logit, label = torch.randn(2, 1, 8, 8), torch.randint(-1, 2, (2, 8, 8))
    loss = MODELS.build(dict(BCE))
    torch.testing.assert_close(one_channel_loss(loss, logit, label[:, None], 255), as_mmsegs(loss, logit, label))


@pytest.mark.parametrize('loss', [BCE, dict(type='mmseg.DiceLoss'), dict(LOVASZ, per_image=True)], ids=str)
def test_labels_of_more_classes_are_refused(loss):
    logit, label = torch.randn(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.long)
    label[1, 3, 4] = 2
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x[None])) for x in label]
    with pytest.raises(RuntimeError, match='Labels must be 0, 1 or, where ignored, 255'):
        IFNHead(in_channels=(16, 32), loss_decode=loss).loss_by_feat([logit, logit], samples)


@pytest.mark.parametrize('threshold', [0., 0.3, 0.5, 1.])
def test_accuracy_is_mmsegs(threshold):
    logit, label = torch.randn(2, 1, 16, 16), label_with_ignored()
    at_threshold = torch.full_like(logit, threshold).logit()
    expected = accuracy(torch.cat((at_threshold, logit), dim=1), label, ignore_index=255)
    torch.testing.assert_close(masked_accuracy(logit, label[:, None], threshold, 255), expected[0])
    assert masked_accuracy(logit, torch.full_like(label[:, None], 255), threshold, 255) == 0
