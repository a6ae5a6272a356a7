"""Drawn data sets in the layout that a configuration describes, and a short run on them."""

import runpy
import shutil
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from ifn_plugin.datasets import LoadBands, find_loaders
from ifn_plugin.datasets.packing import pack
from ifn_plugin.utils.configurations import find_config

SPLITS = ('train', 'val', 'test')


CONFIGS = find_config('ifn_demo.py').parents[1]


def list_configs(opencd=False):
    """The plugin's configurations, with those that need open-cd or without."""
    return sorted(path for path in CONFIGS.glob('[!_c]*/*.py')  # none of those for comparisons, which have no model
                  if opencd or ("'opencd'" not in path.read_text() and '-inferencer' not in path.name))


def lay_out(cfg, drawn, root):
    """Copy a drawn data set, in LEVIR-CD's layout, to where and how a configuration wants it; it is told the root."""
    loader = find_loaders(cfg)[0]
    packed = cfg.train_dataloader.dataset.get('img_suffix') == '.npy'
    folder = root.with_name(f'{root.name}-images') if packed else root
    for split in SPLITS:
        settings = cfg[f'{split}_dataloader'].dataset
        settings.data_root, settings.indices = str(root), None
        kinds = zip(('A', 'B', 'label'), ('img_path_from', 'img_path_to', 'seg_map_path'),
                    ('img_suffix_from', 'img_suffix_to', 'seg_map_suffix'))
        names = []
        for kind, key, suffix in kinds:
            target = folder / settings.data_prefix[key]
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted((drawn / split / kind).iterdir()):
                name = f'{split}_{path.name}'
                if kind != 'label' and isinstance(loader, LoadBands):
                    write_bands(target / f'{split}_{path.stem}.tif', cv2.imread(str(path)), max(loader.bands))
                elif 'OUT' in target.parts:  # SVCD's labels, saved with loss
                    cv2.imwrite(str(target / f'{split}_{path.stem}.jpg'), cv2.imread(str(path), 0))
                elif settings.get(suffix) and not packed:
                    shutil.copy(path, target / f'{split}_{path.stem}{settings[suffix]}')
                else:
                    shutil.copy(path, target / name)
                if kind == 'A':
                    names.append(name)
        if settings.get('ann_file'):
            listed = Path(root, settings.ann_file)
            listed.parent.mkdir(exist_ok=True)
            listed.write_text(''.join(f'{name}\n' for name in names))
    if packed:
        pack(folder, root)


def write_bands(path, image, number):
    """Write an image as GeoTIFF of 16 bits, its channels over and over as bands."""
    rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, 'w', driver='GTiff', height=image.shape[0], width=image.shape[1], count=number,
                           dtype='uint16') as dataset:
            dataset.write(np.stack([image[..., band % 3] * np.uint16(12) for band in range(number)]))


def run(path, drawn, folder, script):
    """Train for two iterations by an OpenMMLab project's own script, and test.

    Returns:
        The configuration, and the metrics of the test.
    """
    if 'mmpretrain' in str(Config.fromfile(path, import_custom_modules=False).custom_imports):
        pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')
    cfg = Config.fromfile(path)
    lay_out(cfg, drawn, folder / 'data')
    encoder = cfg.model.backbone.get('backbone', cfg.model.backbone)
    encoder.init_cfg = None
    cfg.work_dir, cfg.log_level, cfg.randomness = str(folder / 'run'), 'ERROR', dict(seed=0)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=1)
    cfg.train_dataloader.batch_size = 2
    for split in SPLITS:
        cfg[f'{split}_dataloader'].update(num_workers=0, persistent_workers=False)
    cfg.dump(folder / 'config.py')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('sys.argv', [str(script), str(folder / 'config.py')])
        runpy.run_path(str(script), run_name='__main__')
    cfg.load_from = str(folder / 'run' / 'iter_2.pth')
    return cfg, Runner.from_cfg(cfg).test()
