"""Each configuration trains by mmsegmentation's own script, and tests, on drawn pairs in its data set's layout."""

from pathlib import Path

import layouts
import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.structures import SegDataSample

from ifn_plugin.analysis.dataset_check import find_splits
from ifn_plugin.utils.configurations import read_config

CONFIGS = layouts.list_configs()
SCRIPT = Path(mmseg.__file__).parent / '.mim' / 'tools' / 'train.py'  # what `mim train mmseg` runs


@pytest.mark.slow
@pytest.mark.parametrize('config', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_trains_and_tests(config, levir_like, tmp_path):
    cfg, metrics = layouts.run(config, levir_like, tmp_path, SCRIPT)
    assert 0 < next(value for name, value in metrics.items() if name.endswith('AP')) <= 100
    pairs = cfg.test_dataloader.dataset
    assert len(list(Path(pairs.data_root, pairs.data_prefix.img_path_from).glob('test_*'))) == 2


@pytest.mark.parametrize('config', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_schedule_fits_and_splits_are_found(config):
    cfg = Config.fromfile(config, import_custom_modules=False)
    last = cfg.param_scheduler[-1]
    assert last.get('end', last.get('total_steps')) == cfg.train_cfg.max_iters
    assert [split.name for split in find_splits(cfg)] == ['train', 'val', 'test']


@pytest.mark.parametrize('config', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_encoder_weights_can_be_set_on_the_command_line(config):
    cfg = Config.fromfile(config, import_custom_modules=False)
    if cfg.model.backbone.type == 'mmseg.UNet':
        pytest.skip("mmseg's U-Net has no pretrained encoder")
    encoder = 'model.backbone.backbone' if 'backbone' in cfg.model.backbone else 'model.backbone'
    cfg.merge_from_dict({f'{encoder}.init_cfg.checkpoint': 'weights.pth'})
    init_cfg = cfg.model.backbone.get('backbone', cfg.model.backbone).init_cfg
    assert (init_cfg.type, init_cfg.checkpoint) == ('Pretrained', 'weights.pth')


@pytest.mark.parametrize('name', ['unet_256x256_40k_levircd.py', 'unet_vgg16_256x256_40k_levircd.py'])
def test_other_models_take_any_size(name):
    cfg = read_config(name)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        result, = model.test_step(dict(inputs=[torch.zeros(6, 40, 50, dtype=torch.uint8)], data_samples=[
            SegDataSample(metainfo=dict(ori_shape=(40, 50), img_shape=(40, 50)))]))
    assert result.pred_sem_seg.shape == (40, 50)


def test_no_step_of_a_pipeline_is_taken_by_its_number():
    for path in CONFIGS:
        assert '_pipeline[' not in path.read_text() and 'scheduler[' not in path.read_text(), path
