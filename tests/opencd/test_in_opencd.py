"""The plugin inside open-cd: the same network, the same samples, and open-cd's own runners."""

import json
import re
import shutil
import sys
from pathlib import Path

import hostile
import layouts
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ifn_plugin.datasets.packing import pack
from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.inference import ChangeDetector
from ifn_plugin.models import IFN, IFNHead, PairEncoder
from ifn_plugin.models.conversion import convert_state_dict
from ifn_plugin.tools.train import parse_args
from ifn_plugin.utils.configurations import find_config

# what follows imports from open-cd, so it stands below the skip
opencd = pytest.importorskip('opencd', reason='open-cd is not installed')

from opencd.apis import OpenCDInferencer  # noqa: E402
from opencd.registry import DATASETS, MODELS  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
CONFIG = find_config('ifn_256x256_40k_levircd.py')
MMSEG_CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
OPENCD = Path(opencd.__file__).parents[1]
if not (OPENCD / 'tools').is_dir():
    pytest.skip('open-cd is installed without its scripts', allow_module_level=True)
STOCK = OPENCD / 'configs' / 'common' / 'standard_256x256_40k_levircd.py'

init_default_scope('opencd')


def build_detector():
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


@pytest.fixture
def stock(monkeypatch):
    """open-cd's own IFN from its own configuration, with random weights instead of a download."""
    import torchvision
    monkeypatch.setattr('opencd.models.backbones.ifn.vgg16', lambda pretrained: torchvision.models.vgg16(weights=None))
    cfg = Config.fromfile(OPENCD / 'configs' / '_base_' / 'models' / 'ifn.py')
    cfg.model.data_preprocessor.test_cfg.size_divisor = 16
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def random_batch(n=2, size=64):
    label = (torch.rand(n, 1, size, size) > 0.8).long()
    label[..., :9, :5] = 255
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=x), metainfo=dict(ori_shape=(size, size), img_shape=(size, size)))
        for x in label
    ]
    return dict(inputs=list(torch.randint(0, 256, (n, 6, size, size), dtype=torch.uint8)), data_samples=samples)


def test_opencds_own_ifn_stays_what_it_is():
    from opencd.models.backbones.ifn import IFN as OpenCDIFN
    with DefaultScope.overwrite_default_scope('opencd'):
        assert MODELS.get('IFN') is OpenCDIFN
        assert MODELS.get('ifn_plugin.IFN') is IFN
        assert isinstance(ROOT.build(dict(type='ifn_plugin.IFN', init_cfg=None)), IFN)


def test_same_weights_give_the_same_maps_and_the_same_loss(stock):
    ours = build_detector()
    ours.load_state_dict(convert_state_dict(stock.state_dict()))
    batch = random_batch()
    inputs = [model.data_preprocessor(random_copy(batch), True) for model in (stock, ours)]
    assert torch.equal(inputs[0]['inputs'], inputs[1]['inputs'])
    losses = []
    for model, data in zip((stock.double().train(), ours.double().train()), inputs):
        losses.append(model.loss(data['inputs'].double(), data['data_samples']))
    theirs = [losses[0][f'aux.aux_{i}_loss_ce'] for i in range(4)] + [losses[0]['decode.loss_ce']]
    for number, value in enumerate(theirs, 1):
        torch.testing.assert_close(losses[1][f'decode.level{number}.loss_ce'], value, rtol=1e-6, atol=0)
    # one training step of statistics later, in evaluation mode
    x = inputs[0]['inputs'].double()
    with torch.no_grad():
        maps = stock.eval().backbone(*x.split(3, 1))
        for a, b in zip(maps, ours.eval().decode_head(ours.backbone(*x.split(3, 1)))):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-8)


def test_training_steps_give_the_same_weights(stock):
    """Each with the optimizer of its own configuration."""
    ours = build_detector()
    ours.load_state_dict(convert_state_dict(stock.state_dict()))
    runs = []
    for model, config in ((stock.double(), STOCK), (ours.double(), CONFIG)):
        model.train()
        runs.append((model, build_optim_wrapper(model, Config.fromfile(config).optim_wrapper), []))
    for _ in range(3):
        batch = random_batch()
        for model, optimizer, losses in runs:
            data = model.data_preprocessor(random_copy(batch), True)
            parts = model.loss(data['inputs'].double(), data['data_samples'])
            loss, _ = model.parse_losses(parts)
            optimizer.update_params(loss)
            losses.append(loss.detach())
    torch.testing.assert_close(torch.stack(runs[1][2]), torch.stack(runs[0][2]), rtol=1e-6, atol=0)
    weights = convert_state_dict(stock.state_dict())
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-6, msg=name)


def random_copy(batch):
    return dict(inputs=[x.clone() for x in batch['inputs']], data_samples=[x.clone() for x in batch['data_samples']])


def test_prediction_through_the_detector(stock):
    ours = build_detector()
    ours.load_state_dict(convert_state_dict(stock.state_dict()))
    assert ours.decode_head.threshold == stock.decode_head.threshold
    batch = random_batch(1)
    results = [model.eval().test_step(random_copy(batch))[0] for model in (stock, ours)]
    torch.testing.assert_close(results[1].seg_logits.data, results[0].seg_logits.data, rtol=0, atol=1e-5)


@pytest.mark.parametrize('height, width', [(250, 333), (17, 16)])
def test_any_size(height, width):
    detector = build_detector().eval()
    sample = SegDataSample(metainfo=dict(ori_shape=(height, width), img_shape=(height, width)))
    image = torch.randint(0, 256, (6, height, width), dtype=torch.uint8)
    output = detector.test_step(dict(inputs=[image], data_samples=[sample]))[0]
    assert output.pred_sem_seg.data.shape == (1, height, width)


@pytest.fixture
def pipelines(levir_like):
    """A function that gives the sample that a configuration draws with a seed."""

    def draw(config, seed, stack='opencd', root=levir_like):
        dataset = Config.fromfile(config).train_dataloader.dataset
        dataset.data_root = str(root)
        for transform in dataset.pipeline:
            shrink_crop(transform)
        with DefaultScope.overwrite_default_scope(stack):
            built = DATASETS.build(dataset)
            np.random.seed(seed)
            return built[0]

    def shrink_crop(transform):
        for inner in [transform, *transform.get('transforms', [])]:
            if 'crop_size' in inner:
                inner['crop_size'] = (48, 48)

    return draw


@pytest.mark.parametrize('seed', range(8))
def test_training_samples_are_open_cds_to_the_bit(pipelines, seed):
    """From open-cd's data set and pipeline, from the plugin's in open-cd, and from the plugin's in mmseg."""
    stock, ours, in_mmseg = pipelines(STOCK, seed), pipelines(CONFIG, seed), pipelines(MMSEG_CONFIG, seed, 'mmseg')
    for sample in (ours, in_mmseg):
        assert torch.equal(sample['inputs'], stock['inputs'])
        assert torch.equal(sample['data_samples'].gt_sem_seg.data, stock['data_samples'].gt_sem_seg.data)
        assert sample['data_samples'].img_path == stock['data_samples'].img_path
    assert stock['inputs'].shape == (6, 48, 48)


@pytest.mark.parametrize('seed', range(8))
def test_packed_samples_are_open_cds(pipelines, levir_like, tmp_path, seed):
    """To the bit without rotation; with it, up to its interpolation, which photometry may stretch."""
    pack(levir_like, tmp_path)
    stock = pipelines(STOCK, seed)
    packed = pipelines(CONFIG.with_name('ifn_256x256_40k_levircd-packed.py'), seed, root=tmp_path)
    np.random.seed(seed)
    rotated = np.random.rand() < 0.5
    difference = (packed['inputs'].int() - stock['inputs'].int()).abs()
    wrong = packed['data_samples'].gt_sem_seg.data != stock['data_samples'].gt_sem_seg.data
    if rotated:
        assert difference.float().mean() < 0.5 and wrong.float().mean() < 0.005
    else:
        assert difference.max() == 0 and not wrong.any()


@pytest.fixture(scope='module')
def trained(tmp_path_factory, python, options):
    """Work dir of two iterations of open-cd's own script with the 40k configuration."""
    work_dir = tmp_path_factory.mktemp('run')
    python(OPENCD / 'tools' / 'train.py', CONFIG, '--work-dir', work_dir, '--cfg-options', *options,
           'train_cfg.max_iters=2')
    return work_dir


def test_opencds_script_trains(scalars, trained):
    log = scalars(trained)
    assert {f'decode.level{number}.loss_ce' for number in range(1, 6)} <= log[0].keys()
    assert log[-1].keys() >= {'Precision', 'Recall', 'F1', 'IoU'}
    checkpoint = load_checkpoint_file(trained / 'best_F1_iter_2.pth')
    assert convert_state_dict(checkpoint).keys() == build_detector().state_dict().keys()


def test_opencds_script_resumes(scalars, trained, python, options, tmp_path):
    shutil.copytree(trained, tmp_path / 'resumed')
    (tmp_path / 'resumed' / 'last_checkpoint').write_text(str(tmp_path / 'resumed' / 'iter_2.pth'))
    python(OPENCD / 'tools' / 'train.py', CONFIG, '--work-dir', tmp_path / 'resumed', '--resume', '--cfg-options',
           *options, 'train_cfg.max_iters=3')
    assert [entry['iter'] for entry in scalars(tmp_path / 'resumed') if 'loss' in entry] == [1, 2, 3]


def test_opencds_script_tests_and_draws(trained, python, options, tmp_path):
    output = python(OPENCD / 'tools' / 'test.py', CONFIG, trained / 'best_F1_iter_2.pth', '--work-dir', tmp_path,
                    '--show-dir', tmp_path / 'panels', '--cfg-options', *options)
    assert re.search(r' F1: [\d.]+', output)
    assert len(list((tmp_path / 'panels').rglob('*.png'))) == 2


def test_panels_of_open_cds_own_configurations(python, options, tmp_path):
    """Its hook and its visualization backend draw them, into the folder that the plugin's command names."""
    config = OPENCD / 'configs' / 'fcsn' / 'fc_ef_256x256_40k_levircd.py'
    cfg = Config.fromfile(config)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'weights.pth')
    python('-m', 'ifn_plugin.tools.test', config, tmp_path / 'weights.pth', '--work-dir', tmp_path / 'run',
           '--show-dir', tmp_path / 'panels', '--cfg-options',
           *(option for option in options if not option.startswith('model.')),
           'default_hooks.visualization.img_shape=(64,64,3)', 'test_dataloader.dataset.pipeline.1.scale=(64,64)')
    assert list((tmp_path / 'panels').rglob('*.png'))


def test_figures_are_open_cds(trained, python, options, tmp_path):
    """Those of "changed", by the metric of open-cd's configurations beside the plugin's in one test."""
    config = tmp_path / 'both.py'
    metrics = Config.fromfile(STOCK).test_evaluator, dict(type='ifn_plugin.ChangeMetric')
    config.write_text(f'_base_ = [{str(CONFIG)!r}]\ntest_evaluator = {[dict(metric) for metric in metrics]}\n')
    # two iterations teach little: one where about half of the pixels are found
    curve = json.loads(next(trained.glob('*/evaluation_val.json')).read_text())['protocols']['']['curve']
    surplus = [tp + fp - fn - tn for tp, fp, fn, tn in zip(
        *(curve[name] for name in ('tp', 'fp', 'fn', 'tn')))]
    threshold = curve['thresholds'][min(range(len(surplus)), key=lambda place: abs(surplus[place]))]
    output = python(OPENCD / 'tools' / 'test.py', config, trained / 'iter_2.pth', '--work-dir', tmp_path,
                    '--cfg-options', *options, f'model.decode_head.threshold={threshold}')
    rows = [[cell.strip() for cell in line.strip(' |').split('|')] for line in output.splitlines() if '|' in line]
    titles, = (row for row in rows if row[0] == 'Class')
    changed, = (row for row in rows if row[0] == 'changed')
    theirs = dict(zip(titles, changed), aAcc=re.findall(r' aAcc: ([\d.]+)', output)[-1])
    for name, key in dict(Precision='Precision', Recall='Recall', F1='Fscore', IoU='IoU', OA='aAcc').items():
        ours = float(re.findall(rf' {name}: ([\d.]+)', output)[-1])
        assert 0 < ours < 100 and ours == pytest.approx(float(theirs[key]), abs=0.0051), name


@pytest.mark.parametrize('script', ['test', 'train'])
def test_opencds_scripts_refuse_checkpoints_that_run_code(python, options, tmp_path, script):
    evil, mark = tmp_path / 'iter_1.pth', tmp_path / 'executed'
    hostile.CONTAINERS['zip'](hostile.PLACES['log'](hostile.payloads(mark)['os.system']), evil, 2)
    (tmp_path / 'last_checkpoint').write_text(str(evil))
    more = ['--resume'] if script == 'train' else [evil]
    output = python(OPENCD / 'tools' / f'{script}.py', CONFIG, *more, '--work-dir', tmp_path, '--cfg-options', *options,
                    fails=True)
    assert re.search(r'iter_1\.pth is not a checkpoint that can be read safely: .*system', output.splitlines()[-1])
    assert not mark.exists()


def test_opencds_runner_refuses_all_checkpoints_that_run_code(options, tmp_path):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(parse_args([str(CONFIG), '--cfg-options', *options]).cfg_options)
    cfg.work_dir = str(tmp_path)
    with DefaultScope.overwrite_default_scope('opencd'):
        runner = Runner.from_cfg(cfg)
    evil, mark = tmp_path / 'evil.pth', tmp_path / 'executed'
    for load in (runner.load_checkpoint, runner.resume):
        for name, payload in hostile.payloads(mark).items():
            hostile.CONTAINERS['zip'](hostile.PLACES['log'](payload), evil, 2)
            with pytest.raises(ValueError, match=r'evil\.pth is not a checkpoint that can be read safely'):
                load(str(evil))
                pytest.fail(f'{name} was loaded')
            assert not mark.exists(), f'{name} was run'


def test_batches_of_pairs_and_windows_in_opencds_script(trained, python, options, tmp_path):
    """Two pairs and their windows at once, by the hook, give the figures of one window of one pair at a time."""
    slide = "model = dict(test_cfg=dict(mode='slide', crop_size=(48, 48), stride=(32, 32)))\n"
    hook = "custom_hooks = [dict(type='ifn_plugin.AccelerationHook', dtype='float32', compile=False)]\n"
    figures = []
    for name, more, batch_size in (('single.py', '', 1), ('batches.py', hook, 2)):
        (tmp_path / name).write_text(f'_base_ = [{str(CONFIG)!r}]\n{slide}{more}')
        output = python(OPENCD / 'tools' / 'test.py', tmp_path / name, trained / 'iter_2.pth', '--work-dir', tmp_path,
                        '--cfg-options', *options, f'test_dataloader.batch_size={batch_size}')
        assert ('AccelerationHook:' in output) == bool(more)
        figures.append(re.findall(r'(?:Precision|Recall|F1|IoU): ([\d.]+)', output)[-4:])
    assert len(figures[0]) == 4 and figures[0] == figures[1]


def test_plugins_command_does_what_opencds_does(trained, python, options, tmp_path):
    theirs, ours = (python(*command, CONFIG, trained / 'iter_2.pth', '--work-dir', tmp_path, '--cfg-options', *options)
                    for command in ([OPENCD / 'tools' / 'test.py'], ['-m', 'ifn_plugin.tools.test']))
    figures = [re.findall(r'(?:Precision|Recall|F1|IoU): ([\d.]+)', output)[-4:] for output in (theirs, ours)]
    assert len(figures[0]) == 4 and figures[0] == figures[1]


@pytest.mark.parametrize('config', [CONFIG, MMSEG_CONFIG])
def test_change_detector_takes_either_configuration_and_its_checkpoint(trained, checkpoint, levir_like, config):
    """In open-cd's environment; a checkpoint trained in one stack with the other's configuration."""
    names = sorted(path.name for path in (levir_like / 'test' / 'A').iterdir())
    pairs = [tuple(levir_like / 'test' / date / name for date in 'AB') for name in names]
    for weights in (checkpoint, trained / 'iter_2.pth'):
        detector, other = (ChangeDetector(each, weights, device='cpu') for each in (config, CONFIG))
        for a, b in zip(detector.predict_all(pairs), other.predict_all(pairs)):
            assert np.array_equal(a.probability, b.probability) and a.probability.std() > 0


def test_opencds_inferencer(checkpoint, levir_like, tmp_path):
    config = CONFIG.with_name('ifn_256x256_40k_levircd-inferencer.py')
    black_and_white = [[0, 0, 0], [255, 255, 255]]
    inferencer = OpenCDInferencer(model=str(config), weights=str(checkpoint), classes=('unchanged', 'changed'),
                                  palette=black_and_white, device='cpu')
    name = sorted(path.name for path in (levir_like / 'test' / 'A').iterdir())[0]
    pair = [str(levir_like / 'test' / date / name) for date in 'AB']
    result = inferencer([pair], out_dir=str(tmp_path))['predictions']
    expected = ChangeDetector(CONFIG, checkpoint, device='cpu').predict(*pair).changed
    assert np.array_equal(result == 1, expected) and 0 < expected.mean() < 1
    assert len(list(tmp_path.rglob('*.png'))) == 2


def test_tta(trained, python, options, tmp_path):
    output = python(OPENCD / 'tools' / 'test.py', CONFIG, trained / 'iter_2.pth', '--tta', '--work-dir', tmp_path,
                    '--cfg-options', *options)
    assert re.search(r' F1: [\d.]+', output)


def test_ones_own_open_cd_configuration(scalars, python, options, tmp_path):
    """The way of docs/migrating.md: open-cd's data and schedule as they are, the plugin's model."""
    page = (REPOSITORY / 'docs' / 'migrating.md').read_text(encoding='utf-8')
    blocks = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    block = next(block for block in blocks if 'DIEncoderDecoder' in block)
    config = tmp_path / 'own.py'
    config.write_text(re.sub(r"'[^']*standard_256x256_40k_levircd.py'", repr(str(STOCK)), block))
    assert str(STOCK) in config.read_text()
    python(OPENCD / 'tools' / 'train.py', config, '--work-dir', tmp_path / 'run', '--cfg-options', *options,
           'train_cfg.max_iters=2')
    assert {'Precision', 'Recall', 'F1', 'IoU'} <= scalars(tmp_path / 'run')[-1].keys()
    python(OPENCD / 'tools' / 'test.py', config, next((tmp_path / 'run').glob('best_F1*.pth')), '--work-dir', tmp_path,
           '--show-dir', tmp_path / 'panels', '--cfg-options', *options)
    assert len(list((tmp_path / 'panels').rglob('*.png'))) == 2


def test_models_of_open_cd_and_the_plugin_under_one_protocol(python, options, tmp_path):
    """A softmax over two classes beside one channel, with the same figures and pictures."""
    settings = [option for option in options if not option.startswith('model.')]
    tiles = [f'test_cfg.protocols.tiles.{name}=(32,32)' for name in ('crop_size', 'stride')]
    fc_ef = OPENCD / 'configs' / 'fcsn' / 'fc_ef_256x256_40k_levircd.py'
    runs = tmp_path / 'runs'
    output = python('-m', 'ifn_plugin.tools.compare', 'levircd_256x256_40k.py', CONFIG, fc_ef, '--names', 'ifn',
                    'fc-ef', '--work-dir', runs, '--seeds', 0, '--from-scratch', '--cfg-options', *settings, *tiles,
                    'train_cfg.max_iters=2')
    for name in ('ifn', 'fc-ef'):
        metrics = json.loads((runs / name / 'seed0' / 'result.json').read_text())['metrics']
        assert metrics.keys() == {'whole', 'tiles'} and len(metrics['whole']) == 20
        # of two classes, the more probable one is the map
        assert name == 'ifn' or metrics['whole']['F1'] == pytest.approx(metrics['whole']['F1@0.5'])
        assert f'| {name} | 1 | {metrics["whole"]["F1@val"]:.2f} |' in re.sub(' +', ' ', output.replace('**', ''))
    python('-m', 'ifn_plugin.tools.report', runs / 'ifn' / 'seed0', runs / 'fc-ef' / 'seed0', '--out',
           tmp_path / 'page.html', '--pairs', 1, '--device', 'cpu')
    page = (tmp_path / 'page.html').read_text()
    assert page.count('<img') == 2  # the five levels of IFN, for the worst pair and the best
    # and of two pairs, both dates, the label and the maps of two models under two protocols
    assert 'No pictures' not in page and page.count('data:image/webp') == 2 + 2 * (2 + 1 + 4)


# its visualizer is for open-cd's inferencer
CONFIGS = [path for path in layouts.list_configs(opencd=True) if '-inferencer' not in path.name]


@pytest.mark.parametrize('config', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_each_configuration_trains_by_opencds_script(config, levir_like, tmp_path):
    _, metrics = layouts.run(config, levir_like, tmp_path, OPENCD / 'tools' / 'train.py')
    assert 0 < next(value for name, value in metrics.items() if name.endswith('AP')) <= 100


@pytest.mark.parametrize('name, strides', [('resnet18', 5), ('convnext_atto', 4)])
def test_encoders_of_timm(name, strides):
    pytest.importorskip('timm', reason='timm is not installed')
    torch.manual_seed(0)
    backbone = dict(type='mmseg.TIMMBackbone', model_name=name, features_only=True, pretrained=False)
    encoder = PairEncoder(backbone, frozen=True)
    with torch.no_grad():
        maps = encoder(torch.randn(2, 6, 64, 96))
        logits = IFNHead(in_channels=[x.shape[1] for x in maps])(maps)
    assert len(logits) == strides and logits[-1].shape[2:] == maps[0].shape[2:]


def test_a_neck_behind_the_encoder_in_open_cds_detector():
    """Maps of one size become a pyramid, with both dates' channels."""
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone = dict(type='ifn_plugin.PairEncoder', backbone=dict(
        type='mmseg.VisionTransformer', img_size=(64, 64), embed_dims=16, num_layers=4, num_heads=2,
        out_indices=(0, 1, 2, 3)))
    cfg.decode_head.in_channels = (32, 32, 32, 32)
    images = torch.randn(1, 6, 64, 64)
    with pytest.raises(ValueError, match=r'Fix: .*neck'):
        MODELS.build(cfg)(images, mode='tensor')
    cfg.neck = dict(type='mmseg.Feature2Pyramid', embed_dim=32, norm_cfg=dict(type='BN'))
    logits = MODELS.build(cfg)(images, mode='tensor')
    assert [tuple(x.shape) for x in logits] == [(1, 1, side, side) for side in (2, 4, 8, 16)]


mim = pytest.mark.skipif(
    not (Path(sys.executable).parent / 'mim').exists(), reason='mim is not installed in this environment')


@mim
def test_mim_train_opencd(scalars, python, options, tmp_path):
    python('-m', 'mim', 'train', 'opencd', CONFIG, '--work-dir', tmp_path, '--cfg-options', *options,
           'train_cfg.max_iters=1', 'default_hooks.checkpoint=None')
    assert scalars(tmp_path)[0]['loss'] > 0


@mim
def test_mim_test_opencd(trained, python, options, tmp_path):
    output = python('-m', 'mim', 'test', 'opencd', CONFIG, '--checkpoint', trained / 'best_F1_iter_2.pth', '--work-dir',
                    tmp_path, '--cfg-options', *options)
    assert re.search(r' F1: [\d.]+', output)


@pytest.fixture(scope='module')
def installed(tmp_path_factory, python, wheel):
    """A folder into which the wheel is installed."""
    target = tmp_path_factory.mktemp('site')
    python('-m', 'pip', 'install', '--quiet', '--no-deps', '--target', target, wheel)
    return target


@mim
def test_mim_search_finds_the_models(installed, python, tmp_path):
    output = python('-m', 'mim', 'search', 'ifn_plugin', '--field', 'config', path=installed, cwd=tmp_path)
    assert 'ifn_256x256_40k_levircd' in output and 'configs/ifn/ifn_mmseg_256x256_40k_levircd.py' in output


@mim
@pytest.mark.parametrize('config', ['ifn_mmseg_256x256_40k_levircd.py', 'ifn_256x256_40k_levircd.py'])
def test_mim_train_and_test_ifn_plugin_from_the_wheel(scalars, installed, python, options, tmp_path, config):
    """By the configuration's name alone, from another folder."""
    python('-m', 'mim', 'train', 'ifn_plugin', config, '--work-dir', tmp_path, '--cfg-options', *options,
           'train_cfg.max_iters=1', 'train_cfg.val_interval=9', 'default_hooks.checkpoint.interval=1', path=installed,
           cwd=tmp_path)
    assert scalars(tmp_path)[0]['loss'] > 0
    output = python('-m', 'mim', 'test', 'ifn_plugin', config, '--checkpoint', tmp_path / 'iter_1.pth', '--work-dir',
                    tmp_path / 'test', '--cfg-options', *options, path=installed, cwd=tmp_path)
    assert re.search(r' F1: [\d.]+', output)
