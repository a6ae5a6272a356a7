"""The documents hold what they say: each command in them runs, each link leads somewhere, each block is Python.

Commands run as they stand, but in a folder that has what the documents take for granted (``GIVEN``), with words in
upper case replaced (``REPLACED``), with open-cd's configurations replaced by mmsegmentation's, and made small
(``run_tool``). What is not run stands in ``NOT_RUN``, with the reason.
"""

import ast
import contextlib
import gc
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from documentation import (
    DOCUMENTS,
    OTHERS,
    REPOSITORY,
    TRANSLATED,
    Command,
    anchors,
    blocks,
    commands,
    configurations,
    headings,
    links,
    python_blocks,
)
from layouts import lay_out
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch.distributed.run import parse_args as parse_torchrun

from ifn_plugin.analysis import demonstration
from ifn_plugin.analysis.benchmark import Subject
from ifn_plugin.analysis.logs import read_log
from ifn_plugin.datasets.drawn import write_dataset
from ifn_plugin.datasets.packing import pack
from ifn_plugin.fileio import load_checkpoint_file
from ifn_plugin.models.conversion import convert_to_opencd
from ifn_plugin.tools import test, train

pytestmark = pytest.mark.filterwarnings('ignore:Dataset has no geotransform')
CONFIG = 'ifn_mmseg_256x256_40k_levircd.py'
# What the documents write for a configuration, if it is another in one of them
CONFIGS = {'bands.md': 'ifn_256x256_40k_4bands.py'}
# Commands that are not run, as regular expressions, and why
NOT_RUN = {
    r'make \w+': 'CI runs check and test; tests/tools/test_demo.py runs what demo runs; environments takes long',
    r'python3 -m venv \S+|\. \S+/bin/activate|pip install .+': 'CI makes the environment of the tests in this way',
    r'mim (train|test) opencd .+': 'open-cd and mim are needed: tests/opencd runs them, without GPUs',
    r'srun .+': 'Slurm is needed',
    r'git clone .+': 'the network is needed',
    r'ifn-plugin --completion .+': 'tests/test_main.py runs it; here it would write into the home folder',
    r'torchrun --nnodes 2 .+': 'two machines are needed',
    r'python -m ifn_plugin\.tools\.compare levircd-tiles.+': 'seven models take hours; another list of models is run',
    r'(IFN_PLUGIN_\w+=\S+ )+pytest .+': 'measurements that take hours, by hand',
}
# Programs of others that are run where they are
OPTIONAL = {'rio': 'rasterio is not installed', 'gdal_retile.py': "GDAL's programs are not installed"}
# Packages that arguments need, and the extra that they are in
NEEDED = {'ifn.onnx': ('export', ('onnx', 'onnxscript', 'onnxruntime')), '--polygons': ('geo', ('geopandas', ))}
SHELL = ('mkdir', 'ln', *OPTIONAL)
# The documents' words for what is there before a command, by what it is
GIVEN = {
    'pairs': ('PATH', 'TILES', 'PAIRS', 'LEVIR-CD', 'data/LEVIR-CD'),
    'packed': ('PATH-packed', 'PACKED', 'data/LEVIR-CD-packed'),
    'run': ('WORK_DIR', 'work_dirs/RUN', 'work_dirs/OTHER'),
    'checkpoint': ('CHECKPOINT', 'ifn.pth', 'work_dirs/tiles/best_F1_iter_2000.pth',
                   'work_dirs/imagenet/best_F1_iter_8000.pth', 'work_dirs/demo/iter_240.pth'),
    'date': ('work_dirs/demo/data/test/A', 'work_dirs/demo/data/test/B'),
    'stock': ('SRC',),
    'encoder': ('VGG16.pth',),
    'image': ('DATE1', 'DATE2'),
    'tiles': ('TILES1999', 'TILES2020'),
    'list': ('pairs.csv',),
    'raster': ('1999.tif', '2020.tif', 'a/site.tif', 'b/site.tif', 'label/site.tif'),
}
REPLACED = {'DATE1': 'DATE1.png', 'DATE2': 'DATE2.png', 'RANK': '0', 'ADDRESS': 'localhost'}
# Arguments that name what a command writes
WRITTEN = ('dst', 'out', 'polygons', 'show_dir', 'work_dir')
DATA = [
    f'{split}_dataloader.{setting}' for split in ('train', 'val', 'test')
    for setting in ('num_workers=0', 'persistent_workers=False')
]
SCHEDULE = [
    *DATA, 'randomness.seed=0', 'train_dataloader.batch_size=2', 'val_dataloader.dataset.indices=None',
    'train_cfg.val_interval=2', 'default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=2'
]
# Weights take longer to write than to train here
WITHOUT_CHECKPOINTS = ['checkpoint.interval=9', 'checkpoint.save_last=False', 'checkpoint.save_best=None']


def config_of(command):
    return CONFIGS.get(command.path.name, CONFIG)


def unique(found):
    """The first of all commands that are the same, with the places of all."""
    places = {}
    for command in found:
        places.setdefault((command.text, config_of(command)), []).append(command)
    return [(same[0], ', '.join(command.place for command in same)) for same in places.values()]


ALL = unique(command for path in DOCUMENTS for command in commands(path))
SKIPPED = [(command, pattern) for command, _ in ALL for pattern in NOT_RUN if re.fullmatch(pattern, command.text)]
RUN = [(command, places) for command, places in ALL if command not in [skipped for skipped, _ in SKIPPED]]


def split(command):
    """The words of a command; ``[MORE ...]`` is taken once, unless it repeats the word before."""
    text = re.sub(r'(\S+) \[\1 \.\.\.\]', r'\1', command.text)
    try:
        return shlex.split(re.sub(r'\[(\S+) \.\.\.\]', r'\1', text))
    except ValueError:  # quotation marks that are not closed: no command that can be run
        return [text]


def tool_of(words):
    """Name and arguments of a command of the plugin's among the words, or ``None``."""
    if Path(words[0]).name == 'ifn-plugin':
        return words[1], words[2:]
    for number, word in enumerate(words):
        if word.startswith('ifn_plugin.tools.') and words[number - 1] == '-m':
            return word.removeprefix('ifn_plugin.tools.'), words[number + 1:]
    return None


def without(words, option):
    """The words without an option and its values."""
    if option not in words:
        return words
    start = words.index(option)
    end = next((number for number in range(start + 1, len(words)) if words[number].startswith('--')), len(words))
    return words[:start] + words[end:]


def with_settings(words, settings):
    """Settings before the command's own, which so take precedence."""
    if '--cfg-options' not in words:
        return [*words, '--cfg-options', *settings]
    place = words.index('--cfg-options') + 1
    return words[:place] + settings + words[place:]


def in_one_process(command):
    """What is the same for a command and for its twin with torchrun."""
    name, arguments = tool_of(split(command)) or ('', split(command))
    return config_of(command), name, *without(arguments, '--launcher')


# With torchrun, one training is in two processes; tests/engine/test_distributed.py has more of them. The others are in
# one process, unless they are done without torchrun or are only another port.
WITH_TORCHRUN = [command for command, _ in RUN if command.text.startswith('torchrun ')]
DISTRIBUTED = next((command for command in WITH_TORCHRUN if '.tools.train ' in command.text), None)
DONE = {in_one_process(command): command
        for command in [*reversed(WITH_TORCHRUN), *(command for command, _ in RUN if command not in WITH_TORCHRUN)]}


class Workspace:
    """The folder that a command runs in; what it takes for granted is made when it is named."""

    def __init__(self, folder, config, fixture):
        self.folder, self.config, self.fixture = folder, config, fixture
        self.levir_like = fixture('levir_like')
        (folder / 'configs').symlink_to(REPOSITORY / 'configs')

    def real(self, word):
        """The word that takes the place of a document's."""
        setting, equals, value = word.rpartition('=')
        if re.fullmatch(r'[\w.]+', setting):
            return f'{setting}{equals}{self.real(value)}'
        if word == 'CONFIG':
            return self.config
        name = Path(word).name
        if name == 'ifn_256x256_40k_levircd.py':  # needs open-cd
            assert '/' not in word or word.startswith('OPEN-CD/') or (REPOSITORY / word).is_file(), word
            return CONFIG
        # links lead to it, so it has to be absolute
        return re.sub(r'^PATH\b', str(self.folder / 'PATH'), REPLACED.get(word, word))

    def give(self, word, tool='', bands=3):
        """Make what a document's word stands for, if it stands for something that has to be there."""
        word = word.rpartition('=')[2]
        kind = next((kind for kind, words in GIVEN.items() if word in words), None)
        path = self.folder / self.real(word)
        if kind is None or path.exists():
            return
        if kind == 'checkpoint' and tool == 'convert_checkpoint' and word == 'CHECKPOINT':
            kind = 'stock'  # what is converted is another project's
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == 'pairs':
            path.symlink_to(self.levir_like)
        elif kind == 'date':
            path.symlink_to(self.levir_like / 'test' / path.name)
        elif kind == 'packed':
            path.symlink_to(self.fixture('packed'))
        elif kind == 'run':
            shutil.copytree(self.fixture('trained'), path, copy_function=_link)
            (path / 'last_checkpoint').write_text(str(path / 'iter_2.pth'))
        elif kind == 'checkpoint':
            path.symlink_to(self.fixture('trained') / 'best_F1_iter_2.pth')
        elif kind == 'stock':
            weights = load_checkpoint_file(self.fixture('trained') / 'best_F1_iter_2.pth')
            torch.save(dict(state_dict=convert_to_opencd(weights)), path)
        elif kind == 'encoder':
            weights = load_checkpoint_file(self.fixture('trained') / 'best_F1_iter_2.pth')['state_dict']
            torch.save({name.removeprefix('backbone.'): weight for name, weight in weights.items()
                        if name.startswith('backbone.')}, path)
        elif kind == 'image':
            shutil.copy(self.levir_like / 'test' / ('A' if word == 'DATE1' else 'B') / '0000.png', path)
        elif kind == 'tiles':
            path.mkdir()
            for number in range(2):
                _write_raster(path / f'{number}.tif', word, bands, number * 640)
        elif kind == 'list':
            path.write_text('date1,date2\n1999.tif,2020.tif\n')
            for name in ('1999.tif', '2020.tif'):
                self.give(name, bands=bands)
        else:
            _write_raster(path, word, bands)


def _write_raster(path, word, bands, shift=0):
    rasterio = pytest.importorskip('rasterio', reason='rasterio is not installed: pip install ifn_plugin[geo]')
    values = np.random.default_rng([*word.encode()]).integers(1, 3000, (bands, 64, 64), np.uint16)
    with rasterio.open(path, 'w', driver='GTiff', height=64, width=64, count=bands, dtype='uint16', crs='EPSG:32631',
                       transform=rasterio.Affine(10, 0, 500_000 + shift, 0, -10, 5_000_000)) as dataset:
        dataset.write(values)


def _link(source, target):
    # weights are large, and are replaced, not changed
    (os.link if source.endswith('.pth') else shutil.copy2)(source, target)


@pytest.fixture(scope='module', autouse=True)
def quick():
    """What takes longer than the commands themselves.

    Threads wait for each other where maps are so small; mmengine lays configurations out anew for each log, and looks
    for garbage with each data set.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.config.FormatCode', lambda text, **_: (text, True), raising=False)
        yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def trained(levir_like, tmp_path_factory):
    """Work dir of two iterations."""
    folder = tmp_path_factory.mktemp('trained')
    (folder / 'data').mkdir()
    (folder / 'data' / 'LEVIR-CD').symlink_to(levir_like)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv('LOCAL_RANK', '0')
        train.main([CONFIG, '--work-dir', 'first', '--cfg-options', *SCHEDULE,
                    'model.backbone.init_cfg=None', 'train_cfg.max_iters=2'])
    # a run that goes on with a copy removes the best checkpoint at the place that it knows
    return shutil.copytree(folder / 'first', folder / 'copy', copy_function=_link)


@pytest.fixture(scope='module')
def packed(levir_like, tmp_path_factory):
    """The data set, packed."""
    folder = tmp_path_factory.mktemp('packed') / 'pairs'
    pack(levir_like, folder)
    return folder


@pytest.fixture
def workspace(request, tmp_path, monkeypatch):
    """A function that gives the folder for a command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    return lambda command: Workspace(tmp_path, config_of(command), request.getfixturevalue)


class RowHere:
    """The benchmark's row in this process; processes are a matter of tests/analysis/test_benchmark.py."""

    def __init__(self, entry, variant):
        self.name, self.variant = entry.name, variant
        self.subject = Subject(entry.config, variant, entry.data_root)

    def ask(self, message, *arguments):
        return getattr(self.subject, message)(*arguments)

    def close(self):
        pass


@contextlib.contextmanager
def run_here(arguments, stdout, **_):
    """What ``compare`` starts in a process, in this one: tests/analysis/test_comparison.py has processes."""
    name, words = tool_of(arguments)
    with contextlib.redirect_stdout(stdout):
        importlib.import_module(f'ifn_plugin.tools.{name}').main(words)
    yield types.SimpleNamespace(wait=lambda timeout: 0)


def small(name, words, monkeypatch):
    """The arguments of a command, made so that it takes seconds."""
    if name == 'train':
        iterations = 3 if '--resume' in words else 2
        words = [word for word in words if not word.startswith('train_cfg.max_iters=')]
        hooks = [f'default_hooks.{setting}' for setting in WITHOUT_CHECKPOINTS]
        # without weights, unless the command names some
        weights = [] if any('.init_cfg.checkpoint=' in word for word in words) else ['model.backbone.init_cfg=None']
        return with_settings(words, [*SCHEDULE, *weights, *hooks, f'train_cfg.max_iters={iterations}'])
    if name == 'test':
        return with_settings(words, DATA)
    if name == 'demo':
        monkeypatch.setattr(demonstration, 'COUNTS', dict(train=2, val=1, test=1))
        monkeypatch.setattr(demonstration, 'write_dataset', partial(write_dataset, size=64))
        return [*words, '--max-iters', '2']
    if name == 'compare':
        monkeypatch.setattr('ifn_plugin.analysis.comparison.runs.subprocess', types.SimpleNamespace(
            Popen=run_here, STDOUT=subprocess.STDOUT, TimeoutExpired=subprocess.TimeoutExpired))
        words = [*without(without(words, '--seeds'), '--cost'), '--seeds', '0', '--cost', '64x1', '--from-scratch']
        light = ['train_cfg.max_iters=2', 'default_hooks.checkpoint.save_optimizer=False']
        words = with_settings(words, [*SCHEDULE, *light])
    if name == 'benchmark':
        words = [*without(without(words, '--rounds'), '--variants'), '--rounds', '1', '--variants', 'float32']
        for option in ('--train', '--inference'):
            if option in words:
                words = [*without(words, option), option, '64x1']
        # otherwise as many samples as fit into a second
        monkeypatch.setattr('ifn_plugin.analysis.benchmark.subject.random',
                            types.SimpleNamespace(choices=lambda items, k: items[:1]))
    if name == 'gpu_check':  # tests/analysis/test_gpu_check.py runs its parts
        return [*words, '--minutes', '0.01']
    if name in ('compare', 'benchmark'):
        monkeypatch.setattr('ifn_plugin.analysis.benchmark.runner.Row', RowHere)
    return words


def prepare(name, documented, space):
    """Check the arguments as they are documented, and make what they take for granted.

    Returns:
        The arguments as words, what the command makes of them, and the files that it will write.
    """
    module = importlib.import_module(f'ifn_plugin.tools.{name}')
    words = [space.real(word) for word in documented]
    args = module.parse_args(words)
    written = {str(value) for key, value in vars(args).items() if key in WRITTEN and value is not None}
    if getattr(args, 'resume', False):
        written.discard(args.work_dir)
    for word, replaced in zip(documented, words):
        if replaced not in written:
            space.give(word, name, max(getattr(args, 'bands', None) or [3]))
    give_data(space)
    return words, args, written


def run_tool(name, documented, space, monkeypatch):
    """Run a command of the plugin's in this process."""
    for extra, packages in (NEEDED[word] for word in documented if word in NEEDED):
        for package in packages:
            pytest.importorskip(package, reason=f'{package} is not installed: pip install ifn_plugin[{extra}]')
    if name == 'export' and torch.__version__ < torch.torch_version.TorchVersion('2.9'):
        pytest.skip('exporting is tested from torch 2.9 on')
    words, args, written = prepare(name, documented, space)
    importlib.import_module(f'ifn_plugin.tools.{name}').main(small(name, words, monkeypatch))
    missing = [path for path in written if not Path(path).exists()]
    assert not missing, f'{missing} not written'
    check_results(name, args)


def give_data(space):
    """What the configurations read where no argument says otherwise."""
    if space.config == CONFIG:
        space.give('data/LEVIR-CD')
    else:
        cfg = Config.fromfile(REPOSITORY / 'configs' / 'ifn' / space.config)
        lay_out(cfg, space.levir_like, space.folder / cfg.train_dataloader.dataset.data_root)


def run_program(words, folder):
    """Run a command in a process of its own, as if the environment of this Python had been activated."""
    search = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    if shutil.which(words[0], path=search) is None and words[0] in OPTIONAL:
        pytest.skip(f'{words[0]}: {OPTIONAL[words[0]]}')
    process = subprocess.run(
        words, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
        env=dict(os.environ, PATH=search, PYTHONPATH=str(REPOSITORY), PYTHONWARNINGS='ignore', OMP_NUM_THREADS='1'))
    assert process.returncode == 0, process.stdout
    return process.stdout


def run_documented(words, space):
    """Run another program's command as it is documented."""
    for word in words[:-1] if words[0] == 'ln' else words:
        space.give(word)
    run_program([space.real(word) for word in words], space.folder)


def run_torchrun(name, documented, space, monkeypatch):
    """Run a command of the plugin's in two processes."""
    words = small(name, prepare(name, documented, space)[0], monkeypatch)
    run_program(['torchrun', '--standalone', '--nproc-per-node', '2', '-m', f'ifn_plugin.tools.{name}', *words],
                space.folder)


def is_shell(words):
    return words[0] in SHELL or words[:2] == ['python', '-c']


def check_results(name, args):
    """What a reader would miss at once."""
    if name == 'train':
        work_dir = Path(args.work_dir or Path('work_dirs') / Path(args.config).stem)
        iterations = [entry['iter'] for entry in read_log(work_dir) if 'loss' in entry]
        assert iterations == ([1, 2, 3] if args.resume else [1, 2])
    elif name == 'demo':
        assert any((args.work_dir / 'panels').iterdir())
        assert (args.work_dir / 'data' / 'train').is_dir() and (args.work_dir / 'iter_2.pth').is_file()
    elif name == 'predict':
        assert all(any((args.out / kind).iterdir()) for kind in args.output)
    elif name == 'report':
        assert 'No pictures' not in args.out.read_text(encoding='utf-8')


def run_command(command, space, monkeypatch):
    words = split(command)
    name, arguments = tool_of(words) or (None, [])
    if is_shell(words):
        for text in command.before:
            before = split(Command(command.path, command.line, text, ()))
            if is_shell(before):
                # one that fails does so in its own test
                with contextlib.suppress(AssertionError, pytest.skip.Exception):
                    run_documented(before, space)
        run_documented(words, space)
    elif words[0] == 'torchrun' and name:
        parse_torchrun([space.real(word) for word in words[1:]])
        if command == DISTRIBUTED:
            run_torchrun(name, arguments, space, monkeypatch)
        elif DONE[in_one_process(command)] == command:
            run_tool(name, without(arguments, '--launcher'), space, monkeypatch)
        else:
            prepare(name, arguments, space)
    elif name:
        run_tool(name, arguments, space, monkeypatch)
    else:
        pytest.fail('neither a kind of command that is run here nor one that NOT_RUN names')


@pytest.mark.slow
@pytest.mark.parametrize('command, places', RUN, ids=[command.place for command, _ in RUN])
def test_documented_commands_run(command, places, workspace, monkeypatch):
    try:
        run_command(command, workspace(command), monkeypatch)
    except (Exception, SystemExit, pytest.fail.Exception) as error:
        raise AssertionError(f'{places}: {command.text}\n{type(error).__name__}: {error}') from error


@pytest.mark.parametrize('command, pattern', SKIPPED, ids=[command.place for command, _ in SKIPPED])
def test_command_that_is_not_run(command, pattern, workspace):
    """What can be said of it nevertheless."""
    words = split(command)
    space = workspace(command)
    if words[0] == 'torchrun':
        parse_torchrun([space.real(word) for word in words[1:]])
    if tool_of(words) and '--completion' not in words:
        name, arguments = tool_of(words)
        importlib.import_module(f'ifn_plugin.tools.{name}').parse_args([space.real(word) for word in arguments])
    if words[0] == 'make':
        targets = re.findall(r'^(\w+):', (REPOSITORY / 'Makefile').read_text(), re.MULTILINE)
        assert words[1] in targets, f'{command.place}: the Makefile has no {words[1]}'
    for extra in re.findall(r'\.\[([\w,]+)\]', command.text):
        for name in extra.split(','):
            assert f"'{name}': [" in (REPOSITORY / 'setup.py').read_text(), f'{command.place}: no extra {name}'
    tests = [word for word in words if word.startswith('tests/')]
    for path in tests:
        text = (REPOSITORY / path).read_text()
        for variable in re.findall(r'\b(IFN_PLUGIN_\w+)=', command.text):
            assert f"'{variable}'" in text, f'{command.place}: {path} does not know {variable}'


@pytest.mark.parametrize('pattern', NOT_RUN)
def test_every_exception_is_needed(pattern):
    assert any(found == pattern for _, found in SKIPPED), f'NOT_RUN: no command is like {pattern}'


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_fences_name_their_language(path):
    assert [block.place for block in blocks(path) if block.kind not in ('shell', 'python', 'files', *OTHERS)] == []


PYTHON = list({block.meaning(): block for path in reversed(DOCUMENTS)
               for block in reversed(python_blocks(path))}.values())[::-1]


def is_configuration(block):
    """Whether a block has assignments only."""
    try:
        return all(isinstance(statement, ast.Assign) for statement in ast.parse(block.text).body)
    except SyntaxError:
        return False


def names_of(block):
    """What a configuration sets."""
    return {node.id for node in ast.walk(ast.parse(block.text))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def write_own(block, folder):
    """Write a configuration beside the plugin's, for mmsegmentation; none that needs what open-cd has."""
    for configs in (REPOSITORY / 'configs').iterdir():
        (folder / 'configs' / configs.name).parent.mkdir(exist_ok=True)
        (folder / 'configs' / configs.name).symlink_to(configs)
    text = block.text
    if '_base_' not in names_of(block):
        text = f"_base_ = '../ifn/{CONFIG}'\n{text}"
    elif "'../common/" in text:
        return None
    path = folder / 'configs' / 'own' / 'own.py'
    path.parent.mkdir()
    path.write_text(text, encoding='utf-8')
    flagship = r"(?<=[/'])ifn_256x256_40k_levircd\.py(?=')"
    if re.search(flagship, text):
        Config.fromfile(path, import_custom_modules=False)
        path.write_text(re.sub(flagship, CONFIG, text), encoding='utf-8')
    return path


@pytest.mark.parametrize('block', PYTHON, ids=[block.place for block in PYTHON])
def test_documented_python_runs(block, tmp_path):
    """It compiles; and a configuration loads beside the plugin's, and its model builds."""
    compile(block.text, block.place, 'exec')
    path = write_own(block, tmp_path) if is_configuration(block) else None
    if path is None:
        return
    cfg = Config.fromfile(path)
    assert names_of(block) - {'_base_'} <= cfg.keys()
    if 'model' in names_of(block):
        # mmseg's transformers read their rates of dropout from a tensor
        device = 'cpu' if 'Transformer' in block.text else 'meta'
        with DefaultScope.overwrite_default_scope('mmseg'), torch.device(device):
            MODELS.build(cfg.model)


AUGMENTED = [block for block in PYTHON if is_configuration(block) and "'../common/" not in block.text
             and re.search('model|pipeline|dataloader|evaluator', ' '.join(names_of(block)))]


@pytest.mark.slow
@pytest.mark.parametrize('block', AUGMENTED, ids=[block.place for block in AUGMENTED])
def test_configuration_under_tta(block, levir_like, tmp_path):
    """The merged map is that of the merged probabilities; open-cd's configurations are tested in tests/opencd."""
    path = write_own(block, tmp_path)
    if 'mmpretrain' in block.text:
        pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')
    cfg = Config.fromfile(path)
    lay_out(cfg, levir_like, tmp_path / 'data')
    cfg.model.backbone.get('backbone', cfg.model.backbone).init_cfg = None
    cfg.custom_hooks = []  # which may take a minute to compile
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    with DefaultScope.overwrite_default_scope('mmseg'):
        torch.save(MODELS.build(cfg.model).state_dict(), tmp_path / 'weights.pth')
    cfg.dump(tmp_path / 'own.py')
    test.main([str(tmp_path / 'own.py'), str(tmp_path / 'weights.pth'), '--tta', '--work-dir', str(tmp_path / 'run')])
    record, = (tmp_path / 'run').glob('*/evaluation_test.json')
    for protocol in json.loads(record.read_text())['protocols'].values():
        assert 0 < protocol['metrics']['AP'] <= 100


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_links_have_targets(path):
    broken = []
    for line, address in links(path):
        if re.match(r'[a-z]+:', address):
            continue
        name, _, anchor = address.partition('#')
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f'{path.name}:{line}: {address}')
    assert not broken, broken


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_tests_exist(path):
    named = re.findall(r'\b(tests/[\w/]+\.py)(?:::(\w+))?', path.read_text(encoding='utf-8'))
    missing = [(file, name) for file, name in named if not (REPOSITORY / file).is_file()
               or (name and f'def {name}(' not in (REPOSITORY / file).read_text(encoding='utf-8'))]
    assert not missing, missing


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_configurations_exist(path):
    files = [file.relative_to(REPOSITORY).as_posix() for file in (REPOSITORY / 'configs').rglob('*.py')]
    there = {*files, *(Path(file).name for file in files)}
    assert configurations(path) <= there, f'{path.name}: {sorted(configurations(path) - there)}'


@pytest.mark.parametrize('chinese, english', TRANSLATED.items(), ids=[path.name for path in TRANSLATED])
def test_translation_has_the_same_commands_code_and_headings(chinese, english):
    """Comments in code may be translated, and so is what stands around it."""
    assert [command.text for command in commands(chinese)] == [command.text for command in commands(english)]
    code = [[block.meaning() for block in python_blocks(path)] for path in (chinese, english)]
    assert code[0] == code[1]
    assert [level for level, _ in headings(chinese)] == [level for level, _ in headings(english)]


def test_pages_that_a_user_needs_first_are_translated():
    assert {path.name for path in TRANSLATED} == {'README_zh-CN.md', 'getting-started.md', 'own-data.md', 'faq.md'}


def test_readme_is_a_front_page():
    for path in DOCUMENTS[:2]:
        assert len(path.read_text(encoding='utf-8').splitlines()) < 150
