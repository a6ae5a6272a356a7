"""What the documents hold: shell commands, Python, headings, links, and the names of configurations."""

import ast
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / 'README.md'
CHINESE = REPOSITORY / 'README_zh-CN.md'
DOCUMENTS = [path for path in (README, CHINESE, *sorted((REPOSITORY / 'docs').rglob('*.md'))) if path.is_file()]
# pages in English by those in Chinese
TRANSLATED = {CHINESE: README} | {
    path: path.parents[1] / path.name for path in DOCUMENTS if path.parent.name == 'zh-CN'}
SHELLS = ('bash', 'sh', 'shell')
# blocks that are neither commands nor Python
OTHERS = ('text', 'diff', 'bibtex')


@dataclass(frozen=True)
class Block:
    """A block of code; ``kind`` is ``shell``, ``python``, ``files`` or the language that a fence names."""

    path: Path
    line: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        return f'{self.path.relative_to(REPOSITORY)}:{self.line}'

    def meaning(self) -> str:
        """What is the same in two blocks of Python that differ in comments and layout."""
        try:
            return ast.dump(ast.parse(self.text))
        except SyntaxError:
            return self.text


@dataclass(frozen=True)
class Command:
    """A shell command on one line, without comments; ``before`` are those that precede it in its block."""

    path: Path
    line: int
    text: str
    before: tuple[str, ...]

    @property
    def place(self) -> str:
        return f'{self.path.relative_to(REPOSITORY)}:{self.line}'


@cache
def parse(path: Path) -> list[Token]:
    """The document as CommonMark with tables, so that only what is rendered as code counts as code."""
    return MarkdownIt('commonmark').enable('table').parse(path.read_text(encoding='utf-8'))


def blocks(path: Path) -> Iterator[Block]:
    """All blocks of code of a document, indented or fenced, in order."""
    for token in parse(path):
        if token.type == 'code_block':
            yield Block(path, token.map[0] + 1, _kind(token.content), token.content)
        elif token.type == 'fence':
            language = (token.info.split() or [''])[0]
            kind = 'shell' if language in SHELLS else language or _kind(token.content)
            yield Block(path, token.map[0] + 2, kind, token.content)


def _kind(text: str) -> str:
    """What a block is that does not say so: a list of paths or Python, and everything else has to be commands."""
    lines = [line.strip() for line in text.split('\n') if line.strip()]
    if all(re.fullmatch(r'[^\s/]+/\S+', line) and not os.access(REPOSITORY / line, os.X_OK) for line in lines):
        return 'files'
    try:
        statements = ast.parse(text).body
    except SyntaxError:
        return 'shell'
    # some commands, such as ``ls`` and ``ls -l``, would be expressions
    return 'shell' if any(isinstance(statement, ast.Expr) for statement in statements) else 'python'


def python_blocks(path: Path) -> list[Block]:
    return [block for block in blocks(path) if block.kind == 'python']


def commands(path: Path) -> list[Command]:
    """All shell commands of a document, in order."""
    found = []
    for block in blocks(path):
        if block.kind != 'shell':
            continue
        before: list[str] = []
        begun, start = '', block.line
        for number, line in enumerate(block.text.split('\n'), block.line):
            start = start if begun else number
            if line.endswith('\\'):
                begun += line[:-1]
                continue
            try:
                # not as POSIX would have it, which drops the quotation marks
                text = ' '.join(shlex.split(begun + line, comments=True, posix=False))
            except ValueError:  # some quotation mark is not closed
                text = ' '.join((begun + line).split())
            begun = ''
            if text:
                found.append(Command(path, start, text, tuple(before)))
                before.append(text)
    return found


def _text(token: Token) -> str:
    return ''.join(child.content for child in token.children or [] if child.type in ('text', 'code_inline'))


def headings(path: Path) -> list[tuple[int, str]]:
    """Level and text of each heading."""
    tokens = parse(path)
    return [(int(token.tag[1:]), _text(tokens[number + 1])) for number, token in enumerate(tokens)
            if token.type == 'heading_open']


def anchors(path: Path) -> set[str]:
    """What a link may name behind ``#``, by GitHub's rule."""
    names, seen = set(), Counter()
    for _, text in headings(path):
        name = re.sub(r'[^\w\- ]', '', text.lower()).replace(' ', '-')
        names.add(f'{name}-{seen[name]}' if seen[name] else name)
        seen[name] += 1
    return names


def links(path: Path) -> Iterator[tuple[int, str]]:
    """Line and address of each link and picture; the line is that where the paragraph begins."""
    for token in parse(path):
        for child in token.children or []:
            address = child.attrGet('href') or child.attrGet('src')
            if address:
                yield (token.map or [0])[0] + 1, unquote(str(address))


def configurations(path: Path) -> set[str]:
    """The configurations that a document names, as files in ``configs``, by name alone or with the folder.

    In tables, names lack ``ifn_`` and ``.py``; and ``r50_…``
    ends as its predecessor does.
    """
    text = path.read_text(encoding='utf-8')
    names = set(re.findall(r'\bifn_[\w+-]+\.py\b', text))
    # the reader's own, which the documents tell how to write, are in configs/own; others are open-cd's
    names |= set(re.findall(r'\b(?<!OPEN-CD/)configs/(?!own/)[\w+/-]+\.py\b', text))
    cell = False
    for token in parse(path):
        cell = token.type in ('td_open', 'th_open') or (cell and token.type == 'inline')
        last = ''
        for child in token.children or [] if cell else []:
            if child.type != 'code_inline':
                continue
            name = child.content
            if name.endswith('_…') and last:
                name = name[:-1] + last.partition('_')[2]
            if re.fullmatch(r'([\w-]+_)?\d+x\d+_\d+k_[\w-]+', name):
                names.add(f'configs/ifn/ifn_{name}.py')
                last = name
    return names
