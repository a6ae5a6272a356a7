from ifn_plugin.analysis.tables import Table


def test_markdown_table_is_aligned_and_escapes_pipes():
    table = Table('Scores', ['model', 'F1'], [['one', '8.00'], ['a|b', '']])
    assert table.markdown() == ('### Scores\n\n'
                                '| model | F1   |\n'
                                '| :-----| :----|\n'
                                '| one   | 8.00 |\n'
                                r'| a\|b  |      |')
    assert Table('', ['a'], []).markdown() == '| a |\n| :-|'
