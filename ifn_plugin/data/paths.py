"""The files of a pair."""


class PairPaths(list[str]):
    """Both files of a pair, date 1's first; to what names its results by one file, date 2's.

    mmseg's metrics with ``output_dir`` do so.
    """

    def __fspath__(self) -> str:
        return self[-1]
