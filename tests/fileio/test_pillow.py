from PIL import Image

from ifn_plugin.fileio import any_size


def test_threads_share_the_limit():
    """Whichever context ends first, there is no limit inside the others, and the former one after the last."""
    former = Image.MAX_IMAGE_PIXELS
    contexts = any_size(), any_size()
    for context in contexts:
        context.__enter__()
    contexts[0].__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS is None
    contexts[1].__exit__(None, None, None)
    assert former == Image.MAX_IMAGE_PIXELS
