from xml.etree import ElementTree

from ifn_plugin.visualization import Chart


def test_any_name_can_be_read_in_charts(recwarn):
    chart = Chart('变化 $', 'x', 'y')
    chart.line('_变化', 0, [0, 1], [0, 1])
    chart.line('b_c', 1, [0, 1], [1, float('nan')])
    texts = [''.join(element.itertext()).strip() for element in ElementTree.fromstring(chart.svg()).iter()
             if element.tag.endswith('text')]
    assert {'变化 $', '\N{ZERO WIDTH SPACE}_变化', 'b_c'} <= set(texts)
    assert not recwarn
