"""Tables for Markdown and HTML."""

from dataclasses import dataclass

from prettytable import PrettyTable, TableStyle


@dataclass
class Table:
    """A table.

    Attributes:
        title: Heading above the table; empty for none.
        header: Column titles, all different.
        rows: Cells of each row.
    """

    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Return the heading and the table in Markdown."""
        table = PrettyTable(self.header)
        table.set_style(TableStyle.MARKDOWN)
        table.align = 'l'
        table.add_rows([[cell.replace('|', r'\|') for cell in row] for row in self.rows])
        return (f'### {self.title}\n\n' if self.title else '') + table.get_string()
