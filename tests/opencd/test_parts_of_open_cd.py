"""The plugin's entries meet open-cd's own parts: its preprocessor, loaders and models."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

from ifn_plugin.analysis.benchmark.cases import Case
from ifn_plugin.analysis.benchmark.subject import Subject
from ifn_plugin.apis.export import ChangeNetwork
from ifn_plugin.engine import EvaluationHook
from ifn_plugin.inference import ChangeDetector
from ifn_plugin.tools import check_dataset, predict, test

opencd = pytest.importorskip('opencd', reason='open-cd is not installed')

REPOSITORY = Path(__file__).parents[2]
OPENCD = Path(opencd.__file__).parents[1]
CONFIGS = OPENCD / 'configs'
if not CONFIGS.is_dir():
    pytest.skip('open-cd is installed without its configurations', allow_module_level=True)

# open-cd's models by the files of their configurations, and what keeps each backbone from downloading weights
MODELS_OF_OPEN_CD = dict.fromkeys(
    ('bit_r18', 'changeformer_mit-b0', 'changer_r18', 'fc_ef', 'fc_siam_conc', 'fc_siam_diff', 'hanet', 'snunet_c16',
     'stanet_r18', 'tinycd_v2', 'lightcdnet', 'scd_upernet_r18'), '') | dict(
         tinycd='pretrained=False', changestar_farseg_1x96_r18='init_cfg=None')


def write_weights(config, path):
    """Random weights of a configuration's model, with which it is sure of nothing."""
    cfg = Config.fromfile(config)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('opencd'):
        torch.save(MODELS.build(cfg.model).state_dict(), path)


def changed_maps(folder):
    return {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize('name', MODELS_OF_OPEN_CD)
def test_predict_with_a_model_of_open_cd(levir_like, tmp_path, name):
    """Several pairs at once give what each gives by itself."""
    config, weights = tmp_path / 'own.py', tmp_path / 'weights.pth'
    base = CONFIGS / '_base_' / 'models' / f'{name}.py'
    config.write_text(f"_base_ = {str(base)!r}\ndefault_scope = 'opencd'\n"
                      f'model = dict(pretrained=None, backbone=dict({MODELS_OF_OPEN_CD[name]}))\n')
    write_weights(config, weights)
    predict.main([str(config), str(weights), str(levir_like / 'test' / 'A'), str(levir_like / 'test' / 'B'),
                  str(tmp_path / 'out'), '--device', 'cpu', '--output', 'map', 'probability', '--batch-size', '2',
                  '--no-accelerate'])
    found = changed_maps(tmp_path / 'out' / 'probability')
    detector = ChangeDetector(config, weights, device='cpu')
    assert len(found) == 2
    for stem, probability in found.items():
        alone = detector.predict(*(levir_like / 'test' / date / f'{stem}.png' for date in 'AB'))
        np.testing.assert_allclose(probability / 255, alone.probability, rtol=0, atol=0.003)


def test_predict_with_open_cds_configuration_of_semantic_change(tmp_path):
    """As it stands, with what covers the classes by the labels in its tests."""
    cfg = Config.fromfile(CONFIGS / 'general_scd' / 'scd_upernet_r18_256x512_10k_second.py')
    cfg.model.pretrained = None
    with DefaultScope.overwrite_default_scope('opencd'):
        torch.save(MODELS.build(cfg.model).state_dict(), tmp_path / 'weights.pth')
    pair = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    change = ChangeDetector(cfg, tmp_path / 'weights.pth', device='cpu').predict(*pair)
    assert np.array_equal(change.changed, change.probability > 0.5) and change.probability.std() > 0


def test_benchmark_of_open_cds_configuration_with_pretrained_weights():
    """As it stands: the benchmark loads no weights, and builds the model for each measurement."""
    subject = Subject(CONFIGS / 'bit' / 'bit_r18_256x256_40k_levircd.py', 'float32', None)
    assert subject.count(32)['parameters'] == 2_989_638
    for task in ('train', 'inference'):
        subject.start(Case(task, 32, 2))
        assert subject.run() > 0
        subject.stop()


@pytest.fixture(scope='module')
def shown(tmp_path_factory):
    """The configuration of docs/migrating.md for one's own open-cd, without its download, and random weights."""
    folder = tmp_path_factory.mktemp('shown')
    text = (REPOSITORY / 'docs' / 'migrating.md').read_text(encoding='utf-8')
    block = next(block for block in re.findall(r'```python\n(.*?)```', text, re.DOTALL) if 'DIEncoderDecoder' in block)
    config = folder / 'own.py'
    config.write_text(re.sub(r"'\.\./common/", f"'{CONFIGS}/common/", block).replace(
        "init_cfg=dict(type='Pretrained', checkpoint='torchvision://vgg16')", 'init_cfg=None'))
    return config


@pytest.fixture(scope='module')
def weights(shown, checkpoint, tmp_path_factory):
    """Weights that call half of a noisy image changed at the configuration's threshold."""
    state = torch.load(checkpoint)['state_dict']
    state['decode_head.levels.4.logit.bias'] -= torch.tensor(0.3).logit()
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    torch.save(dict(state_dict=state), path)
    return path


def record(work_dir):
    return json.loads(next(work_dir.glob('*/evaluation_test.json')).read_text())['protocols']['']


def test_tta_of_the_documented_configuration(shown, weights, python, options, tmp_path):
    """The plugin's command and open-cd's script agree, and the map is that of the merged probabilities."""
    settings = [option for option in options if not option.startswith('model.')]
    settings.append('test_dataloader.dataset.indices=1')
    arguments = [str(shown), str(weights), '--tta', '--cfg-options', *settings, '--work-dir']
    test.main([*arguments, str(tmp_path / 'ours')])
    python(OPENCD / 'tools' / 'test.py', *arguments, tmp_path / 'theirs')
    ours, theirs = (record(tmp_path / name) for name in ('ours', 'theirs'))
    assert 'AP' in ours['metrics'] and 0 < ours['metrics']['Recall'] < 100
    assert ours['metrics'] == pytest.approx(theirs['metrics'])


@pytest.mark.parametrize('step', [dict(type='MultiImgRandomRotate', prob=1., degree=90),
                                  dict(type='MultiImgRandomCrop', crop_size=(256, 256)),
                                  dict(type='MultiImgRandomFlip', prob=1., direction='vertical')])
def test_views_of_open_cds_transforms_that_cannot_be_turned_back(shown, levir_like, step):
    """Refused by the hook, and so in open-cd's script."""
    cfg = Config.fromfile(shown)
    cfg.tta_pipeline[-1].transforms.insert(2, [step])
    cfg.test_dataloader.dataset.update(pipeline=cfg.tta_pipeline, data_root=str(levir_like))
    with DefaultScope.overwrite_default_scope('opencd'):
        loader = SimpleNamespace(dataset=DATASETS.build(cfg.test_dataloader.dataset))
        with pytest.raises(ValueError, match=rf'{step["type"]}\(.*cannot be undone'):
            EvaluationHook().before_test(SimpleNamespace(test_loop=SimpleNamespace(dataloader=loader)))


def test_predict_in_windows_of_a_raster_with_the_documented_configuration(shown, weights, tmp_path):
    rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed')
    pytest.importorskip('geopandas', reason='geopandas is not installed')
    pair = np.random.default_rng(0).integers(0, 256, (2, 3, 100, 150), np.uint8)
    for number, image in enumerate(pair, 1):
        with rasterio.open(tmp_path / f'{number}.tif', 'w', driver='GTiff', height=100, width=150, count=3,
                           dtype='uint8') as raster:
            raster.write(image)
    predict.main([str(shown), str(weights), str(tmp_path / '1.tif'), str(tmp_path / '2.tif'), str(tmp_path / 'out'),
                  '--device', 'cpu', '--window', '64', '--output', 'map', 'page'])
    assert len(list((tmp_path / 'out' / 'page').rglob('*.webp'))) == 3
    with rasterio.open(tmp_path / 'out' / 'map' / '1_2.tif') as raster:
        assert 0 < raster.read(1).mean() < 1


def test_panels_acceleration_and_export_with_the_documented_configuration(shown, weights, levir_like, tmp_path):
    folders = [levir_like / 'test' / date for date in 'AB']
    predict.main([str(shown), str(weights), *map(str, folders), str(tmp_path), '--device', 'cpu', '--output', 'panel',
                  'page', '--channels-last', '--dtype', 'bfloat16'])
    assert len(list((tmp_path / 'panel').iterdir())) == 2 and (tmp_path / 'page' / 'index.html').is_file()
    detector = ChangeDetector(shown, weights, device='cpu')
    pair = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    found = ChangeNetwork(detector.model, detector.loader)(*torch.from_numpy(pair)[:, None])
    np.testing.assert_allclose(found[0].numpy(), detector.predict(*pair).probability, rtol=0, atol=1e-4)


def test_check_dataset_with_the_documented_configuration(shown, levir_like, tmp_path, capsys):
    config = tmp_path / 'own.py'
    loaders = (f'{split}_dataloader = dict(dataset=dict(data_root={str(levir_like)!r}))'
               for split in ('train', 'val', 'test'))
    config.write_text('\n'.join([f'_base_ = {str(shown)!r}', *loaders]))
    check_dataset.main([str(config)])
    assert 'train' in capsys.readouterr().out


def test_check_dataset_knows_which_suffixes_open_cds_data_set_reads(levir_like, tmp_path, capsys):
    split = shutil.copytree(levir_like / 'train', tmp_path / 'train')
    for kind in 'AB':
        image = min((split / kind).iterdir())
        image.rename(image.with_suffix('.bmp'))
    Config(dict(default_scope='opencd', custom_imports=dict(imports=['opencd.datasets']), train_dataloader=dict(
        dataset=dict(type='LEVIR_CD_Dataset', data_root=str(split), pipeline=[], data_prefix=dict(
            img_path_from='A', img_path_to='B', seg_map_path='label'))))).dump(tmp_path / 'own.py')
    with pytest.raises(SystemExit):
        check_dataset.main([str(tmp_path / 'own.py')])
    assert f'missing: {split / "A" / image.stem}.png' in ' '.join(capsys.readouterr().out.split())
