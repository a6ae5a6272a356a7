"""Train and test models under one protocol: ``python -m ifn_plugin.tools.compare PROTOCOL CONFIG [CONFIG ...]``.

Only the model is taken from each CONFIG, be it the plugin's, open-cd's or mmseg's. Data, schedule, hooks and evaluation
are PROTOCOL's, whose types have to name their scope and whose hooks have to include ``ifn_plugin.EvaluationHook``.
Every model is trained once for each seed, in its own process. Finished runs are kept: an interrupted command continues
where it stopped, and models and seeds can be added later. A failed run does not stop the others. The work dir gets
``comparison.html``, a page with tables and charts, and ``comparison.md``.
"""

import argparse
import math
import re
import sys
import time
from pathlib import Path

from ifn_plugin.analysis.comparison import Comparison, RunError
from ifn_plugin.tools._common import add_options_argument, output_folder, read_config, size_and_batch


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train and test models under one protocol')
    parser.add_argument('protocol', help="configuration of all but the model, or the name of one of the plugin's own")
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help="files, or names of the plugin's own")
    parser.add_argument('--names', nargs='+', metavar='NAME', help="names in the tables; default: the files' names")
    parser.add_argument('--work-dir', type=output_folder, default=Path('work_dirs/comparison'),
                        help='folder for runs and tables; default: work_dirs/comparison')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1], help='seeds of the runs; default: 0 1')
    parser.add_argument(
        '--from-scratch', action='store_true',
        help="load no pretrained weights and freeze nothing, except where a model's code does so by itself")
    parser.add_argument('--cost', type=size_and_batch, metavar='SIZExBATCH',
                        help='measure time and memory too, such as 256x8')
    add_options_argument(parser, "the protocol's settings")
    args = parser.parse_args(argv)
    args.names = args.names or [Path(config).stem for config in args.configs]
    if len(args.names) != len(args.configs):
        parser.error(f'--names needs one name for each of the {len(args.configs)} configurations')
    if len(set(args.names)) != len(args.names):
        parser.error(f'two configurations have the same name in {args.names}: give different ones with --names')
    for name in args.names:
        if not re.fullmatch(r'\w[\w.+-]*', name):
            parser.error(f'--names {name}: a name becomes a folder. Begin with a letter or digit, and use only '
                         'letters, digits and . + - _')
    args.seeds = list(dict.fromkeys(args.seeds))
    return args


class _Progress:
    """Progress of a run, at most one line in 30 seconds."""

    def __init__(self, run: str) -> None:
        self.run, self.last = run, -math.inf

    def write(self, text: str) -> None:
        print(f'{self.run}: {text}', file=sys.stderr, flush=True)

    def __call__(self, progress: str) -> None:
        if time.monotonic() - self.last >= 30:
            self.write(progress)
            self.last = time.monotonic()


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    protocol = read_config(args.protocol, args.cfg_options)
    models = {name: read_config(config) for name, config in zip(args.names, args.configs)}
    try:
        comparison = Comparison(protocol, models, args.seeds, args.work_dir, args.from_scratch)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    for number, (name, seed) in enumerate(comparison.folders, 1):
        say = _Progress(f'{name}, seed {seed} ({number} of {len(comparison.folders)})')
        say.write('begins')
        try:
            metrics = comparison.run(name, seed, say)
        except RunError as error:
            say.write(f'failed: {error}')
        else:
            say.write(', '.join(f'{way or "test"} F1@0.5 {scores.get("F1@0.5", scores["F1"]):.2f}'
                                for way, scores in metrics.items()))
    if args.cost:
        for table in comparison.measure_cost(*args.cost):
            print(f'{table.markdown()}\n', file=sys.stderr, flush=True)
    print(comparison.write())
    if comparison.errors:
        raise SystemExit(f'{sum(map(len, comparison.errors.values()))} runs failed, see above.')


if __name__ == '__main__':
    main()
