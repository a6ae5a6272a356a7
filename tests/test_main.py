"""``python -m ifn_plugin``: the commands and configurations are listed, and suggested where they are misspelt."""

import subprocess
import sys
from pathlib import Path

import pytest

from ifn_plugin import __main__ as command_line
from ifn_plugin import __version__, list_configs
from ifn_plugin.__main__ import list_commands, main

TOOLS = Path(__file__).parents[1] / 'ifn_plugin' / 'tools'


def test_every_command_and_configuration_is_listed_with_a_summary(capsys):
    main([])
    listing = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    commands = {path.stem for path in TOOLS.glob('[!_]*.py')}
    assert commands == list_commands().keys() and {'train', 'predict'} < commands
    assert len(list_configs()) > 20
    for name in (*commands, *(path.name for path in list_configs())):
        assert listing[name], name
    assert listing['train'] == ['Train', 'a', 'change', 'detector']


@pytest.mark.parametrize('name', sorted(path.stem for path in TOOLS.glob('[!_]*.py')))
def test_each_command_is_that_of_its_module(name, monkeypatch, capsys):
    """The same function, the same arguments, and a usage that names it."""
    seen = []
    monkeypatch.setattr(f'ifn_plugin.tools.{name}.main', lambda: seen.append(sys.argv))
    main([name, '--resume', 'a b', '--', '-x'])
    assert seen == [[f'ifn-plugin {name}', '--resume', 'a b', '--', '-x']]
    monkeypatch.undo()
    with pytest.raises(SystemExit):
        main([name, '--help'])
    assert capsys.readouterr().out.startswith(f'usage: ifn-plugin {name} ')


def test_only_the_chosen_command_is_imported(python):
    code = ("import sys; from ifn_plugin.__main__ import main; sys.argv = ['', 'pack_dataset', '--help']\n"
            "try: main()\nexcept SystemExit: print(sorted(m for m in sys.modules if m.startswith('ifn_plugin.tools.')\n"
            "                                              and '._' not in m))")
    assert python('-c', code).splitlines()[-1] == "['ifn_plugin.tools.pack_dataset']"


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(['--version'])
    assert capsys.readouterr().out == f'{__version__}\n'


@pytest.mark.parametrize('argv, message', [
    (['trian'], 'trian: no such command. Did you mean train? The commands: benchmark, check_dataset'),
    (['check-dataset', 'x'], 'Did you mean check_dataset?'),
    (['fly'], 'fly: no such command. The commands:'),
    (['train', 'ifn_256x256_40k_levirdc.py'], 'no such file, and .* Did you mean ifn_256x256_40k_levircd.py'),
    (['test', 'configs/ifn/ifn_r18_256x256_40k_levirdc.py', str(TOOLS)], 'no such checkpoint'),
    (['predict', 'r18_256x256_40k_levircd', 'w', 'a', 'b', 'c'], 'Did you mean ifn_r18_256x256_40k_levircd.py'),
    (['check_dataset', 'no_such'], 'no such file, and .* Fix: python -m ifn_plugin lists them'),
])
def test_misspelt_names_are_suggested(argv, message):
    with pytest.raises(SystemExit, match=message.replace('?', '[?]')):
        main(argv)


def test_own_configuration_beside_the_misspelt_one_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('own').mkdir()
    Path('own/harbour.py').touch()
    with pytest.raises(SystemExit, match=r'Did you mean own.harbour\.py\?$'):
        main(['train', 'own/habour.py'])


def test_bash_completes_commands_configurations_and_files(tmp_path, monkeypatch):
    pytest.importorskip('shtab', reason='shtab is not installed')
    main(['--completion', str(tmp_path / 'completions' / 'ifn-plugin')])
    (tmp_path / 'ifn_own.py').touch()
    drive = r"""
source ./completions/ifn-plugin
complete_last() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _shtab_ifn_plugin ifn-plugin "${COMP_WORDS[$COMP_CWORD]}"
    echo "${COMPREPLY[@]}"
}
complete_last ifn-plugin tr
complete_last ifn-plugin train ifn_
complete_last ifn-plugin test x.py comp
"""
    lines = subprocess.run(['bash', '-c', drive], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    commands, configs, files = lines.splitlines()
    assert commands == 'train'
    assert set(configs.split()) == {'ifn_own.py', *(path.name for path in list_configs() if path.name[:4] == 'ifn_')}
    assert files == 'completions'


def test_completion_without_its_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'shtab', None)
    with pytest.raises(SystemExit, match=r'needs shtab\. Fix: pip install "ifn_plugin\[completion\]"'):
        main(['--completion', str(tmp_path / 'completion')])


def test_summaries_of_configurations_fit_on_a_line():
    assert all(0 < len(command_line._summarize(path)) <= 76 for path in list_configs())
