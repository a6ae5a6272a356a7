from xml.etree import ElementTree

from ifn_plugin.visualization import chart


def test_any_name_can_be_read_in_charts(recwarn):
    picture = chart('变化 $', 'x', 'y', [('_变化', [0, 1], [0, 1], {}), ('b_c', [0, 1], [1, 0], {})])
    texts = [''.join(element.itertext()).strip() for element in ElementTree.fromstring(picture).iter()
             if element.tag.endswith('text')]
    assert {'变化 $', '\N{ZERO WIDTH SPACE}_变化', 'b_c'} <= set(texts)
    assert not recwarn
