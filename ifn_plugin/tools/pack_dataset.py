"""Pack a data set for fast reading of crops: ``python -m ifn_plugin.tools.pack_dataset CONFIG|SRC DST``.

A configuration says which splits its data sets have, with which folders, suffixes, lists of pairs and label values.

Every image becomes an uncompressed ``.npy`` file in the same layout, which training maps into memory: nothing is
decoded, and pixels outside of a crop are not read. Images are checked while they are packed, and labels become 0, 1 and
-1 (ignored). Each split gets a file ``SHA256SUMS`` in the format of the command ``sha256sum``.
"""

import argparse
from pathlib import Path

from mmengine.config import Config

from ifn_plugin.datasets.packing import FOLDERS, check, pack
from ifn_plugin.tools._common import add_options_argument, output_folder, read_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Pack a data set for fast reading, or check a packed one')
    parser.add_argument('src', help="one split or a folder with several, in LEVIR-CD's layout or that of --folders and "
                        '--suffixes; or a configuration')
    parser.add_argument('dst', type=output_folder, nargs='?', help='folder to write; an interrupted run is continued')
    parser.add_argument('--check', action='store_true', help='compare the packed files below SRC with their checksums')
    parser.add_argument('--folders', nargs=3, metavar=('DATE1', 'DATE2', 'LABEL'),
                        help='names of the three folders in SRC; default: A B label')
    parser.add_argument('--suffixes', nargs=3, metavar=('DATE1', 'DATE2', 'LABEL'),
                        help='endings of the file names in them; default: those of PNG, JPEG, TIFF, BMP and WebP')
    parser.add_argument('--changed', type=int, choices=(1, 255), help="the labels' value for changed; default: either")
    parser.add_argument('--threshold', type=int,
                        help='instead, for labels in a lossy format: values above this are changed')
    add_options_argument(parser, "a configuration's settings")
    args = parser.parse_args(argv)
    if not args.check and args.dst is None:
        raise SystemExit('DST is missing. Fix: name the folder to write, pack_dataset SRC DST.')
    return args


def find_source(args: argparse.Namespace) -> Path | Config:
    """Return the folder, or the configuration that takes its place.

    Raises:
        SystemExit: If there is neither, or an argument would have no effect.
    """
    if args.check or Path(args.src).is_dir():
        if args.cfg_options:
            raise SystemExit(f'--cfg-options would have no effect, since {args.src} is a folder.')
        return Path(args.src)
    cfg = read_config(args.src, args.cfg_options)
    given = [f'--{name}' for name in ('folders', 'suffixes', 'changed', 'threshold') if getattr(args, name) is not None]
    if given:
        raise SystemExit(f'{" ".join(given)} would have no effect, since {args.src} is a configuration. Fix: set it '
                         "there, in the data sets' data_prefix and suffixes and in LoadChangeLabel.")
    return cfg


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    source = find_source(args)
    try:
        if not isinstance(source, Path) or not args.check:
            pack(source, args.dst, args.changed, args.threshold, args.folders or FOLDERS, args.suffixes or (None, ) * 3)
            return
        faults = check(source)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    if faults:
        raise SystemExit('\n'.join([*faults, 'Fix: remove these files and pack again.']))
    print('All files match their checksums.')


if __name__ == '__main__':
    main()
