import copy
import logging
import re
import sys
import types
from functools import partial

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch.utils.data._utils.pin_memory import pin_memory

from ifn_plugin.engine import AccelerationHook, accelerate, acceleration
from ifn_plugin.engine.cuda import PinnableCollate, can_fuse, pin_batches, use_tf32
from ifn_plugin.engine.hooks import acceleration_hook
from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.inference import ChangeDetector
from ifn_plugin.utils.configurations import find_config

CONFIG = find_config('ifn_mmseg_256x256_40k_levircd.py')
OFF = dict(channels_last=False, dtype='float32', compile=False, window_batch=1, keep_memory=False, tf32=False)


def build_detector(**test_cfg):
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(type='ifn_plugin.PairDataPreprocessor', mean=[127.5] * 3, std=[60.] * 3),
        backbone=dict(type='ifn_plugin.IFN', init_cfg=None),
        decode_head=dict(type='ifn_plugin.IFNHead'),
        test_cfg=test_cfg or dict(mode='whole'))).eval()


def batch(n=2, height=64, width=64):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 6, height, width), dtype=torch.uint8, generator=generator)
    meta = dict(ori_shape=(height, width), img_shape=(height, width))
    return dict(inputs=list(images), data_samples=[SegDataSample(metainfo=meta) for _ in range(n)])


@torch.no_grad()
def logits(detector, **kwargs):
    # mmseg stores the sigmoid
    return torch.stack([sample.seg_logits.data.logit() for sample in detector.test_step(batch(**kwargs))])


@pytest.fixture(scope='module')
def eager():
    return build_detector()


@pytest.mark.parametrize('settings, tolerance', [
    (dict(channels_last=True), 1e-4),
    (dict(compile=True), 1e-4),
    (dict(channels_last=True, dtype='bfloat16'), 0.1),
])
def test_logits_stay(eager, settings, tolerance):
    detector = build_detector()
    accelerate(detector, **OFF | settings)
    expected, got = logits(eager), logits(detector)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)
    # really another way of computing
    assert not torch.equal(got, expected)


def test_a_second_call_replaces_what_the_first_has_switched_on(eager):
    detector = build_detector()
    accelerate(detector, **OFF | dict(dtype='bfloat16', window_batch=8))
    accelerate(detector, **OFF | dict(compile=dict(backend='eager')))
    assert accelerate(detector, **OFF) == torch.float32
    assert torch.equal(logits(detector), logits(eager)) and type(detector).forward == detector.forward.__func__
    names = {'forward', 'encode_decode', 'slide_inference'}
    assert not names & vars(detector).keys() and not names & vars(detector.backbone).keys()


def test_probabilities_of_any_head_are_those_of_float32_logits():
    register_all_modules(init_default_scope=True)
    detector = MODELS.build(ConfigDict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(type='ifn_plugin.PairDataPreprocessor', mean=[127.5] * 3, std=[60.] * 3),
        backbone=dict(type='ifn_plugin.IFN', init_cfg=None),
        decode_head=dict(type='mmseg.FCNHead', in_channels=128, in_index=0, channels=128, num_convs=0, num_classes=2,
                         out_channels=1, threshold=0.3, concat_input=False, align_corners=False,
                         loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True)),
        test_cfg=dict(mode='whole'))).eval()
    accelerate(detector, **OFF | dict(dtype='bfloat16'))
    given = []
    detector.decode_head.conv_seg.register_forward_hook(lambda *arguments: given.append(arguments[2]))
    torch.nn.init.constant_(detector.decode_head.conv_seg.bias, 6.5)
    with torch.no_grad():
        sample, = detector.test_step(batch(n=1))
    assert given[0].dtype == torch.bfloat16
    assert torch.equal(sample.seg_logits.data, given[0][0].float().sigmoid()) and (sample.seg_logits.data < 1).all()


@pytest.mark.parametrize('n, height, width', [(1, 64, 64), (3, 80, 50), (2, 20, 70), (1, 16, 24)])
@pytest.mark.parametrize('window_batch', [2, 100])
def test_windows_in_batches_are_mmsegs(n, height, width, window_batch):
    detector = build_detector(mode='slide', crop_size=(32, 32), stride=(20, 24))
    expected = logits(detector, n=n, height=height, width=width)
    accelerate(detector, **OFF | dict(window_batch=window_batch))
    sizes = []
    detector.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    torch.testing.assert_close(logits(detector, n=n, height=height, width=width), expected, rtol=0, atol=1e-5)
    assert max(sizes) <= window_batch and all(size == window_batch for size in sizes[:-1])


def test_windows_of_several_maps():
    """open-cd's detectors of semantic change give a map for each of their heads."""
    detector = build_detector(mode='slide', crop_size=(32, 32), stride=(20, 24))
    inputs, metas = torch.randn(2, 6, 64, 50), [dict(ori_shape=(64, 50), img_shape=(64, 50))] * 2
    with torch.no_grad():
        expected = detector.slide_inference(inputs, metas)
        accelerate(detector, **OFF | dict(window_batch=3))
        single = detector.encode_decode
        detector.encode_decode = lambda *arguments: dict(a=single(*arguments), b=-2 * single(*arguments))
        found = detector.slide_inference(inputs, metas)
    torch.testing.assert_close(found, dict(a=expected, b=-2 * expected), rtol=0, atol=1e-4)


def test_windows_of_a_detectors_own_stay():
    calls = []

    class Own(type(build_detector())):

        def slide_inference(self, inputs, metas):
            calls.append(1)
            return super().slide_inference(inputs, metas)

    detector = build_detector(mode='slide', crop_size=(32, 32), stride=(20, 24))
    detector.__class__ = Own
    accelerate(detector, **OFF | dict(window_batch=8))
    logits(detector)
    assert calls == [1]


@pytest.mark.parametrize('crop_size, stride, size', [
    ((32, 32), (48, 48), (96, 96)), ((32, 16), (32, 17), (32, 40)), ((16, 32), (24, 32), (41, 32))])
def test_windows_that_leave_gaps_are_refused_where_mmseg_refuses(crop_size, stride, size):
    detector = build_detector(mode='slide', crop_size=crop_size, stride=stride)
    inputs, metas = torch.zeros(1, 6, *size), [dict(ori_shape=size, img_shape=size)]
    detector.encode_decode = lambda windows, metas: windows[:, :1]
    with pytest.raises(AssertionError):
        detector.slide_inference(inputs, metas)
    # one window sees all of a small image, whatever the stride
    whole = inputs[..., :crop_size[0], :crop_size[1]]
    expected = detector.slide_inference(whole, metas)
    accelerate(detector, **OFF | dict(window_batch=4))
    with pytest.raises(ValueError, match=r'leave gaps. Fix: a stride of at most crop_size'):
        detector.slide_inference(inputs, metas)
    assert torch.equal(detector.slide_inference(whole, metas), expected)


@pytest.mark.parametrize('logits', [lambda windows: windows[:, :1, :1, :1], lambda windows: windows[:, :1, ::2, ::2]],
                         ids=['one pixel', 'half'])
def test_logits_of_another_size_than_the_windows_are_refused_as_in_mmseg(logits):
    detector = build_detector(mode='slide', crop_size=(32, 32), stride=(16, 16))
    inputs, metas = torch.zeros(1, 6, 48, 48), [dict(ori_shape=(48, 48), img_shape=(48, 48))]
    detector.encode_decode = lambda windows, metas: logits(windows)
    with pytest.raises(RuntimeError):
        detector.slide_inference(inputs, metas)
    accelerate(detector, **OFF | dict(window_batch=4))
    with pytest.raises(ValueError, match=r'for windows of \(32, 32\)'):
        detector.slide_inference(inputs, metas)


@pytest.mark.parametrize('layer, hangs', [
    (torch.nn.Conv2d(8, 8, (1, 41), groups=8), True),
    (torch.nn.Conv2d(8, 16, (1, 21), groups=8), True),
    (torch.nn.Conv2d(8, 8, 15, groups=8), True),
    (torch.nn.Conv2d(8, 8, (41, 1), groups=8), False),
    (torch.nn.Conv2d(8, 8, 7, groups=8), False),
    (torch.nn.Conv2d(8, 8, (1, 41)), False),
    (torch.nn.Conv2d(8, 8, (1, 41), groups=2), False),
    (torch.nn.Conv2d(1, 8, (1, 41)), False),
], ids=str)
def test_wide_depthwise_convolutions_stay_in_float32_on_a_cpu(monkeypatch, layer, hangs):
    """oneDNN never returns from some of them in bfloat16 and channels last."""
    warnings = []
    monkeypatch.setattr(acceleration, 'print_log', lambda message, *_: warnings.append(message))
    model = torch.nn.Sequential(torch.nn.ReLU(), layer)
    precision = accelerate(model, **OFF | dict(channels_last=True, dtype='bfloat16'))
    assert precision == (torch.float32 if hangs else torch.bfloat16)
    assert ['1 is a depthwise convolution' in warning for warning in warnings] == [True] * hangs
    if hangs:
        assert model(torch.zeros(1, 8, 48, 48)).dtype == torch.float32


def test_what_the_optimizer_keeps_is_stored_without_the_layout():
    live = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    optimizer = dict(state={0: dict(step=torch.tensor(1.), exp_avg=live)}, param_groups=[dict(lr=0.1, params=[0])])
    checkpoint = dict(state_dict=dict(w=live), optimizer=optimizer, meta={})
    AccelerationHook().before_save_checkpoint(None, checkpoint)
    stored = checkpoint['optimizer']['state'][0]['exp_avg']
    assert stored.is_contiguous() and torch.equal(stored, live) and checkpoint['state_dict']['w'].is_contiguous()
    assert optimizer['state'][0]['exp_avg'] is live and not live.is_contiguous()
    assert checkpoint['optimizer']['param_groups'] == optimizer['param_groups']


def test_a_copy_has_its_own_weights(eager):
    detector = build_detector()
    accelerate(detector, dtype='bfloat16', compile=False)
    twin = copy.deepcopy(detector)
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert logits(twin).abs().max() == 0
    torch.testing.assert_close(logits(detector), logits(eager), rtol=0, atol=0.1)


def test_names_and_values_of_the_weights_stay(eager):
    detector = build_detector()
    accelerate(detector, dtype='bfloat16', compile=True)
    state = detector.state_dict()
    assert state.keys() == eager.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in eager.state_dict().items())


@pytest.mark.parametrize('settings, message', [
    (dict(dtype='half'), "dtype='half': use one of auto, float32, bfloat16, float16"),
    (dict(window_batch=0), 'window_batch=0: at least one'),
    (dict(window_batch=2.5), 'window_batch=2.5: at least one'),
    (dict(channels_last='no'), "channels_last='no' is not a Boolean. Fix: channels_last=True or channels_last=False"),
    (dict(keep_memory=0), 'keep_memory=0 is not a Boolean'),
    (dict(tf32='high'), "tf32='high' is not a Boolean"),
    (dict(compile='default'), "compile='default' is not a Boolean"),
])
def test_wrong_settings_are_said(eager, settings, message):
    with pytest.raises(ValueError, match=message):
        accelerate(eager, **OFF | settings)


def test_devices_that_mmengine_has_no_autocast_for(monkeypatch):
    warnings = []
    monkeypatch.setattr(acceleration, 'print_log', lambda message, *_: warnings.append(message))

    class OnMPS(torch.nn.Module):
        def parameters(self, recurse=True):
            yield types.SimpleNamespace(device=torch.device('mps'))

    assert accelerate(OnMPS(), **OFF | dict(dtype='float16')) == torch.float32
    assert warnings == ['mps does not compute in float16 here: going on in float32.']


def test_activation_checkpointing_and_compilation_exclude_each_other(monkeypatch):
    warnings = []
    monkeypatch.setattr(acceleration, 'print_log', lambda message, *_: warnings.append(message))
    monkeypatch.setattr(torch, 'compile', lambda function, **_: function)
    detector = build_detector()
    detector.decode_head.with_cp = True
    accelerate(detector, **OFF | dict(compile=True))
    assert len(warnings) == 1 and 'with_cp has no effect' in warnings[0]


def test_compilation_is_announced_once(monkeypatch):
    messages = []
    monkeypatch.setattr(acceleration, 'print_log', lambda message, *_, **__: messages.append(message))
    detector = build_detector()
    accelerate(detector, **OFF | dict(compile=dict(backend='eager')))
    for height in (64, 80):
        logits(detector, height=height)
    assert messages.count('Compiling EncoderDecoder.encode_decode: first passes take longer') == 1


@pytest.mark.slow
def test_each_size_is_compiled_by_itself(eager):
    graphs = []

    def compiler(graph, inputs):
        graphs.append([tuple(x.shape) for x in inputs if isinstance(x, torch.Tensor) and x.dim() == 4])
        assert not any(isinstance(x, torch.SymInt) for x in inputs)
        return graph.forward

    detector = build_detector()
    accelerate(detector, **OFF | dict(compile=dict(backend=compiler)))
    for n, height, width in ((1, 64, 64), (1, 80, 48), (2, 64, 50), (1, 64, 64)):
        size = dict(n=n, height=height, width=width)
        # the largest image's size is a compiled graph's input; 50 is no multiple of 16
        torch.testing.assert_close(logits(detector, **size), logits(eager, **size), rtol=0, atol=1e-4)
        assert any((n, 6, height, width) in shapes for shapes in graphs)
    assert len(graphs) == 3


@pytest.mark.slow
def test_what_cannot_be_compiled_runs_as_it_is_written(eager, monkeypatch):
    warnings = []

    def record(message, logger=None, level=logging.INFO):
        if level >= logging.WARNING:
            warnings.append(message)

    monkeypatch.setattr(acceleration, 'print_log', record)

    def compiler(graph, inputs):
        raise ZeroDivisionError('strides of -1')

    detector = build_detector()
    accelerate(detector, **OFF | dict(compile=dict(backend=compiler)))
    assert torch.equal(logits(detector), logits(eager))
    reason = 'going on without it: ZeroDivisionError: strides of -1'
    assert warnings == [f'torch.compile fails for EncoderDecoder.encode_decode, {reason}']
    assert torch.equal(logits(detector), logits(eager))
    assert len(warnings) == 1
    for _ in range(2):
        detector.decode_head(detector.backbone(torch.zeros(1, 6, 32, 32)))
    assert warnings[1:] == [f'torch.compile fails for {part}.forward, {reason}' for part in ('IFN', 'IFNHead')]


@pytest.mark.skipif(torch.cuda.is_available(), reason='a GPU does compute in float16')
def test_what_the_device_cannot_do_is_left_out_with_a_warning(eager, monkeypatch):
    warnings = []
    monkeypatch.setattr(acceleration, 'print_log', lambda message, *_: warnings.append(message))
    detector = build_detector()
    assert accelerate(detector, **OFF | dict(dtype='float16')) == torch.float32
    assert warnings == ['cpu does not compute in float16 here: going on in float32.']
    assert torch.equal(logits(detector), logits(eager))


class Command:
    """The train command on drawn pairs, and what it leaves."""

    def __init__(self, python, options, work_dir):
        self.python, self.options, self.work_dir = python, options, work_dir

    def __call__(self, *arguments, settings=(), fails=False):
        return self.python('-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', self.work_dir, *arguments,
                           '--cfg-options', *self.options, 'train_cfg.max_iters=2', *settings, fails=fails)


@pytest.fixture
def train(python, options, tmp_path):
    return Command(python, options, tmp_path / 'run')


@pytest.mark.slow
def test_training_with_all_of_it(train, scalars, python, options, tmp_path):
    """Train and save; then use the checkpoint without any of it."""
    output = train('--accelerate', '--dtype', 'bfloat16', settings=['train_cfg.val_begin=100'])
    assert 'computing in torch.bfloat16' in output and 'torch.compile does not work' not in output
    log = scalars(train.work_dir)
    state = load_checkpoint_file(train.work_dir / 'iter_2.pth')['state_dict']
    assert state.keys() == build_detector().state_dict().keys()
    assert all(value.is_contiguous() and value.dtype in (torch.float32, torch.int64) for value in state.values())
    plain = python('-m', 'ifn_plugin.tools.train', CONFIG, '--work-dir', tmp_path / 'plain', '--cfg-options', *options,
                   'train_cfg.max_iters=1', 'train_cfg.val_begin=100', 'default_hooks.checkpoint=None')
    assert 'AccelerationHook:' not in plain
    assert log[0]['loss'] == pytest.approx(scalars(tmp_path / 'plain')[0]['loss'], rel=0.05)
    dates = batch()['inputs'][0].unflatten(0, (2, 3)).permute(0, 2, 3, 1).numpy()
    probability = ChangeDetector(CONFIG, train.work_dir / 'iter_2.pth', device='cpu').predict(*dates).probability
    assert 0 < probability.min() < probability.max() < 1


@pytest.mark.slow
def test_without_a_compiler_training_goes_on_with_one_warning(train, scalars, monkeypatch, tmp_path):
    monkeypatch.setenv('CXX', str(tmp_path / 'no-such-compiler'))
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'cache'))
    output = train('--compile')
    assert len(re.findall('torch.compile does not work here, going on without it', output)) == 1
    assert 'loss' in scalars(train.work_dir)[0]


def test_float16_needs_loss_scaling_to_train(monkeypatch):
    class Runner:
        model, logger = build_detector(), logging.getLogger('mmengine')
        optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))

    # as on a GPU, which the model need not be on
    monkeypatch.setattr(acceleration, '_usable_dtype', lambda dtype, device: getattr(torch, dtype))
    hook = AccelerationHook(dtype='float16', compile=False)
    hook.before_run(Runner)
    with pytest.raises(ValueError, match='needs loss scaling to train'):
        hook.before_train(Runner)


def started(configured=False, **switches):
    """A hook that has accelerated a model with one convolution, and its runner."""
    class Runner:
        model, logger = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), logging.getLogger('mmengine')
        optim_wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), fused=configured))

    hook = AccelerationHook(**OFF | switches)
    hook.before_run(Runner)
    return hook, Runner


def test_what_a_resumed_optimizer_keeps_is_laid_out_as_the_weights():
    hook, runner = started(channels_last=True)
    weight, optimizer = runner.model[0].weight, runner.optim_wrapper.optimizer
    weight.grad = torch.randn(4, 3, 3, 3)
    optimizer.step()
    kept = optimizer.state[weight]
    kept['exp_avg'] = loaded = kept['exp_avg'].contiguous()  # as in a checkpoint
    step = kept['step'].clone()
    assert loaded.stride() != weight.stride()
    hook.before_train(runner)
    assert kept['exp_avg'].stride() == weight.stride() and torch.equal(kept['exp_avg'], loaded)
    assert torch.equal(kept['step'], step)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the fault is the CPU implementation's")
def test_fused_optimizers_need_the_usual_layout():
    hook, runner = started(True)
    hook.before_train(runner)
    hook, runner = started(True, channels_last=True)
    optimizer = runner.optim_wrapper.optimizer
    optimizer.param_groups.insert(0, dict(optimizer.param_groups[0], params=[]))  # of what is frozen
    with pytest.raises(ValueError, match='fused optimizers take wrong steps'):
        hook.before_train(runner)


def test_the_hook_accelerates_once():
    class Runner:
        model, logger = build_detector(), logging.getLogger('mmengine')

    hook = AccelerationHook(dtype='bfloat16', compile=False)
    hook.before_run(Runner)
    forward = Runner.model.forward
    hook.before_run(Runner)  # a runner that trains and then tests
    assert Runner.model.forward is forward


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason="glibc's memory is kept, on Linux")
@pytest.mark.parametrize('compiling', [False, True])
def test_freed_memory_is_kept_and_what_compilation_leaves_is_not(python, compiling):
    """In a process of its own, since it is the whole process's."""
    output = python('-c', f"""
import torch
from ifn_plugin.engine.acceleration import accelerate
def resident():
    return int(open('/proc/self/statm').read().split()[1]) * 4096 // 2**20
def free(circle=False):
    objects = [torch.ones(2**26)]  # 256 MiB
    objects.extend([objects] if circle else [])
model, x = torch.nn.Identity(), torch.zeros(1)
found = []
def look():
    found.append(resident())
def compile_something():
    torch.compile(lambda x: x + 1, backend='eager')(x)
    free(circle=True)
accelerate(model, channels_last=False, dtype='float32', compile={compiling})
look()
for action in free, model, compile_something, model, free, model:
    action(x) if action is model else action()
    look()
print('MiB', *(here - found[0] for here in found[1:]))""")
    kept = [int(number) > 200 for number in output.split('MiB')[-1].split()]
    # without compilation, all from the start; else from the second pass on, but for what compilation left
    assert kept == ([False, False, True, False, True, True] if compiling else [True] * 6)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Let the decisions be those on a GPU, and their effects fall on the CPU."""
    monkeypatch.setattr(acceleration_hook, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(acceleration_hook, 'can_fuse', partial(can_fuse, device='cpu'))


def train_once(hook, runner):
    hook.before_train(runner)
    weight, optimizer = runner.model[0].weight, runner.optim_wrapper.optimizer
    runner.model(torch.ones(1, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    return weight, optimizer


@pytest.mark.skipif(torch.__version__ < torch.torch_version.TorchVersion('2.4'), reason='torch 2.4 fuses on a CPU')
def test_adamw_is_fused_on_a_gpu_and_checkpoints_do_not_tell(as_on_a_gpu):
    runners = []
    for fused in False, True:
        torch.manual_seed(0)
        hook, runner = started(None, fused=fused, pin_memory=False)
        weight, optimizer = train_once(hook, runner)
        assert optimizer.param_groups[0]['fused'] is (fused or None)
        checkpoint = dict(optimizer=runner.optim_wrapper.state_dict())
        hook.before_save_checkpoint(runner, checkpoint)
        assert [group['fused'] for group in checkpoint['optimizer']['param_groups']] == [None]
        runners.append((weight, checkpoint))
    torch.testing.assert_close(runners[0][0], runners[1][0])
    # either goes on from the other's, twice
    for _, checkpoint in runners:
        hook, runner = started(None, fused=True, pin_memory=False)
        runner.optim_wrapper.load_state_dict(checkpoint['optimizer'])
        for _ in range(2):
            _, optimizer = train_once(hook, runner)
            assert optimizer.param_groups[0]['fused'] and hook.switched_fused
        assert next(iter(optimizer.state.values()))['step'] == 3


@pytest.mark.parametrize('make, fuses', [
    (torch.optim.AdamW, True), (torch.optim.Adam, True), (partial(torch.optim.SGD, lr=0.1), False),
    (partial(torch.optim.AdamW, foreach=False), False), (partial(torch.optim.AdamW, fused=False), False),
    (partial(torch.optim.AdamW, differentiable=True), False)], ids=str)
def test_settings_of_the_optimizer_go_before(make, fuses):
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    assert can_fuse([make(parameters)], 'cpu') == fuses
    assert not can_fuse([make(parameters)])  # no parameters of a GPU
    assert not can_fuse([torch.optim.AdamW(parameters), torch.optim.SGD(parameters, lr=0.1)], 'cpu')


@pytest.mark.parametrize('kind', ['cuda', 'cpu'])
@pytest.mark.parametrize('pins', [True, False])
def test_batches_are_pinned_and_copied_without_waiting_on_a_gpu(monkeypatch, kind, pins):
    class Runner:
        model, logger = build_detector(), logging.getLogger('mmengine')
        optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        train_dataloader, val_dataloader, test_dataloader = (torch.utils.data.DataLoader([1]) for _ in range(3))

    monkeypatch.setattr(acceleration_hook, 'get_device', lambda: kind)
    hook = AccelerationHook(pin_memory=pins, **OFF)
    hook.before_run(Runner)
    for moment in hook.before_train, hook.before_val, hook.before_test:
        moment(Runner)
    loaders = (Runner.train_dataloader, Runner.val_dataloader, Runner.test_dataloader)
    assert [loader.pin_memory for loader in loaders] == [pins and kind == 'cuda'] * 3
    copies = []
    monkeypatch.setattr(torch.Tensor, 'to', lambda self, *_, non_blocking=False, **__: copies.append(non_blocking))
    Runner.model.data_preprocessor.cast_data(dict(inputs=torch.zeros(1)))
    assert copies == [pins and kind == 'cuda']


def collate_pairs(samples):
    return dict(inputs=[image for image, _ in samples], data_samples=[sample for _, sample in samples],
                sizes=tuple(image.new_tensor(image.shape) for image, _ in samples), names=['a', None])


@pytest.mark.parametrize('workers', [0, 1])
def test_labels_are_pinned_with_their_images(monkeypatch, workers):
    """As torch's loader does it, whose thread needs a GPU."""
    pairs = [(torch.zeros(6, 4, 4), SegDataSample(
        gt_sem_seg=PixelData(data=torch.full((1, 4, 4), number)), metainfo=dict(number=number))) for number in range(2)]
    loader = torch.utils.data.DataLoader(pairs, batch_size=2, num_workers=workers, collate_fn=collate_pairs)
    for _ in range(2):  # before each validation
        pin_batches(loader)
    assert loader.pin_memory and loader.collate_fn.collate is collate_pairs
    loader.pin_memory = False
    batch, = loader
    pinned = []
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda tensor: pinned.append(tensor) or tensor + 1)
    result = pin_memory(batch)
    assert len(pinned) == 6 and type(result) is dict and result['names'] == ['a', None]
    assert all(image.eq(1).all() for image in result['inputs']) and result['sizes'][1].tolist() == [7, 5, 5]
    for number, (sample, before) in enumerate(zip(result['data_samples'], batch['data_samples'])):
        assert sample.gt_sem_seg.data.eq(number + 1).all() and before.gt_sem_seg.data.eq(number).all()
        assert type(sample) is SegDataSample and sample.number == number


def test_batches_of_another_kind_are_left_to_torch():
    collate = PinnableCollate(tuple)
    assert collate([1, 2]) == (1, 2)


def test_tf32_is_for_gpus(monkeypatch):
    asked = []
    monkeypatch.setattr(acceleration, 'use_tf32', lambda: asked.append('tf32'))
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    accelerate(torch.nn.Conv2d(1, 1, 1), **OFF | dict(tf32=True))
    assert not asked

    class OnGPU(torch.nn.Module):
        def parameters(self, recurse=True):
            yield types.SimpleNamespace(device=torch.device('cuda', 0))

    accelerate(OnGPU(), **OFF)
    assert not asked
    accelerate(OnGPU(), **OFF | dict(tf32=True))
    assert asked == ['tf32']


@pytest.fixture
def own_tf32():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.filterwarnings('error')
def test_tf32_is_torchs_own_setting(own_tf32):
    torch.backends.cudnn.allow_tf32 = False
    use_tf32()
    assert torch.get_float32_matmul_precision() == 'high' and torch.backends.cudnn.allow_tf32


@pytest.mark.filterwarnings('error')
@pytest.mark.skipif(not hasattr(torch.backends.cudnn, 'conv'), reason='torch 2.9 has settings for each operation')
def test_tf32_in_both_of_torchs_spellings(own_tf32):
    """torch raises an error where the two contradict each other."""
    convolution, product = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    convolution.fp32_precision = product.fp32_precision = 'ieee'
    use_tf32()
    assert convolution.fp32_precision == product.fp32_precision == 'tf32'
    assert product.allow_tf32 and torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize('options, records', [
    (dict(mode='reduce-overhead'), True), (dict(mode='max-autotune'), True),
    (dict(options={'triton.cudagraphs': True}), True), (dict(mode='max-autotune-no-cudagraphs'), False),
    (dict(dynamic=False), False)])
def test_each_step_is_one_of_cuda_graphs(monkeypatch, eager, options, records):
    """The frozen encoder's maps are to last until the head has read them."""
    events = []
    # its trial would be among the events
    monkeypatch.setattr(acceleration, '_compiler_works', lambda device: True)
    monkeypatch.setattr(torch, 'compile', lambda function, **_: lambda *args, **kwargs: (
        events.append(function.__qualname__), function(*args, **kwargs))[1])
    monkeypatch.setattr(torch.compiler, 'cudagraph_mark_step_begin', lambda: events.append('step'))
    detector = build_detector()
    accelerate(detector, **OFF | dict(compile=options))
    assert torch.equal(logits(detector), logits(eager))
    steps = ['step'] * 2 if records else []
    assert [event for event in events if not event.endswith('.forward')] == [*steps, 'EncoderDecoder.encode_decode']
    events.clear()
    detector(torch.zeros(1, 6, 32, 32), mode='tensor')
    assert events == [*steps[1:], 'BasePairEncoder.forward', 'IFNHead.forward']


@pytest.mark.parametrize('heads', [None, ('seg', 'change')])
def test_logits_outlast_the_next_step_of_cuda_graphs(monkeypatch, heads):
    """A graph's outputs are always in the same place; those of two classes are kept as they are."""
    place = torch.zeros(1, 2, 4, 4)

    def record(function, **_):
        return lambda *args, **kwargs: dict.fromkeys(heads, place.add_(1)) if heads else place.add_(1)

    monkeypatch.setattr(acceleration, '_compiler_works', lambda device: True)
    monkeypatch.setattr(torch, 'compile', record)
    detector = build_detector()
    accelerate(detector, **OFF | dict(compile=dict(mode='reduce-overhead')))
    kept = [detector.encode_decode(None, None) for _ in range(3)]
    for number, outputs in enumerate(kept, 1):
        for logits in outputs.values() if heads else [outputs]:
            assert logits.eq(number).all()
