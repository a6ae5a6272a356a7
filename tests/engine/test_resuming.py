"""Interrupted training: a resumed run sees the batches and the validations of the uninterrupted one."""

import multiprocessing
import random
import re
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    InfiniteSampler,
    RepeatDataset,
)
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, Subset, default_collate

from ifn_plugin.engine import ResumableBatchSampler, ResumableTrainLoop
from ifn_plugin.fileio import load_checkpoint_file

SAMPLES = 7
ITERATIONS = 6


class Noise(BaseDataset):
    """A few samples: their numbers, and random numbers of all three generators."""

    scale = 1.

    def load_data_list(self):
        return [dict(number=number) for number in range(SAMPLES)]

    def prepare_data(self, idx):
        noise = torch.tensor([np.random.rand(), random.random(), torch.rand(1).item()])
        return dict(inputs=torch.cat((torch.tensor([self.get_data_info(idx)['number']]), noise * self.scale)))

    def get_cat_ids(self, idx):
        return [idx % 2]


class OwnNoise(Noise):
    """Random numbers of generators that the data set keeps, and of OpenCV's."""

    def full_init(self):
        super().full_init()
        self.generators = np.random.default_rng(), random.Random(), torch.Generator()

    def prepare_data(self, idx):
        ours, python, torchs = self.generators
        level = cv2.randu(np.zeros((1, 1)), np.array(0.), np.array(1.))[0, 0]
        noise = torch.tensor([ours.random(), python.random() + level, torch.rand(1, generator=torchs).item()])
        return dict(inputs=torch.cat((torch.tensor([self.get_data_info(idx)['number']]), noise)))


class Batched(Noise):
    """A data set that loads a batch at once."""

    def __getitems__(self, indices):
        return [self[int(number)] for number in np.asarray(indices)]


class Toy(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, inputs, mode):
        if mode == 'predict':
            return [dict(number=int(sample[0])) for sample in inputs]
        self.seen.append(torch.stack(inputs))
        return dict(loss=self.weight.sum() + torch.rand(1).item())


class Score(BaseMetric):
    """The same at each validation, so that the first is the best."""

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(score=float(len(results)))


class Interrupted(Exception):
    pass


class Validations(Hook):
    """Record the validations that have ended; interrupt the run at one, or before an iteration."""

    def __init__(self, validation=None, iteration=None):
        self.ended, self.validation, self.iteration = [], validation, iteration

    def after_val_epoch(self, runner, metrics=None):
        if runner.iter == self.validation:
            raise Interrupted
        runner.message_hub.update_info('chosen', runner.iter)

    def after_val(self, runner):
        self.ended.append(runner.iter)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise Interrupted


@pytest.fixture
def train(tmp_path):
    """A function that trains and gives the runner and the batches that the model has seen."""
    names = iter(range(100))

    def run(dataset=None, loop=ResumableTrainLoop, iterations=ITERATIONS, resume=False, hooks=(), before=None, seed=0,
            loader=None, work_dir='run', randomness=None, validate=None, checkpoint=None, val_sampler='DefaultSampler',
            log_level='ERROR', **settings):
        dataset = Noise(serialize_data=False) if dataset is None else dataset
        settings = dict(sampler=dict(type='InfiniteSampler'), batch_size=3, num_workers=0) | settings
        val = {} if validate is None else dict(
            val_cfg={}, val_evaluator=Evaluator(Score()),
            val_dataloader=dict(dataset=Noise(serialize_data=False), sampler=dict(type=val_sampler), batch_size=4))
        checkpoint = dict(type='ifn_plugin.WholeCheckpointHook', by_epoch=False, interval=2) | (checkpoint or {})
        length = dict(type=loop, max_iters=iterations) if isinstance(iterations, int) else iterations
        runner = Runner(
            Toy(), str(tmp_path / work_dir), train_dataloader=loader or dict(settings, dataset=dataset),
            train_cfg=length | (validate or {}), resume=resume, custom_hooks=list(hooks), **val,
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=.1)),
            default_hooks=dict(checkpoint=checkpoint),
            randomness=dict(seed=seed) | (randomness or {}), log_level=log_level, default_scope='mmengine',
            experiment_name=f'{tmp_path.name}-{next(names)}')
        if before:
            before(runner)
        runner.train()
        return runner, runner.model.seen

    return run


@pytest.mark.parametrize('wrap', [
    lambda dataset: dataset, lambda dataset: ConcatDataset([dataset, dataset]),
    lambda dataset: RepeatDataset(dataset, 2), lambda dataset: ClassBalancedDataset(dataset, 0.9),
    lambda dataset: Subset(dataset, [5, 1, 3, 0]), lambda dataset: Subset(Subset(dataset, [5, 1, 3, 0]), [0, 1, 3]),
    lambda dataset: Batched(serialize_data=False), lambda dataset: RepeatDataset(OwnNoise(serialize_data=False), 1),
], ids=['plain', 'concat', 'repeat', 'balanced', 'subset', 'subset of subset', 'batched', 'own generators'])
@pytest.mark.parametrize('workers', [0, 2])
def test_resumed_run_sees_the_batches_of_the_uninterrupted(train, wrap, workers):
    """Whatever wraps the data set."""
    dataset = wrap(Noise(serialize_data=False))
    _, uninterrupted = train(dataset, work_dir='uninterrupted')
    train(dataset, iterations=4, num_workers=workers)
    _, rest = train(dataset, resume=True, num_workers=workers)
    assert len(uninterrupted) == ITERATIONS and len(rest) == 2
    assert torch.stack(uninterrupted)[..., 1:].unique().numel() == ITERATIONS * 9
    assert torch.equal(torch.stack(rest), torch.stack(uninterrupted[4:]))


@pytest.mark.parametrize('sampler', [
    dict(type='InfiniteSampler'), dict(type='InfiniteSampler', shuffle=False), dict(type='InfiniteSampler', seed=7),
    dict(type='DefaultSampler'), dict(type='DefaultSampler', shuffle=False, seed=7)
])
def test_order_is_mmengines(train, monkeypatch, sampler):
    """Also from epoch to epoch of a finite sampler, with its last batch smaller, and after resuming."""
    monkeypatch.setattr('time.sleep', lambda _: None)  # mmengine's loop, between two epochs
    numbers = []
    for loop in ('IterBasedTrainLoop', ResumableTrainLoop):
        _, seen = train(loop=loop, sampler=sampler, work_dir=str(loop))
        numbers.append([batch[:, 0].tolist() for batch in seen])
    assert numbers[0] == numbers[1]
    train(iterations=4, sampler=sampler)
    _, rest = train(resume=True, sampler=sampler)
    assert [batch[:, 0].tolist() for batch in rest] == numbers[0][4:]


def test_seed_of_the_resumed_run_is_that_of_its_checkpoint(train):
    _, uninterrupted = train(seed=5, work_dir='uninterrupted')
    train(seed=5, iterations=4)
    _, rest = train(seed=None, resume=True)
    assert torch.equal(torch.stack(rest), torch.stack(uninterrupted[4:]))


@pytest.mark.parametrize('different', [False, True])
def test_two_processes_share_an_epoch_whatever_their_seeds(train, monkeypatch, different):
    seen = []
    for rank in (0, 1):
        for module in ('mmengine.dataset.sampler', 'ifn_plugin.engine.samplers'):
            monkeypatch.setattr(f'{module}.get_dist_info', lambda rank=rank: (rank, 2))
        monkeypatch.setattr('ifn_plugin.engine.loops.resumable_loop.get_rank', lambda rank=rank: rank)
        _, batches = train(seed=5 + rank if different else 5, work_dir=str(rank), iterations=7, batch_size=1,
                           randomness=dict(diff_rank_seed=different))
        seen += [batch[0] for batch in batches]
    assert sorted(int(sample[0]) for sample in seen) == sorted([*range(SAMPLES)] * 2)
    assert torch.stack(seen)[:, 1:].unique().numel() == 14 * 3


def look(runner):
    assert runner.train_dataloader.dataset[0]['inputs'].shape == (4,)
    assert len(next(iter(runner.train_dataloader))['inputs']) == 3


@pytest.mark.parametrize('workers', [0, 2])
def test_look_into_the_loader_changes_nothing(train, workers):
    """Before training and in the middle of it."""

    class Look(Hook):

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if batch_idx == 2:
                look(runner)

    _, expected = train(work_dir='expected')
    _, seen = train(before=look, hooks=[Look()], num_workers=workers)
    assert torch.equal(torch.stack(seen), torch.stack(expected))


class Joined(dict):
    """A batch of the loader's function that a hook has set."""


def join(samples):
    return Joined(default_collate(samples), inputs=[sample['inputs'] for sample in samples])


@pytest.mark.parametrize('event', ['before_train', 'before_train_epoch'])
@pytest.mark.parametrize('settings', [
    dict(num_workers=0), dict(num_workers=2), dict(num_workers=2, persistent_workers=True)], ids=str)
def test_what_a_hook_sets_reaches_the_loader_and_the_data_set(train, event, settings):

    class Switch(Hook):

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            assert type(data_batch) is Joined

    def prepare(self, runner):
        runner.train_dataloader.dataset.scale, runner.train_dataloader.collate_fn = 0., join

    setattr(Switch, event, prepare)
    runner, seen = train(hooks=[Switch()], **settings)
    assert type(runner.train_dataloader.dataset) is Noise and runner.train_dataloader.dataset.scale == 0
    assert len(seen) == ITERATIONS and not torch.stack(seen)[..., 1:].any()
    assert not multiprocessing.active_children()


def test_attribute_set_in_the_middle_reaches_the_data_set(train):

    class Switch(Hook):

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            runner.train_dataloader.dataset.scale = 0.

    _, seen = train(hooks=[Switch()])
    assert [bool(batch[:, 1:].any()) for batch in seen] == [True] + [False] * 5


class Plain(ResumableTrainLoop):
    """A loop with a ``run`` of its own, which drops nothing after resuming."""

    def run(self):
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        while self.iter < self.max_iters:
            self.run_iter(next(self.dataloader_iterator))


def test_loop_with_a_run_of_its_own_sees_the_same_batches(train):
    _, uninterrupted = train(work_dir='uninterrupted')
    train(loop=Plain, iterations=4)
    _, rest = train(loop=Plain, resume=True)
    assert torch.equal(torch.stack(rest), torch.stack(uninterrupted[4:]))


def test_new_iterator_continues_at_the_next_iteration(train):
    runner, uninterrupted = train(work_dir='uninterrupted', iterations=7)
    runner, _ = train(iterations=6)
    assert torch.equal(torch.stack(next(iter(runner.train_dataloader))['inputs']), uninterrupted[6])


def test_loader_that_is_built_already_gives_the_same_batches(train):
    _, expected = train(work_dir='expected')
    dataset = Noise(serialize_data=False)

    def collate(samples):
        return dict(inputs=[sample['inputs'] for sample in samples])

    loader = DataLoader(dataset, 3, sampler=InfiniteSampler(dataset), collate_fn=collate)
    runner, seen = train(loader=loader)
    assert torch.equal(torch.stack(seen), torch.stack(expected))
    batches = ResumableBatchSampler(InfiniteSampler(dataset), 3)
    named = DataLoader(dataset, batch_sampler=batches, collate_fn=collate)
    runner, seen = train(loader=named, work_dir='named')
    assert torch.equal(torch.stack(seen), torch.stack(expected)) and runner.train_dataloader is named


def test_batch_sampler_is_named_with_the_settings(train):
    _, expected = train(work_dir='expected')
    _, seen = train(batch_sampler=dict(type='ifn_plugin.ResumableBatchSampler'), drop_last=True)
    assert torch.equal(torch.stack(seen), torch.stack(expected))


def test_last_batch_of_an_epoch_is_left_out_on_request(train):
    _, seen = train(sampler=dict(type='DefaultSampler'), drop_last=True)
    assert [len(batch) for batch in seen] == [3] * ITERATIONS
    epochs = torch.stack(seen)[..., 0].reshape(3, -1)
    assert all(len(set(epoch.tolist())) == 6 for epoch in epochs)


def test_far_start_loads_no_former_samples():
    dataset = Noise(serialize_data=False)
    batches = ResumableBatchSampler(InfiniteSampler(dataset, seed=0), 8)
    batches.start = 40000
    expected = list(islice(InfiniteSampler(dataset, seed=0), 320000, 320008))
    assert list(next(iter(batches))) == expected


def test_loader_without_a_computable_order_is_refused(train):
    dataset = Noise(serialize_data=False)
    with pytest.raises(ValueError, match=r'sampler\.type=RandomSampler .*Fix: InfiniteSampler or DefaultSampler'):
        train(loader=DataLoader(dataset, 3, shuffle=True))

    class Weighted(InfiniteSampler):
        pass

    with pytest.raises(ValueError, match=r'sampler\.type=Weighted'):
        train(sampler=dict(type=Weighted))
    own = type('AspectRatioBatchSampler', (BatchSampler,), {})(SequentialSampler(dataset), 3, False)
    with pytest.raises(ValueError, match=r'needs .*batch_sampler\.type=ifn_plugin\.ResumableBatchSampler, but got '
                                         'AspectRatioBatchSampler'):
        train(loader=DataLoader(dataset, batch_sampler=own))
    with pytest.raises(ValueError, match=r'needs .*, but got NoneType'):
        train(loader=DataLoader(dataset, batch_size=None))


@pytest.mark.parametrize('sampler', [
    lambda dataset: InfiniteSampler(dataset, seed=0), lambda dataset: DefaultSampler(dataset, seed=0)])
def test_data_without_a_batch_are_refused(sampler):
    with pytest.raises(ValueError, match='train_dataloader gives no batch: 0 samples, batch_size=4'):
        ResumableBatchSampler(sampler([]), 4)


def test_epoch_smaller_than_a_batch_is_refused(train):
    with pytest.raises(ValueError, match='gives no batch: 7 samples, batch_size=8, drop_last=True'):
        train(sampler=dict(type='DefaultSampler'), batch_size=8, drop_last=True)
    _, seen = train(sampler=dict(type='DefaultSampler'), batch_size=8)
    assert [len(batch) for batch in seen] == [7] * ITERATIONS


@pytest.mark.parametrize('validate', [
    dict(val_interval=2), dict(val_interval=2, val_begin=4), dict(val_interval=4, dynamic_intervals=[(3, 1)]),
    dict(val_interval=1, dynamic_intervals=[(3, 4)]), dict(val_interval=3, dynamic_intervals=[(4, 5)]),
], ids=['fixed', 'late', 'denser', 'sparser', 'never due again'])
def test_validations_are_those_of_the_uninterrupted_run(train, validate, tmp_path):
    """However it is interrupted: in the middle of a validation, which is made up for, or after it."""
    settings = dict(validate=validate, checkpoint=dict(interval=1, save_best='score', rule='greater'))
    uninterrupted = Validations()
    train(hooks=[uninterrupted], work_dir='uninterrupted', **settings)
    assert uninterrupted.ended[-1] == ITERATIONS
    breaks = [dict(validation=number) for number in uninterrupted.ended]
    breaks += [dict(iteration=number) for number in range(2, 6)]
    for place in breaks:
        name = f'{place}'
        first, rest = Validations(**place), Validations()
        with pytest.raises(Interrupted):
            train(hooks=[first], work_dir=name, **settings)
        runner, _ = train(hooks=[rest], work_dir=name, resume=True, **settings)
        assert first.ended + rest.ended == uninterrupted.ended, place
        assert runner.message_hub.get_info('best_ckpt').endswith(f'best_score_iter_{uninterrupted.ended[0]}.pth')
        last = load_checkpoint_file(tmp_path / name / f'iter_{ITERATIONS}.pth')['message_hub']['runtime_info']
        assert last['last_validation'] == last['chosen'] == ITERATIONS, place


def test_checkpoint_has_what_its_validation_has_changed(train, tmp_path):
    """Though it is written before, and the validation was not the best."""
    train(hooks=[Validations()], validate=dict(val_interval=2), checkpoint=dict(save_best='score', rule='greater'))
    chosen = [load_checkpoint_file(tmp_path / 'run' / f'iter_{number}.pth')['message_hub']['runtime_info']['chosen']
              for number in (2, 4, 6)]
    assert chosen == [2, 4, 6]


def test_validation_of_other_weights_after_the_training_changes_no_checkpoint(train, tmp_path):
    runner, _ = train(hooks=[Validations()], validate=dict(val_interval=2))
    paths = [tmp_path / 'run' / f'iter_{number}.pth' for number in (2, 6)]
    before = [path.read_bytes() for path in paths]
    runner.load_checkpoint(str(paths[0]))
    runner.val()
    assert [path.read_bytes() for path in paths] == before


def test_validation_between_two_checkpoints_writes_none(train, tmp_path):
    train(hooks=[Validations()], validate=dict(val_interval=3), checkpoint=dict(interval=2))
    assert {path.name for path in (tmp_path / 'run').glob('*.pth')} == {f'iter_{number}.pth' for number in (2, 4, 6)}


EPOCHS = dict(type='EpochBasedTrainLoop', max_epochs=2)


@pytest.mark.parametrize('batches', [None, dict(type='ifn_plugin.ResumableBatchSampler')])
def test_endless_epoch_is_refused(train, batches):
    with pytest.raises(ValueError, match=r'train_dataloader never ends, because of its .*InfiniteSampler\. Fix: '
                                         r'train_dataloader\.sampler\.type=DefaultSampler and train_dataloader\.batch'):
        train(iterations=EPOCHS, batch_sampler=batches)
    with pytest.raises(ValueError, match=r'train_dataloader never ends, because of its ResumableBatchSampler\.'):
        train(iterations=EPOCHS, batch_sampler=dict(type='ifn_plugin.ResumableBatchSampler'),
              sampler=dict(type='DefaultSampler'))


def test_epochs_that_end_are_trained(train):
    runner, seen = train(iterations=EPOCHS, sampler=dict(type='DefaultSampler'), validate=dict(val_interval=1),
                         checkpoint=dict(by_epoch=True, interval=1))
    assert runner.epoch == 2 and [len(batch) for batch in seen] == [3, 3, 1] * 2


def test_epoch_without_a_batch_is_refused(train):
    with pytest.raises(ValueError, match='train_dataloader gives no batch: 7 samples, batch_size=8, drop_last=True'):
        train(iterations=EPOCHS, sampler=dict(type='DefaultSampler'), batch_size=8, drop_last=True)


def test_endless_validation_is_refused(train):
    """At the start, not at the first validation."""
    with pytest.raises(ValueError, match=re.escape(
            'Iterating over val_dataloader never ends, because of its InfiniteSampler. Fix: '
            'val_dataloader.sampler.type=DefaultSampler')):
        train(validate=dict(val_interval=6), val_sampler='InfiniteSampler', iterations=6)


def test_endless_test_is_refused(tmp_path):
    runner = Runner(
        Toy(), str(tmp_path), test_cfg={}, test_evaluator=Evaluator(Score()), experiment_name=tmp_path.name,
        test_dataloader=dict(dataset=Noise(serialize_data=False), sampler=dict(type='InfiniteSampler')),
        default_hooks=dict(checkpoint=dict(type='ifn_plugin.WholeCheckpointHook')), default_scope='mmengine')
    with pytest.raises(ValueError, match='test_dataloader never ends'):
        runner.test()


def test_run_that_would_save_or_train_nothing_is_warned_of(train, tmp_path):

    def log(work_dir):
        return '\n'.join(path.read_text() for path in sorted((tmp_path / work_dir).glob('*/*.log')))

    train(checkpoint=dict(by_epoch=True), log_level='WARNING')
    assert 'no checkpoint before its end. Fix: default_hooks.checkpoint.by_epoch=False' in log('run')
    train(work_dir='ended', log_level='WARNING')
    assert 'Nothing is left' not in log('ended')
    _, seen = train(work_dir='ended', resume=True, log_level='WARNING')
    assert not seen
    assert 'Nothing is left to train: the checkpoint is from iteration 6, and train_cfg.max_iters=6' in log('ended')
