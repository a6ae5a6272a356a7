import pytest

from ifn_plugin.utils import abbreviate, readable


@pytest.mark.parametrize('items, text', [([], ''), ([1, 2], '1, 2'), ([1, 2, 3], '1, 2 and 1 more')])
def test_omitted_items_are_counted(items, text):
    assert abbreviate(items, 2) == text


def test_messages_of_several_sentences():
    assert abbreviate(['no a', 'no b', 'no c'], 1, '; ') == 'no a and 2 more'
    assert abbreviate(['no a', 'no b', 'no c'], 2, '; ') == 'no a; no b and 1 more'


def test_names_that_are_not_utf8_become_printable():
    assert readable('变化\udcb3.png') == '变化?.png'
