"""Convert an IFN checkpoint: ``python -m ifn_plugin.tools.convert_checkpoint SRC DST``.

Weights of other projects' IFN get the plugin's names, or with ``--to opencd`` the plugin's weights get open-cd's names.
"""

import argparse

from ifn_plugin.apis.conversion import convert_checkpoint
from ifn_plugin.tools._common import output_file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert the weights of an IFN')
    parser.add_argument('src', help="checkpoint of the official DSIFN, open-cd's IFN, CDLab's IFN or ifn_plugin")
    parser.add_argument('dst', type=output_file, help='file to write')
    parser.add_argument('--to', choices=['ifn_plugin', 'opencd'], default='ifn_plugin',
                        help='project whose names to write')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        print(convert_checkpoint(args.src, args.dst, args.to))
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error


if __name__ == '__main__':
    main()
