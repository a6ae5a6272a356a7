"""How detectors decide."""

from types import SimpleNamespace

import pytest
from torch import nn

from ifn_plugin.models.decision import decision_threshold


def head(out_channels, threshold=0.3):
    layer = nn.Identity()
    layer.out_channels, layer.threshold = out_channels, threshold
    return layer


@pytest.mark.parametrize('decode_head, expected', [
    (head(1), 0.3), (head(2), None), (nn.ModuleList([head(2), head(1, 0.4)]), 0.4),
    (SimpleNamespace(binary_cd_head=head(1, 0.6)), 0.6), (SimpleNamespace(binary_cd_head=head(2)), None)])
def test_the_head_that_makes_the_map_decides(decode_head, expected):
    assert decision_threshold(SimpleNamespace(decode_head=decode_head)) == expected


def test_a_model_without_a_head():
    assert decision_threshold(nn.Identity()) is None
