"""What computes a step in less time or memory gives the values and gradients of the plain one."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from ifn_plugin.models import IFN, ChannelAttention, SpatialAttention
from ifn_plugin.models.decode_heads.ifn_head import DecoderLevel
from ifn_plugin.models.layers import (
    decode_and_recompute,
    decode_without_autograd,
    encode_from_pairs,
    fit,
    pair_up,
)
from ifn_plugin.models.layers.pooling import largest


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def check_same(plain, drop_in, *leaves):
    """Compare the results, one or several, and the gradients of all leaves for random weights."""
    outcomes = []
    for function in (plain, drop_in):
        values = function()
        values = [values] if isinstance(values, torch.Tensor) else list(values)
        generator = torch.Generator().manual_seed(1)
        total = sum((value * torch.randn(value.shape, dtype=value.dtype, generator=generator)).sum()
                    for value in values)
        outcomes.append([*values, *torch.autograd.grad(total, leaves)])
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=0, atol=1e-10)


LEVELS = [(1, 4, 4), (1, 16, 12), (1, 15, 12), (1, 16, 11), (3, 16, 16)]


def made_level(n, height, width):
    level = DecoderLevel(16, 24, (8, 4), 0., dict(type='BN')).double()
    return level, normal(n, 24, height, width), normal(n, 16, -(-height // 2), -(-width // 2))


@pytest.mark.parametrize('n, height, width', LEVELS)
def test_a_level_without_autograd(n, height, width):
    """One image larger than the kernels, of even and odd sizes, and other images take a way of their own."""
    level, pair, coarse = made_level(n, height, width)
    level.eval()
    expected = level(pair, coarse)
    before = coarse.clone(), pair.clone()
    with torch.no_grad():
        torch.testing.assert_close(decode_without_autograd(level, pair, coarse), expected, rtol=0, atol=1e-12)
        found = level(pair, coarse)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(coarse, before[0]) and torch.equal(pair, before[1])


def test_a_recomputed_level():
    plain, pair, coarse = made_level(2, 15, 12)
    other = made_level(2, 15, 12)[0]
    other.load_state_dict(plain.state_dict())
    results = []
    for level, decode in ((plain, plain), (other, partial(decode_and_recompute, other))):
        values = decode(pair, coarse)
        total = sum((value * value.detach().cos()).sum() for value in values)
        results.append([*values, *torch.autograd.grad(total, [pair, coarse, *level.parameters()]), *level.buffers()])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-10)
    assert plain.norm.num_batches_tracked == other.norm.num_batches_tracked == 1


@pytest.mark.parametrize('n, height, width', [(2, 19, 17)])
def test_encoding_from_pairs(n, height, width):
    encoder, dates = IFN(init_cfg=None, frozen=False).double(), normal(2 * n, 3, height, width)
    check_same(partial(encoder.encode, dates), partial(encode_from_pairs, encoder.features, encoder.taps, dates),
               dates, *encoder.parameters())


def test_pairs_in_both_memory_formats():
    dates = torch.randn(4, 3, 5, 6)
    expected = torch.stack([torch.cat((dates[0], dates[1])), torch.cat((dates[2], dates[3]))])
    assert torch.equal(pair_up(dates), expected)
    last = pair_up(dates.to(memory_format=torch.channels_last))
    assert torch.equal(last, expected) and last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('first, last', [(1, 1), (2, 3)])
def test_the_largest_value(first, last):
    x = normal(2, 3, 4, 5)
    dims = tuple(range(first, last + 1))
    check_same(lambda: x.amax(dims, keepdim=True), lambda: largest(x, first, last), x)
    with torch.no_grad():
        assert torch.equal(largest(x, first, last), x.amax(dims, keepdim=True))


def test_channel_attention_of_parts():
    layer, a, b = ChannelAttention(16).double(), normal(2, 6, 4, 5), normal(2, 10, 4, 5)
    check_same(lambda: layer(torch.cat((a, b), dim=1)), lambda: torch.cat((a, b), dim=1) * layer.scale((a, b)),
               a, b, *layer.parameters())


def test_attention_is_the_papers():
    """CBAM's two, written out."""
    x = torch.randn(2, 16, 8, 8)
    channels, pixels = ChannelAttention(16), SpatialAttention()
    squeezed = [channels.fc2(channels.fc1(pooled).relu()) for pooled in (
        F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1))]
    torch.testing.assert_close(channels(x), x * (squeezed[0] + squeezed[1]).sigmoid())
    pooled = torch.cat((x.mean(1, keepdim=True), x.max(1, keepdim=True).values), dim=1)
    torch.testing.assert_close(pixels(x), x * pixels.conv(pooled).sigmoid())


@pytest.mark.parametrize('height, width', [(3, 4), (4, 3), (5, 6), (4, 4)])
def test_maps_are_fitted_at_the_lower_right(height, width):
    x = torch.arange(16.).reshape(1, 1, 4, 4)
    rows, columns = (torch.arange(side).clamp(max=3) for side in (height, width))
    assert torch.equal(fit(x, height, width), x[:, :, rows][..., columns])
