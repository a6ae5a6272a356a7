"""Each data set's configuration on a drawn data set in its layout."""

from pathlib import Path

import layouts
import pytest
from mmengine.registry import DefaultScope

from ifn_plugin.analysis.dataset_check import find_splits

CONFIGS = sorted((Path(__file__).parents[2] / 'configs' / 'ifn_mmseg').glob('*k_*.py'))
CONFIGS = [path for path in CONFIGS if 'levircd-' not in path.name]


@pytest.mark.parametrize('config', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_trains_and_tests(config, levir_like, tmp_path):
    with DefaultScope.overwrite_default_scope('mmseg'):
        cfg, metrics = layouts.run(config, levir_like, tmp_path)
    assert metrics['Recall'] >= 0 and 0 < metrics['AP'] <= 100
    pairs = cfg.test_dataloader.dataset
    assert len(list(Path(pairs.data_root, pairs.data_prefix.img_path_from).glob('test_*'))) == 2
    # the last iteration decays to nothing, so the schedule fits the number of iterations
    whole = layouts.Config.fromfile(config)
    assert whole.param_scheduler[-1].end == whole.train_cfg.max_iters
    assert [split.name for split in find_splits(whole)] == ['train', 'val', 'test']
