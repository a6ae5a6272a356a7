"""Pack a data set for fast reading of crops: ``python -m ifn_plugin.tools.pack_dataset SRC DST``.

Every image becomes an uncompressed ``.npy`` file in the same layout, which training maps into memory: nothing is
decoded, and pixels outside of a crop are not read. Images are checked while they are packed, and labels become 0, 1 and
-1 (ignored). Each split gets a file ``SHA256SUMS`` in the format of the command ``sha256sum``.
"""

import argparse
from pathlib import Path

from ifn_plugin.datasets.packing import FOLDERS, check, pack


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Pack a data set for fast reading, or check a packed one')
    parser.add_argument('src', type=Path, help='one split, or a folder with several, '
                        "in LEVIR-CD's layout or that of --folders and --suffixes")
    parser.add_argument('dst', type=Path, nargs='?', help='folder to write; an interrupted run is continued')
    parser.add_argument('--check', action='store_true', help='compare the packed files below SRC with their checksums')
    parser.add_argument('--folders', nargs=3, default=FOLDERS, metavar=('DATE1', 'DATE2', 'LABEL'),
                        help='names of the three folders in SRC; default: A B label')
    parser.add_argument('--suffixes', nargs=3, default=(None, ) * 3, metavar=('DATE1', 'DATE2', 'LABEL'),
                        help='endings of the file names in them; default: those of PNG, JPEG, TIFF and BMP')
    parser.add_argument('--changed', type=int, choices=(1, 255), help="the labels' value for changed; default: either")
    parser.add_argument('--threshold', type=int,
                        help='instead, for labels in a lossy format: values above this are changed')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not args.check and args.dst is None:
        raise SystemExit('DST is missing. Fix: name the folder to write, pack_dataset SRC DST.')
    try:
        if not args.check:
            pack(args.src, args.dst, args.changed, args.threshold, args.folders, args.suffixes)
            return
        faults = check(args.src)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    if faults:
        raise SystemExit('\n'.join([*faults, 'Fix: remove these files and pack again.']))
    print('All files match their checksums.')


if __name__ == '__main__':
    main()
