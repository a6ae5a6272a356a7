"""Tables for Markdown and HTML."""

from dataclasses import dataclass, field

from prettytable import PrettyTable, TableStyle


@dataclass
class Table:
    """A table.

    Attributes:
        title: Heading above the table; empty for none.
        header: Column titles, all different.
        rows: Cells of each row.
        best: Row and column of the cells to mark as the best.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]] = field(default_factory=set)

    def markdown(self) -> str:
        """Return the heading and the table in Markdown."""
        table = PrettyTable([_escape(cell) for cell in self.header])
        table.set_style(TableStyle.MARKDOWN)
        table.align = 'l'
        table.add_rows([[self._cell(row, column) for column in range(len(self.header))]
                        for row in range(len(self.rows))])
        return (f'### {self.title}\n\n' if self.title else '') + table.get_string()

    def _cell(self, row: int, column: int) -> str:
        text = _escape(self.rows[row][column])
        return f'**{text}**' if (row, column) in self.best else text


def _escape(text: str) -> str:
    return text.replace('|', r'\|')
