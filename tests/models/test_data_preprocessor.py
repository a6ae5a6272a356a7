import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ifn_plugin.models import PairDataPreprocessor
from ifn_plugin.registry import MODELS

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def pair(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (6, height, width), generator=generator, dtype=torch.uint8)


def sample(height: int, width: int) -> SegDataSample:
    label = torch.arange(height * width).reshape(1, height, width) % 2
    return SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(ori_shape=(height, width)))


def by_hand(image: torch.Tensor) -> torch.Tensor:
    """Normalize each BGR date of a pair to RGB, channel by channel."""
    source = (2, 1, 0, 5, 4, 3)
    channels = [(image[source[i]].double() - MEAN[i % 3]) / STD[i % 3] for i in range(6)]
    return torch.stack(channels).float()


@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize('training', [True, False])
def test_values_are_normalized_for_each_date(count, training):
    preprocessor = PairDataPreprocessor(MEAN, STD, bgr_to_rgb=True, size_divisor=16)
    images = [pair(16, 32, seed) for seed in range(count)]
    data = preprocessor(dict(inputs=images, data_samples=[sample(16, 32) for _ in images]), training)
    assert data['inputs'].shape == (count, 6, 16, 32)
    assert data['inputs'].dtype == torch.float32
    torch.testing.assert_close(data['inputs'], torch.stack([by_hand(image) for image in images]), atol=1e-5, rtol=0)
    assert len(data['data_samples']) == count


def test_dates_keep_their_order():
    image = torch.cat((torch.zeros(3, 4, 4), torch.full((3, 4, 4), 255.))).byte()
    inputs = PairDataPreprocessor((0., 0., 0.), (1., 1., 1.), bgr_to_rgb=True)(dict(inputs=[image]))['inputs']
    assert (inputs[0, :3] == 0).all() and (inputs[0, 3:] == 255).all()


def test_channel_order_is_kept_by_default():
    image = pair(4, 4)
    inputs = PairDataPreprocessor((0., 0., 0.), (1., 1., 1.))(dict(inputs=[image]))['inputs']
    assert torch.equal(inputs[0], image.float())


@pytest.mark.parametrize('flag', ['bgr_to_rgb', 'rgb_to_bgr'])
def test_both_names_of_the_conversion_reverse_each_date(flag):
    image = pair(4, 4)
    inputs = PairDataPreprocessor((0., 0., 0.), (1., 1., 1.), **{flag: True})(dict(inputs=[image]))['inputs']
    assert torch.equal(inputs[0], image[[2, 1, 0, 5, 4, 3]].float())


def test_input_is_left_as_it_was():
    image = pair(8, 8)
    before = image.clone()
    PairDataPreprocessor(MEAN, STD, bgr_to_rgb=True)(dict(inputs=[image]))
    assert torch.equal(image, before)


def test_training_pads_images_and_labels():
    preprocessor = PairDataPreprocessor(MEAN, STD, bgr_to_rgb=True, size_divisor=16, pad_val=0, seg_pad_val=255)
    image, other = pair(20, 30), pair(33, 10, seed=1)
    data = preprocessor(dict(inputs=[image, other], data_samples=[sample(20, 30), sample(33, 10)]), training=True)
    assert data['inputs'].shape == (2, 6, 48, 32)
    torch.testing.assert_close(data['inputs'][0, :, :20, :30], by_hand(image), atol=1e-5, rtol=0)
    torch.testing.assert_close(data['inputs'][1, :, :33, :10], by_hand(other), atol=1e-5, rtol=0)
    # the padding is 0 after the normalization, which is the mean colour
    assert (data['inputs'][0, :, 20:] == 0).all() and (data['inputs'][0, :, :, 30:] == 0).all()
    label = data['data_samples'][0].gt_sem_seg.data
    assert label.shape == (1, 48, 32)
    assert torch.equal(label[:, :20, :30], sample(20, 30).gt_sem_seg.data)
    assert (label[:, 20:] == 255).all() and (label[:, :, 30:] == 255).all()


def test_testing_does_not_pad_by_default():
    preprocessor = PairDataPreprocessor(MEAN, STD, size_divisor=16)
    data = preprocessor(dict(inputs=[pair(20, 30)], data_samples=[sample(20, 30)]))
    assert data['inputs'].shape == (1, 6, 20, 30)
    assert data['data_samples'][0].gt_sem_seg.data.shape == (1, 20, 30)


def test_testing_pads_as_test_cfg_says():
    preprocessor = PairDataPreprocessor(MEAN, STD, bgr_to_rgb=True, test_cfg=dict(size_divisor=16))
    image = pair(20, 30)
    data = preprocessor(dict(inputs=[image], data_samples=[sample(20, 30)]))
    assert data['inputs'].shape == (1, 6, 32, 32)
    torch.testing.assert_close(data['inputs'][0, :, :20, :30], by_hand(image), atol=1e-5, rtol=0)
    assert (data['inputs'][0, :, 20:] == 0).all()
    # right and bottom, which the detector takes off again
    assert data['data_samples'][0].img_padding_size == (0, 2, 0, 12)
    assert data['data_samples'][0].gt_sem_seg.data.shape == (1, 20, 30)


@pytest.mark.parametrize('channels', [1, 3, 4, 8])
def test_wrong_channels_are_refused(channels):
    image = torch.zeros(channels, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match=rf'pair of 6 channels is needed, 3 per date, .* gives {channels}\.'):
        PairDataPreprocessor(MEAN, STD, bgr_to_rgb=True)(dict(inputs=[image]))


def test_one_wrong_image_of_a_batch_is_refused():
    with pytest.raises(ValueError, match='gives 3'):
        PairDataPreprocessor(MEAN, STD)(dict(inputs=[pair(16, 16), pair(16, 16)[:3]]))


def test_single_channel_dates():
    image = pair(4, 4)[:2]
    inputs = PairDataPreprocessor((10., ), (2., ), bgr_to_rgb=True)(dict(inputs=[image]))['inputs']
    torch.testing.assert_close(inputs[0], (image.float() - 10) / 2)


def test_mean_and_std_are_buffers_outside_the_checkpoint():
    preprocessor = MODELS.build(dict(type='ifn_plugin.PairDataPreprocessor', mean=MEAN, std=STD))
    assert {name: tuple(buffer.shape) for name, buffer in preprocessor.named_buffers()} == dict(
        mean=(6, 1, 1), std=(6, 1, 1))
    assert not preprocessor.state_dict()


@pytest.mark.parametrize('settings, message', [
    (dict(bgr_to_rgb=True, rgb_to_bgr=True), 'bgr_to_rgb=True and rgb_to_bgr=True contradict each other. Fix:'),
    (dict(size=(64, 64), size_divisor=16), r'size=\(64, 64\) and size_divisor=16 contradict each other. Fix:'),
    (dict(size_divisor=16, test_cfg=dict(size=(64, 64), size_divisor=16)), 'contradict each other'),
    (dict(std=STD[:1]), 'one value for each channel of a date in both'),
    (dict(std=(0., 1., 1.)), 'and std above 0'),
])
def test_settings_that_do_not_fit_are_refused_when_built(settings, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(dict(type='ifn_plugin.PairDataPreprocessor', mean=MEAN, std=STD), **settings))
