"""What a run loads fits, and where it goes on with other settings than the configuration's, it says so."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

from ifn_plugin.engine import LoadedWeightsHook, ResumedSettingsHook
from ifn_plugin.fileio import CheckpointError, load_checkpoint_file
from ifn_plugin.models import IFN, IFNHead
from ifn_plugin.models.conversion import convert_to_opencd
from ifn_plugin.tools import train


class Model(BaseModel):

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=sum(value.square().sum() for value in self.parameters()))


class Dataset(torch.utils.data.Dataset):

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(inputs=torch.ones(1))


def run(work_dir, number=2, optimizer=None, schedules=None, model=lambda: Model(layer=torch.nn.Linear(1, 1)),
        checkpoint='CheckpointHook', hooks=(), **settings):
    """A runner of any mmengine program, with the hooks in its configuration."""
    runner = Runner(
        model(), str(work_dir), dict(batch_size=1, sampler=dict(type='InfiniteSampler'), dataset=Dataset()),
        train_cfg=dict(by_epoch=False, max_iters=number),
        optim_wrapper=dict(optimizer=optimizer or dict(type='SGD', lr=0.1)), param_scheduler=schedules,
        default_hooks=dict(checkpoint=dict(type=checkpoint, by_epoch=False, interval=2)),
        custom_hooks=[dict(type='ifn_plugin.LoadedWeightsHook'), dict(type='ifn_plugin.ResumedSettingsHook'),
                      *hooks],
        experiment_name=f'{work_dir}-{number}-{len(list(work_dir.iterdir()))}', log_level='WARNING', **settings)
    runner.train()
    return runner


POLY = dict(type='PolyLR', begin=0, end=2, by_epoch=False)
MOMENTUM = dict(type='LinearMomentum', start_factor=0.5, end=2, by_epoch=False)


@pytest.mark.parametrize('first, second, told', [
    ({}, {}, None),
    (dict(schedules=[POLY]), dict(schedules=[POLY]), None),
    (dict(optimizer=dict(type='AdamW', lr=0.1, foreach=False)), dict(optimizer=dict(type='AdamW', lr=0.1)), None),
    (dict(optimizer=dict(type='AdamW', lr=0.1), schedules=[MOMENTUM]),
     dict(optimizer=dict(type='AdamW', lr=0.1), schedules=[MOMENTUM]), None),
    ({}, dict(optimizer=dict(type='SGD', lr=0.001)), 'optimizer.lr 0.1 (configuration: 0.001)'),
    (dict(schedules=[POLY]), dict(schedules=[POLY], optimizer=dict(type='SGD', lr=0.2)),
     'optimizer.lr 0.1 (configuration: 0.2)'),
    (dict(optimizer=dict(type='AdamW', lr=0.1)), dict(optimizer=dict(type='AdamW', lr=0.1, betas=(0.8, 0.9))),
     'optimizer.betas [0.9, 0.999] (configuration: [0.8, 0.9])'),
    ({}, dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01)),
     'optimizer.weight_decay 0 (configuration: 0.01)'),
    (dict(schedules=[POLY]), dict(schedules=[dict(POLY, end=4)]), 'param_scheduler[0].end 2 (configuration: 4)'),
    (dict(schedules=[POLY]), dict(schedules=[dict(type='StepLR', step_size=3, end=2, by_epoch=False)]),
     'param_scheduler[0].step_size None (configuration: 3)'),
    ({}, dict(schedules=[POLY]), '0 schedules (configuration: 1)'),
    (dict(schedules=[POLY]), {}, '1 schedules (configuration: 0)'),
])
def test_settings_that_a_checkpoint_overrides_are_warned_of(tmp_path, capsys, first, second, told):
    run(tmp_path, **first)
    capsys.readouterr()
    runner = run(tmp_path, 3, resume=True, **second)
    output = ''.join(capsys.readouterr())
    assert runner.iter == 3
    if told is None:
        assert 'Resumed from' not in output
    else:
        line, = (line for line in output.splitlines() if 'Resumed from' in line)
        assert 'WARNING' in line and f'{tmp_path / "iter_2.pth"}, whose settings' in line and 'Fix:' in line
        assert told in line, line


def test_weights_behind_an_average_are_checked_too(tmp_path):
    """EMAHook with an interval averages NaN only later."""

    class Broken(Hook):

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            runner.model.layer.bias.data.fill_(torch.nan)

    average = dict(type='EMAHook', interval=100)
    run(tmp_path, checkpoint='ifn_plugin.WholeCheckpointHook', hooks=[average])
    assert (tmp_path / 'iter_2.pth').exists()
    with pytest.raises(FloatingPointError, match=r'After iteration 2, layer\.bias is not finite: no checkpoint'):
        run(tmp_path, checkpoint='ifn_plugin.WholeCheckpointHook', hooks=[average, Broken()])


def test_the_state_of_another_optimizer_is_refused(tmp_path):
    run(tmp_path, optimizer=dict(type='AdamW', lr=0.1))
    with pytest.raises(CheckpointError, match=r'iter_2\.pth is of another optimizer: optimizer has amsgrad, betas.* '
                                              r'\(configuration: dampening, momentum.*Fix: .* load_from=CHECKPOINT'):
        run(tmp_path, 3, resume=True, optimizer=dict(type='SGD', lr=0.1))


def test_overridden_settings_of_several_optimizers_are_warned_of():
    def optimizers(lr):
        return OptimWrapperDict(**{name: OptimWrapper(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=rate))
                                   for name, rate in (('one', 0.1), ('other', lr))})

    def schedules(wrappers, end):
        return {name: [PARAM_SCHEDULERS.build(dict(POLY, end=end, optimizer=wrapper))]
                for name, wrapper in wrappers.items()}

    before, now = optimizers(0.2), optimizers(0.3)
    checkpoint = dict(param_schedulers={name: [one.state_dict() for one in several]
                                        for name, several in schedules(before, 2).items()})
    checkpoint['optimizer'] = before.state_dict()
    messages = []
    runner = SimpleNamespace(_resume=True, _load_from='a.pth', optim_wrapper=now, param_schedulers=schedules(now, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('ifn_plugin.engine.hooks.resumed_settings_hook.print_log', lambda text, *_: messages.append(text))
        ResumedSettingsHook().after_load_checkpoint(runner, checkpoint)
    assert re.findall(r'\S+ \S+ \(configuration: \S+\)', messages[0]) == [
        'other.optimizer.lr 0.2 (configuration: 0.3)', *['param_scheduler[0].end 2 (configuration: 4)'] * 2]


@pytest.fixture
def detector():
    return Model(backbone=IFN(init_cfg=None, frozen=False), decode_head=IFNHead())


def load(model, checkpoint):
    runner = SimpleNamespace(model=model, _load_from='weights.pth')
    LoadedWeightsHook().after_load_checkpoint(runner, checkpoint)
    return checkpoint['state_dict']


def test_weights_of_open_cds_ifn_are_converted(detector):
    other = Model(backbone=IFN(init_cfg=None, frozen=False), decode_head=IFNHead())
    for checkpoint in (convert_to_opencd(other.state_dict()), dict(state_dict=convert_to_opencd(other.state_dict()))):
        loaded = load(detector, checkpoint)
        torch.testing.assert_close(loaded, dict(other.state_dict()))
        torch.testing.assert_close(dict(detector.state_dict()), dict(other.state_dict()))


@pytest.mark.parametrize('change, message', [
    (lambda state: state.pop('backbone.features.0.weight'), r'backbone\.features\.0\.weight is missing'),
    (lambda state: state.update({'decode_head.stray': torch.ones(1)}), r'decode_head\.stray is unknown'),
    (lambda state: state.update({'backbone.features.0.bias': torch.ones(3)}), r'0\.bias is \(3,\), not \(64,\)'),
    (dict.clear, r'is missing.* and \d+ more'),
])
def test_weights_that_do_not_fit_are_refused(detector, change, message):
    state = dict(detector.state_dict())
    change(state)
    with pytest.raises(CheckpointError, match=rf'weights\.pth does not fit the configuration: .*{message}'):
        load(detector, dict(state_dict=state))


def test_weights_that_a_module_migrates_fit():
    """Here the first convolution, for four bands instead of three."""
    state = IFN(init_cfg=None, frozen=False).state_dict()
    model = IFN(init_cfg=None, frozen=False, in_channels=4)
    load(model, dict(state_dict=state))
    assert model.features[0].weight.shape[1] == 4
    assert torch.allclose(model.features[0].weight.sum(1), state['features.0.weight'].sum(1), atol=1e-6)


class Versioned(torch.nn.Module):
    """A layer whose former version stored half the weight, and with something besides tensors in its state."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.register_buffer('mask', torch.full((2, ), -torch.inf))
        self.extra = dict(calls=1)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if local_metadata.get('version', 1) < 2:
            state_dict[f'{prefix}weight'] = 2 * state_dict[f'{prefix}weight']
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


@pytest.mark.parametrize('hooks', [[], [dict(type='ifn_plugin.AccelerationHook', dtype='float32', compile=False)]])
@pytest.mark.parametrize('hook', ['CheckpointHook', 'ifn_plugin.WholeCheckpointHook'])
def test_versions_and_extra_states_of_modules_are_kept(tmp_path, hook, hooks):
    settings = dict(model=lambda: Model(layer=Versioned()), optimizer=dict(type='SGD', lr=0.), checkpoint=hook,
                    hooks=hooks)
    runner = run(tmp_path, **settings)
    runner.model.layer.extra['calls'] = 5
    runner.save_checkpoint(str(tmp_path), 'iter_2.pth', save_param_scheduler=False)
    layer = run(tmp_path, 4, resume=True, **settings).model.layer
    assert layer.weight.tolist() == [1, 1] and layer.extra == dict(calls=5)
    # the weights alone, as of a former version, with and without the names of a wrapper
    for prefix in ('', 'module.'):
        model, state = Model(layer=Versioned()), Model(layer=Versioned()).state_dict()
        load(model, {f'{prefix}{key}': value for key, value in state.items()})
        assert model.layer.weight.tolist() == [2, 2]
    wrapped = torch.nn.Module()
    wrapped.module = Model(layer=Versioned())
    load(model, dict(state_dict=wrapped.state_dict()))
    assert model.layer.weight.tolist() == [1, 1]


@pytest.mark.parametrize('kind, found, resumes', [
    ('FlexibleRunner', False, False), ('FlexibleRunner', True, True), ('Runner', False, True)])
def test_weights_that_a_flexible_runner_begins_with(options, tmp_path, monkeypatch, kind, found, resumes):
    """It loads before the checkpoint hook can look for a checkpoint."""
    if found:
        (tmp_path / 'last_checkpoint').write_text('iter_2.pth')
    built = []
    monkeypatch.setattr(train.RUNNERS, 'build', lambda cfg: built.append(cfg) or SimpleNamespace(train=lambda: None))
    config = tmp_path / 'own.py'
    config.write_text("_base_ = str(__import__('ifn_plugin').find_config('ifn_mmseg_256x256_40k_levircd.py'))\n"
                      f"load_from, runner_type = 'weights.pth', '{kind}'")
    train.main([str(config), '--resume', '--work-dir', str(tmp_path)])
    assert (built[0].resume, built[0].load_from) == ((True, None) if resumes else (False, 'weights.pth'))


def test_any_runner_refuses_to_resume_from_another_model(tmp_path):
    run(tmp_path)
    checkpoint = load_checkpoint_file(tmp_path / 'iter_2.pth')
    checkpoint['state_dict']['other.weight'] = checkpoint['state_dict'].pop('layer.weight')
    torch.save(checkpoint, tmp_path / 'iter_2.pth')
    with pytest.raises(CheckpointError, match=r'iter_2\.pth does not fit .*layer\.weight is missing; other\.weight'):
        run(tmp_path, 4, resume=True)
    torch.save({}, tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match=r'weights\.pth does not fit .*layer\.weight is missing'):
        run(tmp_path, 4, load_from=str(tmp_path / 'weights.pth'))


def test_train_refuses_weights_that_do_not_fit(options, tmp_path):
    torch.save(dict(state_dict={'backbone.stem.weight': torch.ones(1)}), tmp_path / 'weights.pth')
    with pytest.raises(SystemExit, match=r'weights\.pth does not fit the configuration: backbone\.features\.0\.weight '
                                         'is missing'):
        train.main(['ifn_mmseg_256x256_40k_levircd.py', '--work-dir', str(tmp_path), '--cfg-options', *options,
                    f'load_from={tmp_path / "weights.pth"}'])
    with pytest.raises(SystemExit, match=r'weights\.pth does not fit the encoder of IFN'):
        train.main(['ifn_mmseg_256x256_40k_levircd.py', '--work-dir', str(tmp_path), '--cfg-options',
                    *(option for option in options if 'init_cfg' not in option),
                    f'model.backbone.init_cfg.checkpoint={tmp_path / "weights.pth"}'])
