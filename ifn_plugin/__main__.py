"""The plugin's commands: ``python -m ifn_plugin COMMAND``, or ``ifn-plugin COMMAND``.

Each is the same as ``python -m ifn_plugin.tools.COMMAND``. Without a command, the commands and the plugin's
configurations are listed.
"""

import argparse
import ast
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby, takewhile
from pathlib import Path

from ifn_plugin.utils.configurations import list_configs
from ifn_plugin.utils.text import suggest
from ifn_plugin.version import __version__


def list_commands() -> dict[str, str]:
    """List the commands with a summary each, which is read without importing them."""
    tools = find_spec('ifn_plugin.tools')
    assert tools is not None and tools.submodule_search_locations
    paths = sorted(Path(tools.submodule_search_locations[0]).glob('[!_]*.py'))
    docs = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or '' for path in paths}
    return {name: doc.partition(': ``')[0] for name, doc in docs.items()}


def _summarize(path: Path) -> str:
    """Return the comment at the top of a configuration on one line."""
    lines = takewhile(lambda line: line.startswith('#'), path.read_text(encoding='utf-8').splitlines())
    return textwrap.shorten(' '.join(line.lstrip('# ') for line in lines), 76, placeholder=' …')


def _rows(items: dict[str, str]) -> Iterator[str]:
    width = max(map(len, items))
    return (f'  {name:{width}}  {summary}' for name, summary in items.items())


def build_parser(commands: dict[str, str]) -> argparse.ArgumentParser:
    """Build the parser of the command's name; what follows the name belongs to the command."""
    listing = ['commands, each with --help:', *_rows(commands)]
    for folder, paths in groupby(list_configs(), lambda path: path.parent):
        listing += ['', f'configurations in {folder}:', *_rows({path.name: _summarize(path) for path in paths})]
    parser = argparse.ArgumentParser(
        'ifn-plugin', description='Train, test and apply IFN, a network for change detection',
        epilog='\n'.join(listing), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument('--completion', type=Path, metavar='FILE', help='write a script that bash sources to complete '
                        'commands, configurations and files; needs ifn_plugin[completion]')
    # not choices=: argparse's error would list all of them without saying which one was meant
    parser.add_argument('command', nargs='?', help='one of the commands below')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='arguments of the command')
    return parser


def write_completion(path: Path, commands: dict[str, str]) -> None:
    """Write a script for bash, which needs no Python while it completes: to import torch at each keystroke takes long.

    Raises:
        SystemExit: If shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise SystemExit('--completion needs shtab. Fix: pip install "ifn_plugin[completion]"') from error
    parser = argparse.ArgumentParser('ifn-plugin')
    parser.add_argument('command', choices=list(commands))
    arguments = parser.add_argument('arguments', nargs=argparse.REMAINDER)
    names = ' '.join(path.name for path in list_configs())
    files_or_names = f'_ifn_plugin_arguments() {{ compgen -f -W "{names}" -- "$1"; }}'
    complete = dict(bash='_ifn_plugin_arguments', preamble=dict(bash=files_or_names))
    # shtab reads this attribute, which argparse's actions do not declare
    arguments.complete = complete  # type: ignore[attr-defined]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(shtab.complete(parser, 'bash'), encoding='utf-8')


def main(argv: list[str] | None = None) -> None:
    commands = list_commands()
    parser = build_parser(commands)
    args = parser.parse_args(argv)
    if args.completion:
        write_completion(args.completion, commands)
    elif args.command is None:
        parser.print_help()
    elif args.command not in commands:
        raise SystemExit(f'{args.command}: no such command.{suggest(args.command, commands)} '
                         f'The commands: {", ".join(commands)}.')
    else:
        sys.argv = [f'ifn-plugin {args.command}', *args.arguments]  # from which argparse takes the name for its usage
        import_module(f'ifn_plugin.tools.{args.command}').main()


if __name__ == '__main__':
    main()
