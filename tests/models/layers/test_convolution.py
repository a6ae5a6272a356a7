import pytest
import torch
import torch.nn.functional as F

from ifn_plugin.models.layers import convolution
from ifn_plugin.models.layers.convolution import Convolution, convolve, winograd


def made(n, channels, out_channels, height, width, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, channels, height, width, dtype=torch.float64, generator=generator).relu()
    weight = torch.randn(out_channels, channels, 3, 3, dtype=torch.float64, generator=generator)
    weight /= (9 * channels)**0.5
    bias = torch.randn(out_channels, dtype=torch.float64, generator=generator)
    return x.to(dtype), weight.to(dtype), bias.to(dtype)


@pytest.mark.parametrize('height, width', [(1, 1), (1, 9), (2, 3), (4, 4), (5, 1), (7, 10), (16, 12)])
@pytest.mark.parametrize('with_bias', [True, False])
def test_winograds_convolution_is_the_direct_one(height, width, with_bias):
    x, weight, bias = made(2, 3, 5, height, width, torch.float64)
    bias = bias if with_bias else None
    result = winograd(x, weight, bias)
    assert result.shape == (2, 5, height, width)
    torch.testing.assert_close(result, F.conv2d(x, weight, bias, padding=1), rtol=0, atol=1e-12)


def test_winograds_gradients_are_the_direct_ones():
    arguments = [value.requires_grad_() for value in made(2, 3, 4, 6, 5, torch.float64)]
    assert torch.autograd.gradcheck(winograd, arguments)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_rounding_errors_stay_close_to_the_direct_ones(dtype):
    exact = made(1, 256, 64, 32, 32, torch.float64)
    expected = F.conv2d(*exact, padding=1)
    direct, other = (
        (function(*(value.to(dtype) for value in exact)) - expected).square().mean().sqrt()
        for function in (lambda *arguments: F.conv2d(*arguments, padding=1), winograd))
    assert other < 5 * direct


def compiled(function=convolve):
    return torch.compile(function, backend='eager')  # traced, without a compiler


def is_winograds(x, weight, bias, function=convolve):
    result = function(x, weight, bias)
    direct = F.conv2d(x, weight, bias, padding=1)
    other = winograd(x, weight, bias)
    assert not torch.equal(direct, other)
    assert torch.equal(result, direct) or torch.equal(result, other)
    return torch.equal(result, other)


@torch.no_grad()
@pytest.mark.parametrize('channels, height, expected', [
    (512, 32, True),
    (512, 31, False),
    (512, 33, True),
    (128, 32, True),
    (128, 33, False),  # at the height from which the test takes maps to be large
    (64, 32, False),
])
def test_large_convolutions_are_winograds_when_compiled(channels, height, expected, monkeypatch):
    monkeypatch.setattr(convolution, 'MOST_PIXELS', 2 * 32 * 32)
    arguments = made(2, channels, 128, height, 32, torch.float32)
    assert is_winograds(*arguments, compiled()) == expected
    assert not is_winograds(*arguments)


def test_training_convolves_directly():
    x, weight, bias = made(2, 512, 128, 32, 32, torch.float32)
    with torch.enable_grad():
        result = compiled()(x, weight.requires_grad_(), bias)
    torch.testing.assert_close(result, F.conv2d(x, weight, bias, padding=1), rtol=0, atol=0)


@torch.no_grad()
def test_exported_convolutions_are_direct():
    program = torch.export.export(Convolution(512, 128), (torch.randn(1, 512, 64, 64), ))
    convolutions = [node for node in program.graph.nodes if 'conv' in str(node.target)]
    assert len(convolutions) == 1 and not any('unfold' in str(node.target) for node in program.graph.nodes)
