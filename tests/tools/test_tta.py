"""Test-time augmentation, as the configurations set it up."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ifn_plugin.models import ChangeTTAModel
from ifn_plugin.registry import DATASETS

CONFIG = Path(__file__).parents[2] / 'configs' / 'ifn_mmseg' / 'ifn_mmseg_256x256_40k_levircd.py'


def test_flips_are_undone_and_averaged(levir_like):
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.init_cfg = None
    cfg.tta_model.module = cfg.model
    cfg.test_dataloader.dataset.update(data_root=str(levir_like), pipeline=cfg.tta_pipeline)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.tta_model).eval()
        sample = DATASETS.build(cfg.test_dataloader.dataset)[0]
    detector = model.module
    pair = detector.data_preprocessor(dict(inputs=[sample['inputs'][0]]))['inputs']
    with torch.no_grad():
        probabilities = [_probability(detector, pair, axes) for axes in ([], [3], [2])]
    mean = torch.stack(probabilities).mean(0)[0]
    # the median, so that the map is neither empty nor full
    detector.decode_head.threshold = mean.median().item()
    result = model.test_step(pseudo_collate([sample]))[0]
    assert torch.equal(result.pred_sem_seg.data.bool(), mean > detector.decode_head.threshold)
    assert not torch.allclose(probabilities[0], probabilities[1], atol=1e-4)


@pytest.mark.parametrize('channels', [1, 2])
def test_map_and_probabilities_are_of_all_views(channels):
    views = torch.randn(3, channels, 5, 4, generator=torch.Generator().manual_seed(0))
    views = views.sigmoid() if channels == 1 else views
    model = ChangeTTAModel.__new__(ChangeTTAModel)
    torch.nn.Module.__init__(model)
    model.module = torch.nn.Module()
    model.module.decode_head = torch.nn.Module()
    model.module.decode_head.threshold = 0.4
    samples = [SegDataSample(seg_logits=PixelData(data=view)) for view in views]
    merged = model.merge_preds([samples])[0]
    expected = (views if channels == 1 else views.softmax(1)).mean(0)
    probability = merged.seg_logits.data if channels == 1 else merged.seg_logits.data.softmax(0)
    torch.testing.assert_close(probability, expected)
    changed = expected > 0.4 if channels == 1 else expected[1:] > 0.5
    assert merged.pred_sem_seg.data.shape == (1, 5, 4)
    assert torch.equal(merged.pred_sem_seg.data.bool(), changed)


def _probability(detector, pair, axes):
    logits = detector.decode_head(detector.backbone(pair.flip(axes)))[-1]
    return logits.sigmoid().flip(axes)
